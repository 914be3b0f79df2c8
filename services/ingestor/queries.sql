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
