-- Long work that outlives the event that asked for it: one row a run, taken by lease.
CREATE TABLE job (
    id text PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    request jsonb NOT NULL,
    correlation_id text NOT NULL,
    causation_id text,
    traceparent text,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    reason text,
    losses integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    lease uuid,
    lease_until timestamptz,
    due_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);

CREATE INDEX job_open ON job (due_at) WHERE state IN ('waiting', 'running');
