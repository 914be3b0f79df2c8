-- name: lock_apply
-- One application of declarations at a time.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':apply', 0))

-- name: streams
-- All declared streams.
SELECT name, revision, spec FROM stream ORDER BY name

-- name: models
-- All declared models.
SELECT name, revision, spec FROM model ORDER BY name

-- name: columns
-- The type that each feature of a stream ever had; features of a table never change theirs.
SELECT DISTINCT ON (r.name, f.key) r.name AS stream, f.key AS feature, f.value ->> 'type' AS type
FROM revision r, jsonb_each(r.spec -> 'features') f
WHERE r.kind = 'stream' ORDER BY r.name, f.key, r.revision DESC

-- name: serving
-- Which versions that serve, may come to serve or served last need which feature of which stream.
SELECT m.stream, f.value AS feature, array_agg(v.model || ':' || v.version ORDER BY v.model, v.version) AS users
FROM version v JOIN model m ON m.name = v.model, jsonb_array_elements_text(v.candidate -> 'spec' -> 'features') f
WHERE v.stage = ANY($1::text[])
   OR v.version = (SELECT max(a.version) FROM version a WHERE a.model = v.model AND a.stage = 'archived')
GROUP BY m.stream, f.value

-- name: stream_before
-- A stream as it is declared.
SELECT spec FROM stream WHERE name = $1

-- name: model_before
-- A model as it is declared, the revision of its stream that it knows, and the stream's own.
SELECT m.spec, m.stream_revision AS was, s.revision AS now
FROM stream s LEFT JOIN model m ON m.name = $1 WHERE s.name = $2

-- name: save_stream
-- The latest revision of a stream.
INSERT INTO stream (name, revision, spec, actor, applied_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET revision = $2, spec = $3, actor = $4, applied_at = $5

-- name: save_model
-- The latest revision of a model.
INSERT INTO model (name, stream, stream_revision, revision, spec, actor, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (name) DO UPDATE
SET stream_revision = $3, revision = $4, spec = $5, actor = $6, applied_at = $7

-- name: save_revision
-- What was declared, for ever.
INSERT INTO revision (kind, name, revision, spec, actor, reason, applied_at) VALUES ($1, $2, $3, $4, $5, $6, $7)

-- name: lock_model
-- A model, held until the transaction ends: decisions about one model take turns.
SELECT name, stream, spec, rollout_revision, phase, champion, challenger, frozen
FROM model WHERE name = $1 FOR UPDATE

-- name: lock_audit
-- Rows of the audit log are chained one at a time; taken last in every transaction.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':audit', 0))

-- name: last_audit
-- The end of the chain.
SELECT position, hash FROM audit ORDER BY position DESC LIMIT 1

-- name: add_audit
-- Append a sealed row.
INSERT INTO audit (position, at, actor, action, subject, reason, what, event_id, previous_hash, hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: sealed_rows
-- The audit log as it was sealed, oldest first.
SELECT position, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"') AS at,
       actor, action, subject, reason, event_id, what::text AS what, previous_hash, hash
FROM audit WHERE position > $1 ORDER BY position LIMIT $2

-- name: lock_rebuild
-- One rebuilds at a time.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':rebuild', 0))

-- name: is_empty
-- Whether nothing was heard or done yet.
SELECT NOT EXISTS (SELECT FROM audit) AND NOT EXISTS (SELECT FROM inbox) AND NOT EXISTS (SELECT FROM stream)

-- name: dumped
-- Every row of every table but the outbox, as text.
SELECT name, content FROM dumped() ORDER BY name, content

-- name: drop_beside
-- Away with a record that was made beside.
DROP SCHEMA IF EXISTS registry_beside CASCADE

-- name: heard
-- The ids of all that was heard.
SELECT event_id FROM inbox

-- name: last_position
-- How long the audit log is.
SELECT coalesce(max(position), 0) FROM audit

