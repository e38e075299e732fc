-- name: facets_by_id
-- What the facets $1 (ids) are.
SELECT id, media_type, artifact_type, kind,
       ARRAY(SELECT p FROM unnest(platforms[1:100]) WITH ORDINALITY AS shown (p, n)
             WHERE octet_length(p) <= 256 ORDER BY n) AS platforms
FROM facet WHERE id = ANY ($1::integer[])

-- name: actors_by_id
-- The names of the actors $1 (ids).
SELECT id, name FROM actor WHERE id = ANY ($1::integer[])

-- name: actor_id
-- The id of the actor $1 (name).
SELECT id FROM actor WHERE name = $1

-- name: facets_like
-- Ids of the facets of any of the media types $1, artifact types $2, kinds $3 and platforms $4; null: any.
SELECT id FROM facet
WHERE ($1::text[] IS NULL OR media_type = ANY ($1)) AND ($2::text[] IS NULL OR artifact_type = ANY ($2))
  AND ($3::text[] IS NULL OR kind = ANY ($3)) AND ($4::text[] IS NULL OR platforms && $4)

-- name: manifest_id
-- The id of the manifest $1 (digest).
SELECT id FROM manifest WHERE digest = $1

-- name: blob_id
-- The id of the blob $1 (digest).
SELECT id FROM blob WHERE digest = $1

