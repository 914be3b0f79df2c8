-- name: declare_stream
-- Keep the declaration of a stream; an older revision changes nothing.
INSERT INTO stream (name, revision, spec) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, spec = excluded.spec
WHERE stream.revision < excluded.revision

-- name: declare_model
-- Keep the stream that a model lives on; an older revision changes nothing.
INSERT INTO model (name, revision, stream_spec) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET revision = excluded.revision, stream_spec = excluded.stream_spec
WHERE model.revision < excluded.revision

-- name: streams
-- Declarations of all streams.
SELECT spec FROM stream ORDER BY name

-- name: models
-- All models, and the declarations of their streams.
SELECT name, stream_spec FROM model ORDER BY name

-- name: announced
-- The last version of a table whose log has been announced.
SELECT announced_version FROM dataset WHERE name = $1

-- name: announce
-- Move a table's announced version on; returns nothing when somebody else has moved it.
INSERT INTO dataset AS known (name, announced_version) VALUES ($1, $3)
ON CONFLICT (name) DO UPDATE SET announced_version = excluded.announced_version
WHERE known.announced_version = $2
RETURNING announced_version

-- name: pin
-- Keep the table versions that a model's version was trained on.
INSERT INTO pin (model, version, stream, data_version, labels_version, cut, seen) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT DO NOTHING

-- name: pins
-- Versions of a stream's tables that must stay readable.
SELECT data_version, labels_version FROM pin WHERE stream = $1

-- name: pinned_cuts
-- What each version that was trained on a stream could see of it.
SELECT model, version, cut, seen FROM pin WHERE stream = $1 ORDER BY model, version

-- name: order_erasure
-- Keep an erasure until it is over.
INSERT INTO erasure (receipt, streams, event_id, correlation_id, traceparent) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: lead_erasures
-- True in the one process that may erase.
SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ':erasures', 0))

-- name: erasures
-- What is still to be erased.
SELECT receipt, streams, event_id, correlation_id, traceparent, ends, found, said FROM erasure ORDER BY receipt

-- name: erase_before
-- How far an erasure reaches.
UPDATE erasure SET ends = $2 WHERE receipt = $1

-- name: found_to_erase
-- What an erasure will have taken.
UPDATE erasure SET found = $2 WHERE receipt = $1

-- name: said_erased
-- That it is gone was said.
UPDATE erasure SET said = true WHERE receipt = $1

-- name: close_erasure
-- An erasure is over.
DELETE FROM erasure WHERE receipt = $1

-- name: attempt
-- Say that a process begins to read partitions from offsets; returns of each how many ended while they did the same.
INSERT INTO attempt AS known (topic, partition, start, life, deaths)
SELECT $1, partition, start, $4, 0 FROM unnest($2::integer[], $3::bigint[]) AS reading (partition, start)
ON CONFLICT (topic, partition) DO UPDATE SET
    start = excluded.start,
    life = excluded.life,
    deaths = CASE
        WHEN known.start <> excluded.start THEN 0
        WHEN known.life IN (excluded.life, '') THEN known.deaths
        ELSE known.deaths + 1
    END
RETURNING deaths

-- name: survived
-- Say that a process outlived an attempt that came to nothing.
UPDATE attempt SET life = '' WHERE topic = $1 AND life = $2
