-- Erasures: what was asked, and what the ingestor took and left. Who was erased stands nowhere.
CREATE TABLE erasure (
    receipt text PRIMARY KEY,
    streams text[] NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    ordered_at timestamptz NOT NULL,
    erased_at timestamptz,
    told jsonb
);
