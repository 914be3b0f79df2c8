-- What is heard in no certain order is kept so that order does not matter: a rebuilt record is equal.
CREATE TABLE rollout_evidence (
    model text NOT NULL,
    revision int NOT NULL,
    challenger int NOT NULL,
    measured jsonb NOT NULL,
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (model, revision)
);
CREATE TABLE rollout_scoring (
    model text NOT NULL,
    revision int NOT NULL,
    challenger int NOT NULL,
    scoring jsonb NOT NULL,
    PRIMARY KEY (model, revision)
);
INSERT INTO rollout_evidence
    SELECT model, (evidence ->> 'revision')::int, version, evidence, (evidence ->> 'measured_at')::timestamptz
    FROM rollout WHERE evidence IS NOT NULL;
INSERT INTO rollout_scoring SELECT model, first_revision, version, scoring FROM rollout WHERE scoring IS NOT NULL;
ALTER TABLE rollout DROP COLUMN evidence, DROP COLUMN scoring;
ALTER TABLE run DROP COLUMN seen_at, ALTER position DROP IDENTITY, DROP CONSTRAINT run_position_key;
-- Runs stand in the order of their earliest word, in microseconds.
UPDATE run SET position = (extract(epoch FROM coalesce(requested_at, finished_at, now())) * 1000000)::bigint;