-- name: version_of_run
-- The version a run became.
SELECT version FROM version WHERE run_id = $1

-- name: add_version
-- Number a candidate; the model's lock is held.
INSERT INTO version (model, version, run_id, stage, candidate, traceparent, created_at)
SELECT $1, coalesce(max(version), 0) + 1, $2, 'trained', $3, $4, $5 FROM version WHERE model = $1
RETURNING version

-- name: version
-- One version, as decisions need it.
SELECT model, version, run_id, stage, candidate, gates, approval, expires_at, traceparent, attestation
FROM version WHERE model = $1 AND version = $2

-- name: judge
-- What the gates said of a version.
UPDATE version SET gates = $3, report = $4, attestation = $5, card = $6, explanation = $7
WHERE model = $1 AND version = $2

-- name: ask_approval
-- Who must say yes, and until when.
UPDATE version SET approval = $3, expires_at = $4 WHERE model = $1 AND version = $2

-- name: move
-- A version enters a stage.
UPDATE version SET stage = $3 WHERE model = $1 AND version = $2

-- name: note_stage
-- A stage of a version's history.
INSERT INTO stage (model, version, stage, at, actor, reason) VALUES ($1, $2, $3, $4, $5, $6)

-- name: stages
-- The stage of every version of a model.
SELECT version, stage FROM version WHERE model = $1

-- name: approve
-- A yes; a person's second is the first again.
INSERT INTO approval (model, version, actor, reason, at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (model, version, actor) DO NOTHING

-- name: approvers
-- Who said yes, in order.
SELECT actor FROM approval WHERE model = $1 AND version = $2 ORDER BY at, actor

-- name: comment
-- What somebody has to say about a model, or a version of it.
INSERT INTO comment (model, version, actor, text, at) VALUES ($1, $2, $3, $4, $5)

-- name: read_comments
-- What was said about a model, oldest first; about one version of it, where that is named.
SELECT version, actor, text, at FROM comment
WHERE model = $1 AND ($2::int IS NULL OR version = $2) ORDER BY position LIMIT $3

-- name: order_erasure
-- An erasure was ordered.
INSERT INTO erasure (receipt, streams, actor, reason, ordered_at) VALUES ($1, $2, $3, $4, $5)

-- name: erased
-- What came of an erasure.
UPDATE erasure SET told = $2, erased_at = $3 WHERE receipt = $1 RETURNING actor, reason

-- name: read_erasures
-- The newest erasures, or one.
SELECT * FROM erasure WHERE $1::text IS NULL OR receipt = $1 ORDER BY ordered_at DESC, receipt LIMIT $2

-- name: read_erasures_of
-- Erasures that took rows which a version may have learned from: it is told of those that were registered when it was
-- ordered; of others, all of its stream since it was made.
SELECT e.receipt, e.erased_at FROM erasure e JOIN version v ON v.model = $1 AND v.version = $2
WHERE e.told -> 'affected' @> jsonb_build_array(jsonb_build_object('model', v.model, 'version', v.version))
   OR v.candidate -> 'stream_spec' ->> 'stream' = ANY(e.streams) AND e.erased_at > v.created_at
      AND NOT EXISTS (SELECT FROM stage s WHERE s.model = v.model AND s.version = v.version
                      AND s.stage = 'registered' AND s.at < e.ordered_at)
ORDER BY e.erased_at, e.receipt

-- name: expired
-- Versions whose approval was not given in time.
SELECT model, version FROM version WHERE stage = 'awaiting_approval' AND expires_at <= $1 ORDER BY model, version

-- name: run_requested
-- A run was asked for.
INSERT INTO run (run_id, model, state, reason, request, cut_time, requested_at, trace_id, position)
VALUES ($1, $2, 'requested', $3, $4, $5, $6, $7, (extract(epoch FROM $6::timestamptz) * 1000000)::bigint)
ON CONFLICT (run_id) DO UPDATE
SET position = least(run.position, excluded.position), reason = $3, request = $4, cut_time = $5, requested_at = $6, trace_id = $7

-- name: run_progressed
-- A run moved on; what is over is over.
INSERT INTO run (run_id, model, state, stage, done, total, best_score, trace_id, position)
VALUES ($1, $2, 'training', $3, $4, $5, $6, $7, (extract(epoch FROM $8::timestamptz) * 1000000)::bigint)
ON CONFLICT (run_id) DO UPDATE
SET position = least(run.position, excluded.position),
    state = CASE WHEN run.state = 'requested' THEN 'training' ELSE run.state END,
    stage = $3, done = $4, total = $5, best_score = coalesce($6, run.best_score),
    trace_id = coalesce(run.trace_id, $7)

-- name: run_trained
-- A run produced a candidate.
INSERT INTO run (run_id, model, state, fit_seconds, run_seconds, version, trace_id, position)
VALUES ($1, $2, 'trained', $3, $4, $5, $6, (extract(epoch FROM $7::timestamptz) * 1000000)::bigint)
ON CONFLICT (run_id) DO UPDATE
SET position = least(run.position, excluded.position),
    state = CASE WHEN run.state IN ('requested', 'training') THEN 'trained' ELSE run.state END,
    fit_seconds = $3, run_seconds = $4, version = $5, trace_id = coalesce(run.trace_id, $6)

-- name: run_finished
-- A run's candidate was judged, or there is none.
INSERT INTO run (run_id, model, state, version, failure, explanation, trace_id, finished_at, position)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, (extract(epoch FROM $8::timestamptz) * 1000000)::bigint)
ON CONFLICT (run_id) DO UPDATE
SET position = least(run.position, excluded.position), state = $3, version = coalesce($4, run.version), failure = $5, explanation = $6,
    trace_id = coalesce(run.trace_id, $7), finished_at = $8

