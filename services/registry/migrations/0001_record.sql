-- The system of record: what is declared, what became of it, and who did what.

CREATE TABLE stream (
    name text PRIMARY KEY,
    revision int NOT NULL,
    spec jsonb NOT NULL,
    actor text NOT NULL,
    applied_at timestamptz NOT NULL
);

-- One row a model; its lock is what serialises the numbering of versions and every decision about the model.
CREATE TABLE model (
    name text PRIMARY KEY,
    stream text NOT NULL REFERENCES stream,
    stream_revision int NOT NULL,
    revision int NOT NULL,
    spec jsonb NOT NULL,
    actor text NOT NULL,
    applied_at timestamptz NOT NULL,
    rollout_revision int NOT NULL DEFAULT 0,
    phase text,
    champion int,
    challenger int,
    share double precision NOT NULL DEFAULT 0,
    step int NOT NULL DEFAULT 0,
    frozen boolean NOT NULL DEFAULT false
);

CREATE TABLE revision (
    kind text NOT NULL,
    name text NOT NULL,
    revision int NOT NULL,
    spec jsonb NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    applied_at timestamptz NOT NULL,
    PRIMARY KEY (kind, name, revision)
);

-- Facts of a run come from three services in any order.
CREATE TABLE run (
    run_id text PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    model text NOT NULL,
    state text NOT NULL,
    reason text,
    request text,
    cut_time timestamptz,
    requested_at timestamptz,
    stage text,
    done int,
    total int,
    best_score double precision,
    fit_seconds double precision,
    run_seconds double precision,
    version int,
    failure text,
    explanation text,
    trace_id text,
    finished_at timestamptz,
    seen_at timestamptz NOT NULL
);
CREATE INDEX run_of_model ON run (model, position DESC);

CREATE TABLE version (
    model text NOT NULL REFERENCES model,
    version int NOT NULL,
    run_id text NOT NULL UNIQUE,
    stage text NOT NULL,
    candidate jsonb NOT NULL,
    gates jsonb NOT NULL DEFAULT '[]',
    report jsonb,
    explanation text,
    approval text,
    expires_at timestamptz,
    traceparent text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (model, version)
);
CREATE INDEX version_awaiting ON version (expires_at) WHERE stage = 'awaiting_approval';

CREATE TABLE stage (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    version int NOT NULL,
    stage text NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    FOREIGN KEY (model, version) REFERENCES version
);
CREATE INDEX stage_of_version ON stage (model, version, position);

CREATE TABLE approval (
    model text NOT NULL,
    version int NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (model, version, actor),
    FOREIGN KEY (model, version) REFERENCES version
);

CREATE TABLE rollout (
    model text NOT NULL REFERENCES model,
    first_revision int NOT NULL,
    version int NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    outcome text,
    reason text,
    evidence jsonb,
    withdrawn jsonb,
    trace_id text,
    PRIMARY KEY (model, first_revision)
);

CREATE TABLE rollout_step (
    model text NOT NULL,
    revision int NOT NULL,
    first_revision int NOT NULL,
    phase text NOT NULL,
    champion int NOT NULL,
    challenger int,
    share double precision NOT NULL,
    step int NOT NULL,
    frozen boolean NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (model, revision),
    FOREIGN KEY (model, first_revision) REFERENCES rollout
);

CREATE TABLE rollout_switch (
    model text NOT NULL,
    revision int NOT NULL,
    partition int NOT NULL,
    input_offset bigint NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (model, revision, partition)
);

CREATE TABLE alert (
    alert text PRIMARY KEY,
    position bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    model text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    features jsonb NOT NULL,
    explanation text NOT NULL,
    version int,
    quality_window int,
    raised_at timestamptz NOT NULL,
    resolved_at timestamptz,
    resolution text
);
CREATE INDEX alert_of_model ON alert (model, position DESC);

CREATE TABLE quality_window (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model text NOT NULL,
    version int NOT NULL,
    number int NOT NULL,
    measured jsonb NOT NULL,
    UNIQUE (model, version, number)
);

CREATE TABLE dataset (
    name text PRIMARY KEY,
    stream text NOT NULL,
    kind text NOT NULL,
    version bigint NOT NULL,
    offsets jsonb NOT NULL,
    commits int NOT NULL,
    rows_total bigint NOT NULL,
    rejected_total bigint NOT NULL,
    time_min timestamptz,
    time_max timestamptz,
    committed_at timestamptz NOT NULL
);

CREATE TABLE quarantine (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    features jsonb NOT NULL,
    explanation text NOT NULL
);

-- Append-only, each row sealed with the one before it. `what` is json, not jsonb: its text is what was hashed.
CREATE TABLE audit (
    position bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL,
    what json NOT NULL,
    event_id text NOT NULL,
    previous_hash text NOT NULL,
    hash text NOT NULL UNIQUE
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
