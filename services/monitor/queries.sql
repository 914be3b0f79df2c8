-- name: keep_stream
-- Remember a stream's declaration; older revisions are ignored.
INSERT INTO stream (stream, revision, spec) VALUES ($1, $2, $3)
ON CONFLICT (stream) DO UPDATE SET revision = excluded.revision, spec = excluded.spec
WHERE stream.revision < excluded.revision

-- name: keep_model
-- Remember a model's declaration; older revisions are ignored.
INSERT INTO model (model, stream, revision, spec, stream_spec) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (model) DO UPDATE
SET stream = excluded.stream, revision = excluded.revision, spec = excluded.spec, stream_spec = excluded.stream_spec
WHERE model.revision < excluded.revision

-- name: keep_release
-- Remember what a version is.
INSERT INTO release (model, version, run_id, candidate) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: keep_rollout
-- Remember who serves under a revision, and the trace that it belongs to.
INSERT INTO rollout (model, revision, phase, champion, challenger, event_id, correlation_id, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING

-- name: keep_served
-- Remember the first offset from which a partition is served.
INSERT INTO served (model, partition, from_offset) VALUES ($1, $2, $3)
ON CONFLICT (model, partition) DO UPDATE SET from_offset = least(served.from_offset, excluded.from_offset)

-- name: keep_table_version
-- Remember the latest version of a table, and the trace that made it.
INSERT INTO table_version (stream, kind, version, offsets, event_id, traceparent) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (stream, kind) DO UPDATE
SET version = excluded.version, offsets = excluded.offsets, event_id = excluded.event_id,
    traceparent = excluded.traceparent, heard = DEFAULT
WHERE table_version.version < excluded.version

-- name: keep_order
-- Remember that a person asked for training.
INSERT INTO training_order (event_id, model, actor, reason) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: close_run
-- A run came to an end.
UPDATE run SET state = 'closed', outcome = $2 WHERE run_id = $1 AND state <> 'closed'

-- name: close_run_of_version
-- The run that made a version came to an end.
UPDATE run SET state = 'closed', outcome = $3
FROM release
WHERE release.model = $1 AND release.version = $2 AND run.run_id = release.run_id AND run.state <> 'closed'

-- name: streams
-- Every declared stream that has a model: none is read before, so that nothing is read past a model.
SELECT stream, revision, spec FROM stream
WHERE EXISTS (SELECT FROM model WHERE model.stream = stream.stream) ORDER BY stream

-- name: models_of_stream
-- The models that live on a stream.
SELECT model, revision, spec FROM model WHERE stream = $1 ORDER BY model

-- name: releases_of_model
-- Versions beyond those already known.
SELECT version, candidate FROM release WHERE model = $1 AND NOT version = ANY($2::integer[]) ORDER BY version

-- name: rollouts_of_model
-- Revisions beyond the newest already known.
SELECT revision, phase, champion, challenger, event_id, correlation_id, traceparent
FROM rollout WHERE model = $1 AND revision > $2 ORDER BY revision

-- name: served_partitions
-- From where each partition is served.
SELECT partition, from_offset FROM served WHERE model = $1

-- name: table_versions
-- The latest data and labels versions of a stream, the one heard last at the end.
SELECT kind, version, offsets, event_id, traceparent FROM table_version
WHERE stream = $1 AND kind IN ('data', 'labels') ORDER BY heard

-- name: runs_of_model
-- The model's newest run, and how many in a row were no better than the champion: none has served since.
SELECT run_id, number, state, reason, explanation, cut_time, data_offsets, labels_offsets, since, outcome,
    (SELECT count(*) FROM run AS missed
     WHERE missed.model = $1 AND (missed.outcome LIKE 'rejected%' OR missed.outcome = 'rolled_back')
     AND missed.number > coalesce((SELECT max(number) FROM run AS served
        WHERE served.model = $1 AND served.outcome IN ('serving', 'promoted')), 0)) AS misses
FROM run WHERE model = $1 ORDER BY number DESC LIMIT 1

-- name: open_orders
-- A person's requests that no run has answered yet.
SELECT event_id, actor, reason FROM training_order WHERE model = $1 AND run_id IS NULL ORDER BY event_id

-- name: answer_orders
-- These requests are answered by a run.
UPDATE training_order SET run_id = $2 WHERE event_id = ANY($1::text[])

-- name: want_run
-- Decide on a run; it is said once the tables hold what was read.
INSERT INTO run
    (run_id, model, stream, number, state, reason, explanation, cut_time, data_offsets, labels_offsets, since)
VALUES ($1, $2, $3, $4, 'wanted', $5, $6, $7, $8, $9, $10)

-- name: run_requested
-- A wanted run was said; returns nothing when it is not wanted any more.
UPDATE run SET state = 'requested' WHERE run_id = $1 AND state = 'wanted' RETURNING run_id

-- name: quarantine
-- A broken stretch of a stream's data.
INSERT INTO quarantine (stream, span_start, span_end, features) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: quarantined
-- Broken stretches of a stream that reach beyond a time.
SELECT span_start, span_end FROM quarantine WHERE stream = $1 AND span_end > $2 ORDER BY span_start, span_end

-- name: load_state
-- Where a stream stands.
SELECT revision, snapshot FROM stream_state WHERE stream = $1

-- name: begin_state
-- A stream's first state; returns nothing when somebody else began.
INSERT INTO stream_state (stream, revision, snapshot) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING RETURNING revision

-- name: move_state
-- Compare and set: returns nothing when somebody else has moved the state on.
UPDATE stream_state SET revision = revision + 1, snapshot = $3, written_at = now()
WHERE stream = $1 AND revision = $2 RETURNING revision

-- name: keep_altered
-- A version was altered; nothing when that is known.
INSERT INTO altered (model, version) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING version

-- name: forget_altered
-- Its alert is over.
DELETE FROM altered WHERE model = $1 AND version = $2 RETURNING version
