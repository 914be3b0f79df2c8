-- name: enqueue
-- Remember work to be done; a run that is known already stays as it is.
INSERT INTO job (id, kind, subject, request, correlation_id, causation_id, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (id) DO NOTHING

-- name: take
-- Lease the oldest job that is due, or whose leaseholder has gone silent.
UPDATE job SET
    state = 'running',
    losses = losses + (state = 'running')::integer,
    lease = $1,
    lease_until = now() + make_interval(secs => $2)
WHERE id = (
    SELECT id FROM job
    WHERE (state = 'waiting' AND due_at <= now()) OR (state = 'running' AND lease_until < now())
    ORDER BY created_at, id
    FOR UPDATE SKIP LOCKED
    LIMIT 1
)
RETURNING id, kind, subject, request, correlation_id, causation_id, traceparent, losses, crashes, lease

-- name: renew
-- Keep a lease alive; returns nothing when the job is no longer this holder's.
UPDATE job SET lease_until = now() + make_interval(secs => $3)
WHERE id = $1 AND lease = $2 AND state = 'running'
RETURNING id

-- name: hold
-- Lock a job for the transaction while its lease is this holder's; returns nothing otherwise.
SELECT id FROM job WHERE id = $1 AND lease = $2 AND state = 'running' FOR UPDATE

-- name: end_job
-- The job is over; returns nothing when it is no longer this holder's.
UPDATE job SET state = $3, reason = $4, lease = NULL, lease_until = NULL, ended_at = now()
WHERE id = $1 AND lease = $2 AND state = 'running'
RETURNING id

-- name: crash
-- The child died: count it and wait before the next attempt.
UPDATE job SET state = 'waiting', crashes = crashes + 1, lease = NULL, lease_until = NULL,
    due_at = now() + make_interval(secs => $3)
WHERE id = $1 AND lease = $2 AND state = 'running'

-- name: release
-- Give a job back unfinished, to be taken again at once.
UPDATE job SET state = 'waiting', lease = NULL, lease_until = NULL
WHERE id = $1 AND lease = $2 AND state = 'running'

-- name: cancel
-- End a job that is not over; its holder notices when it renews the lease.
UPDATE job SET state = 'failed', reason = 'cancelled', lease = NULL, lease_until = NULL, ended_at = now()
WHERE id = $1 AND state IN ('waiting', 'running')
RETURNING id
