-- name: know_model
-- Make sure there is a row to lock.
INSERT INTO rollout (model) VALUES ($1) ON CONFLICT DO NOTHING

-- name: lock_rollout
-- The state of a model's rollout, locked until the transaction ends; null before its first release.
SELECT state FROM rollout WHERE model = $1 FOR UPDATE

-- name: save_rollout
-- The state after a decision.
UPDATE rollout SET state = $2, changed_at = now() WHERE model = $1

-- name: note_switch
-- A partition is served under this revision from an offset on; an older word does not undo a newer one.
INSERT INTO switch (model, partition, revision, first_offset) VALUES ($1, $2, $3, $4)
ON CONFLICT (model, partition) DO UPDATE SET revision = EXCLUDED.revision, first_offset = EXCLUDED.first_offset
WHERE switch.revision < EXCLUDED.revision

-- name: switched_partitions
-- How many partitions are served under a revision, or a newer one.
SELECT count(*) FROM switch WHERE model = $1 AND revision >= $2

-- name: ask_correction
-- Predictions are to be withdrawn, once all partitions have gone over to the revision at which their version fell.
INSERT INTO correction (model, revision, partitions, withdrawal) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: due_corrections
-- Withdrawals whose version serves no partition any more.
SELECT withdrawal FROM correction c
WHERE (SELECT count(*) FROM switch s WHERE s.model = c.model AND s.revision >= c.revision) >= c.partitions
ORDER BY asked_at

-- name: correction_done
-- All its corrections are published.
DELETE FROM correction WHERE model = $1 AND revision = $2

-- name: lead_corrections
-- One deployer at a time publishes corrections; held until its connection ends.
SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ':corrections', 0))
