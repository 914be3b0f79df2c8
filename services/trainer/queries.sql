-- name: open_runs
-- Runs of a model that wait or run, but for one.
SELECT id FROM job WHERE subject = $1 AND id <> $2 AND state IN ('waiting', 'running') ORDER BY created_at, id
