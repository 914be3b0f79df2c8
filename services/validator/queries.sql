-- name: keep_champion
-- Remember who serves a model, unless a later revision is known.
INSERT INTO champion (model, revision, release) VALUES ($1, $2, $3)
ON CONFLICT (model) DO UPDATE SET revision = excluded.revision, release = excluded.release
WHERE champion.revision < excluded.revision

-- name: champion
-- The release that serves a model.
SELECT release FROM champion WHERE model = $1
