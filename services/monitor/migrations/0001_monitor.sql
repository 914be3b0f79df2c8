-- What the monitor has heard of declarations, versions, rollouts and tables; what it asked for; where each stream stands.
CREATE TABLE stream (
    stream text PRIMARY KEY,
    revision integer NOT NULL,
    spec jsonb NOT NULL
);

CREATE TABLE model (
    model text PRIMARY KEY,
    stream text NOT NULL,
    revision integer NOT NULL,
    spec jsonb NOT NULL,
    stream_spec jsonb NOT NULL
);

CREATE TABLE release (
    model text NOT NULL,
    version integer NOT NULL,
    run_id text NOT NULL,
    candidate jsonb NOT NULL,
    PRIMARY KEY (model, version)
);

CREATE TABLE rollout (
    model text NOT NULL,
    revision integer NOT NULL,
    phase text NOT NULL,
    champion integer NOT NULL,
    challenger integer,
    event_id text NOT NULL,
    correlation_id text NOT NULL,
    traceparent text,
    PRIMARY KEY (model, revision)
);

-- From this offset on a partition of the model's stream is served.
CREATE TABLE served (
    model text NOT NULL,
    partition integer NOT NULL,
    from_offset bigint NOT NULL,
    PRIMARY KEY (model, partition)
);

CREATE TABLE table_version (
    stream text NOT NULL,
    kind text NOT NULL,
    version bigint NOT NULL,
    offsets jsonb NOT NULL,
    event_id text NOT NULL,
    traceparent text,
    heard bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (stream, kind)
);

-- wanted: decided, and waiting for the tables to hold what was read; requested: said; closed: it came to an end.
CREATE TABLE run (
    run_id text PRIMARY KEY,
    model text NOT NULL,
    stream text NOT NULL,
    number integer NOT NULL,
    state text NOT NULL CHECK (state IN ('wanted', 'requested', 'closed')),
    reason text NOT NULL,
    explanation text NOT NULL,
    cut_time timestamptz NOT NULL,
    data_offsets jsonb NOT NULL,
    labels_offsets jsonb NOT NULL,
    outcome text,
    UNIQUE (model, number)
);
CREATE UNIQUE INDEX one_open_run_per_model ON run (model) WHERE state <> 'closed';

CREATE TABLE training_order (
    event_id text PRIMARY KEY,
    model text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    run_id text
);

CREATE TABLE quarantine (
    stream text NOT NULL,
    span_start timestamptz NOT NULL,
    span_end timestamptz NOT NULL,
    features jsonb NOT NULL,
    PRIMARY KEY (stream, span_start, span_end)
);

-- Everything derived from the data plane: one value, changed with its offsets by compare-and-set on the revision.
CREATE TABLE stream_state (
    stream text PRIMARY KEY,
    revision bigint NOT NULL,
    snapshot bytea NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);
ALTER TABLE stream_state ALTER COLUMN snapshot SET STORAGE EXTERNAL;
