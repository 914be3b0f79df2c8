-- name: hear
-- Remember an event; returns nothing when it was heard before.
INSERT INTO inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING event_id

-- name: lock_aggregate
-- Positions of one aggregate are handed out in commit order: its writers take turns until they commit.
SELECT pg_advisory_xact_lock(hashtextextended(current_schema() || ':' || $1, 0))

-- name: say
-- Put an event into the outbox and wake the relay.
WITH said AS (
    INSERT INTO outbox (topic, key, value, headers, traceparent) VALUES ($1, $2, $3, $4, $5)
)
SELECT pg_notify(current_schema() || '_outbox', '')

-- name: lead_relay
-- True in the one process that may publish this service's outbox.
SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ':relay', 0))

-- name: to_publish
-- The oldest events that have not been published.
SELECT position, topic, key, value, headers, traceparent FROM outbox ORDER BY position LIMIT $1

-- name: published
-- Forget events that the broker has acknowledged.
DELETE FROM outbox WHERE position = ANY($1::bigint[])

-- name: applied_migrations
-- Names of the migrations this schema has seen.
SELECT name FROM migration

-- name: record_migration
-- Remember a migration, in its own transaction.
INSERT INTO migration (name) VALUES ($1)

-- name: lock_outbox
-- Whoever has something to say waits.
LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE

-- name: unsaid
-- How much waits to be said.
SELECT count(*) FROM outbox

-- name: drop_schema
-- Away with the registry's record: the registry makes it again when it starts.
DROP SCHEMA registry CASCADE