-- name: serve
-- Who serves a model from this revision on.
UPDATE model SET rollout_revision = $2, phase = $3, champion = $4, challenger = $5, share = $6, step = $7, frozen = $8
WHERE name = $1

-- name: open_rollout_of
-- The running rollout of a version.
SELECT first_revision FROM rollout WHERE model = $1 AND version = $2 AND outcome IS NULL
ORDER BY first_revision DESC LIMIT 1

-- name: latest_rollout
-- The running rollout of a model, whichever version it tries; without one, the latest.
SELECT first_revision FROM rollout WHERE model = $1 ORDER BY outcome IS NULL DESC, first_revision DESC LIMIT 1

-- name: had_rollout
-- Whether a version was ever rolled out.
SELECT EXISTS (SELECT FROM rollout WHERE model = $1 AND version = $2)

-- name: start_rollout
-- A version begins to be tried.
INSERT INTO rollout (model, first_revision, version, started_at, trace_id) VALUES ($1, $2, $3, $4, $5)

-- name: end_rollout
-- What became of the latest rollout of a version, and of it before.
UPDATE rollout r SET outcome = $3, reason = $4, ended_at = $5
FROM (SELECT first_revision, outcome FROM rollout WHERE model = $1 AND version = $2
      ORDER BY first_revision DESC LIMIT 1) o
WHERE r.model = $1 AND r.first_revision = o.first_revision
RETURNING r.first_revision, o.outcome AS before

-- name: withdraw
-- The blast radius of the latest rollout of a version.
UPDATE rollout SET withdrawn = $3
WHERE model = $1 AND version = $2
  AND first_revision = (SELECT max(first_revision) FROM rollout WHERE model = $1 AND version = $2)

-- name: correct
-- What was withdrawn of the latest rollout of a version stands prediction by prediction, too.
UPDATE rollout SET withdrawn = coalesce(withdrawn, '{}') || $3
WHERE model = $1 AND version = $2
  AND first_revision = (SELECT max(first_revision) FROM rollout WHERE model = $1 AND version = $2)

-- name: add_step
-- A revision of who serves.
INSERT INTO rollout_step
    (model, revision, first_revision, phase, champion, challenger, share, step, frozen, reason, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: measure_rollout
-- The latest evidence about a challenger under a revision; older evidence does not replace newer.
INSERT INTO rollout_evidence AS e (model, revision, challenger, measured, measured_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (model, revision) DO UPDATE SET challenger = $3, measured = $4, measured_at = $5
WHERE e.measured_at <= $5

-- name: lock_scoring
-- How the scorers saw both arms under a revision so far; locked, so that none of several words is lost.
SELECT scoring FROM rollout_scoring WHERE model = $1 AND revision = $2 FOR UPDATE

-- name: score_rollout
-- The sums after another word.
INSERT INTO rollout_scoring (model, revision, challenger, scoring) VALUES ($1, $2, $3, $4)
ON CONFLICT (model, revision) DO UPDATE SET scoring = $4

-- name: switch
-- Where a revision took hold of a partition.
INSERT INTO rollout_switch (model, revision, partition, input_offset, at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: raise_alert
-- Something needs attention.
INSERT INTO alert (alert, model, kind, severity, features, explanation, version, quality_window, raised_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (alert) DO NOTHING

-- name: resolve_alert
-- It no longer does.
UPDATE alert SET resolved_at = $2, resolution = $3 WHERE alert = $1

-- name: add_window
-- A closed window of a version.
INSERT INTO quality_window (model, version, number, measured) VALUES ($1, $2, $3, $4)
ON CONFLICT (model, version, number) DO UPDATE SET measured = $4

-- name: trim_windows
-- Only the latest windows of a model are kept.
DELETE FROM quality_window WHERE model = $1 AND position <= (
    SELECT position FROM quality_window WHERE model = $1 ORDER BY position DESC OFFSET $2 LIMIT 1)

-- name: commit_dataset
-- A table's latest version; an older one only adds to the counts.
INSERT INTO dataset AS d (name, stream, kind, version, offsets, commits, rows_total, rejected_total, time_min, time_max, committed_at)
VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10)
ON CONFLICT (name) DO UPDATE
SET commits = d.commits + 1, rejected_total = d.rejected_total + $7,
    version = greatest(d.version, $4),
    offsets = CASE WHEN $4 > d.version THEN $5 ELSE d.offsets END,
    rows_total = CASE WHEN $4 > d.version THEN $6 ELSE d.rows_total END,
    time_min = least(d.time_min, $8), time_max = greatest(d.time_max, $9),
    committed_at = greatest(d.committed_at, $10)

-- name: quarantine
-- A stretch of data that training leaves out.
INSERT INTO quarantine (stream, starts_at, ends_at, features, explanation) VALUES ($1, $2, $3, $4, $5)

-- name: read_streams
-- Streams by name, with their models.
SELECT s.*, ARRAY(SELECT m.name FROM model m WHERE m.stream = s.name ORDER BY m.name) AS models
FROM stream s WHERE s.name > $1 ORDER BY s.name LIMIT $2

-- name: read_stream
-- One stream, with its models.
SELECT s.*, ARRAY(SELECT m.name FROM model m WHERE m.stream = s.name ORDER BY m.name) AS models
FROM stream s WHERE s.name = $1

-- name: read_models
-- Models by name.
SELECT * FROM model WHERE name > $1 ORDER BY name LIMIT $2

-- name: read_model
-- One model.
SELECT * FROM model WHERE name = $1

-- name: read_versions
-- Versions of a model, newest first, without their specs.
SELECT v.model, v.version, v.run_id, v.stage, v.created_at, v.explanation, v.approval, v.expires_at,
       split_part(v.traceparent, '-', 2) AS trace_id,
       v.candidate -> 'metrics' AS metrics, (v.candidate ->> 'rows')::bigint AS rows,
       ARRAY(SELECT g ->> 'name' FROM jsonb_array_elements(v.gates) g WHERE g ->> 'verdict' = 'failed') AS failed_gates
FROM version v WHERE v.model = $1 AND v.version < $2 ORDER BY v.version DESC LIMIT $3

-- name: read_version
-- One version, whole.
SELECT v.*, split_part(v.traceparent, '-', 2) AS trace_id,
       v.candidate -> 'metrics' AS metrics, (v.candidate ->> 'rows')::bigint AS rows,
       ARRAY(SELECT g ->> 'name' FROM jsonb_array_elements(v.gates) g WHERE g ->> 'verdict' = 'failed') AS failed_gates
FROM version v WHERE v.model = $1 AND v.version = $2

-- name: read_stages
-- The history of a version, oldest first.
SELECT stage, at, actor, reason FROM stage WHERE model = $1 AND version = $2 ORDER BY position

-- name: read_approvals
-- Who said yes to a version.
SELECT actor, reason, at FROM approval WHERE model = $1 AND version = $2 ORDER BY at, actor

-- name: count_stages
-- How many versions of a model are in each stage.
SELECT stage, count(*) AS versions FROM version WHERE model = $1 GROUP BY stage ORDER BY stage

-- name: read_awaiting
-- Versions of a model that wait for a person.
SELECT version FROM version WHERE model = $1 AND stage = 'awaiting_approval' ORDER BY version

-- name: read_rollouts
-- Rollouts of a model, or those that tried one version, newest first.
SELECT r.*,
       (SELECT e.measured FROM rollout_evidence e
        WHERE e.model = r.model AND e.challenger = r.version AND e.revision = ANY(o.revisions)
        ORDER BY e.measured_at DESC, e.revision DESC LIMIT 1) AS evidence,
       ARRAY(SELECT c.scoring FROM rollout_scoring c
             WHERE c.model = r.model AND c.challenger = r.version AND c.revision = ANY(o.revisions)
             ORDER BY c.revision) AS scorings
FROM rollout r CROSS JOIN LATERAL (
    SELECT array_agg(s.revision) AS revisions FROM rollout_step s
    WHERE s.model = r.model AND s.first_revision = r.first_revision) o
WHERE r.model = $1 AND r.first_revision < $2 AND ($4::integer IS NULL OR r.version = $4)
ORDER BY r.first_revision DESC LIMIT $3

-- name: read_steps
-- The revisions of rollouts, oldest first, with the offsets at which partitions followed.
SELECT s.*, coalesce((
    SELECT jsonb_object_agg(w.partition, w.input_offset) FROM rollout_switch w
    WHERE w.model = s.model AND w.revision = s.revision), '{}') AS switched
FROM rollout_step s WHERE s.model = $1 AND s.first_revision = ANY($2::int[]) ORDER BY s.revision

-- name: read_champions
-- Who was champion of a model at each revision, oldest first.
SELECT at, champion FROM rollout_step WHERE model = $1 ORDER BY revision

-- name: read_requests
-- When the training of each version was asked for.
SELECT version, requested_at FROM run WHERE model = $1 AND version IS NOT NULL AND requested_at IS NOT NULL

-- name: read_run
-- One run.
SELECT * FROM run WHERE run_id = $1

-- name: read_runs
-- Runs of a model, newest first.
SELECT * FROM run WHERE model = $1 AND position < $2 ORDER BY position DESC, run_id DESC LIMIT $3

-- name: read_alerts
-- Alerts of a model, newest first.
SELECT * FROM alert WHERE model = $1 AND position < $2 ORDER BY position DESC LIMIT $3

-- name: read_open_alerts
-- Alerts of a model that still hold, newest first.
SELECT * FROM alert WHERE model = $1 AND resolved_at IS NULL ORDER BY position DESC LIMIT $2

-- name: read_windows
-- Windows of a model, newest first.
SELECT position, measured FROM quality_window WHERE model = $1 AND position < $2 ORDER BY position DESC LIMIT $3

-- name: read_tables
-- The latest version of every table.
SELECT * FROM dataset WHERE name > $1 ORDER BY name LIMIT $2

-- name: read_audit
-- The audit log, oldest first.
SELECT * FROM audit WHERE position > $1 ORDER BY position LIMIT $2

-- name: past_declared
-- A model as it was declared at an instant.
SELECT revision, spec, actor, reason, applied_at FROM revision
WHERE kind = 'model' AND name = $1 AND applied_at <= $2 ORDER BY revision DESC LIMIT 1

-- name: past_step
-- Who served at an instant, and the offsets from which partitions had followed by then.
SELECT s.*, coalesce((
    SELECT jsonb_object_agg(w.partition, w.input_offset) FROM rollout_switch w
    WHERE w.model = s.model AND w.revision = s.revision AND w.at <= $2), '{}') AS switched
FROM rollout_step s WHERE s.model = $1 AND s.at <= $2 ORDER BY s.revision DESC LIMIT 1

-- name: past_stages
-- The stage of every version at an instant.
SELECT DISTINCT ON (version) version, stage FROM stage
WHERE model = $1 AND at <= $2 ORDER BY version, at DESC, position DESC

-- name: past_alerts
-- The alerts that were raised by an instant, and not resolved.
SELECT DISTINCT a.what ->> 'alert' AS alert FROM audit a
WHERE a.subject = $1 AND a.at <= $2 AND a.action = 'alert.raised' AND NOT EXISTS (
    SELECT FROM audit b WHERE b.subject = $1 AND b.at <= $2 AND b.action = 'alert.resolved'
                          AND b.what ->> 'alert' = a.what ->> 'alert')
ORDER BY 1

-- name: past_acts
-- The latest acts about these subjects by an instant, newest first.
SELECT * FROM audit WHERE subject = ANY($1::text[]) AND at <= $2 ORDER BY position DESC LIMIT $3

-- name: past_approvals
-- Who had said yes to a version by an instant.
SELECT actor, reason, at FROM approval WHERE model = $1 AND version = $2 AND at <= $3 ORDER BY at, actor

-- name: past_champion
-- The champion of an instant: since when without a break and why, and what it is.
SELECT $2 AS version, v.run_id, s.at AS since, s.reason AS because, r.request AS asked, v.gates,
       split_part(v.traceparent, '-', 2) AS trace_id,
       coalesce((SELECT g.stage FROM stage g WHERE g.model = $1 AND g.version = $2 AND g.at <= $3
                 ORDER BY g.at DESC, g.position DESC LIMIT 1), 'unknown') AS stage
FROM rollout_step s
LEFT JOIN version v ON v.model = $1 AND v.version = $2
LEFT JOIN run r ON r.run_id = v.run_id
WHERE s.model = $1 AND s.revision > coalesce((
    SELECT max(o.revision) FROM rollout_step o WHERE o.model = $1 AND o.at <= $3 AND o.champion IS DISTINCT FROM $2), 0)
ORDER BY s.revision LIMIT 1

-- name: past_challenger
-- The challenger of an instant: since when without a break and why, and what it is.
SELECT $2 AS version, v.run_id, s.at AS since, s.reason AS because, r.request AS asked, v.gates,
       split_part(v.traceparent, '-', 2) AS trace_id,
       coalesce((SELECT g.stage FROM stage g WHERE g.model = $1 AND g.version = $2 AND g.at <= $3
                 ORDER BY g.at DESC, g.position DESC LIMIT 1), 'unknown') AS stage
FROM rollout_step s
LEFT JOIN version v ON v.model = $1 AND v.version = $2
LEFT JOIN run r ON r.run_id = v.run_id
WHERE s.model = $1 AND s.revision > coalesce((
    SELECT max(o.revision) FROM rollout_step o WHERE o.model = $1 AND o.at <= $3 AND o.challenger IS DISTINCT FROM $2), 0)
ORDER BY s.revision LIMIT 1
