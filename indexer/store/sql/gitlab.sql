-- name: repository
-- The repository $1 (name).
SELECT id, name, created_at, last_published_at FROM repository WHERE name = $1

-- name: namespace_exists
-- Whether there is a repository at $1 (name) or below it.
SELECT EXISTS (SELECT FROM repository WHERE name = $1)
    OR EXISTS (SELECT FROM repository WHERE name > $1 || '/' AND name < $1 || '0')

-- name: size_of
-- Bytes of the distinct layers below the tags of the repository $1 (name) and, if $2, of all below it; through indexes
-- of any depth, but only manifests that the repository has. A layer's size is what an event said, else the largest that
-- one of these images says.
WITH RECURSIVE named AS MATERIALIZED (
    SELECT r.id AS repository_id, t.manifest_id AS id FROM repository AS r JOIN tag AS t ON t.repository_id = r.id
    WHERE (r.name = $1 OR ($2 AND r.name > $1 || '/' AND r.name < $1 || '0')) AND t.manifest_id IS NOT NULL
), below (repository_id, id) AS (
    SELECT named.repository_id, k.child_id
    FROM named
    JOIN manifest_child AS k ON k.manifest_id = named.id
    JOIN repository_manifest AS h
        ON h.repository_id = named.repository_id AND h.manifest_id = k.child_id AND h.deleted_at IS NULL
    UNION
    SELECT below.repository_id, k.child_id
    FROM below
    JOIN manifest_child AS k ON k.manifest_id = below.id
    JOIN repository_manifest AS h
        ON h.repository_id = below.repository_id AND h.manifest_id = k.child_id AND h.deleted_at IS NULL
), layer AS (
    SELECT l.blob_id, max(l.size_bytes) AS claimed
    FROM (SELECT id FROM named UNION SELECT id FROM below) AS image JOIN manifest_layer AS l ON l.manifest_id = image.id
    GROUP BY l.blob_id
)
SELECT least(coalesce(sum(coalesce(nullif(b.size_bytes, 0), layer.claimed)), 0), 9223372036854775807)::bigint
FROM layer JOIN blob AS b ON b.id = layer.blob_id

-- name: estimated_size
-- The stored bytes of the repository $1 (name) and, if $2, of all below it, by maintained sums: of all manifests, not
-- of tags.
SELECT least(coalesce(sum(size_bytes), 0), 9223372036854775807)::bigint FROM repository
WHERE name = $1 OR ($2 AND name > $1 || '/' AND name < $1 || '0')

-- name: tag
-- The live tag $2 of the repository $1 (id).
SELECT t.name, m.digest, t.manifest_id, t.facet_id, t.size_bytes, t.published_at, t.alive_since, m.config_digest,
       m.os_version, c.name AS config_media_type
FROM tag AS t
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
WHERE t.repository_id = $1 AND t.name = $2

-- name: descendants
-- What the index $1 (id) refers to, down to depth $2 and at most $3 references: from which, at which position, what. Of
-- a manifest that repository $4 (id) does not have, only what the index says of it.
WITH RECURSIVE reached (parent_id, child_id, position, present, depth) AS (
    SELECT k.manifest_id, k.child_id, k.position, h.manifest_id IS NOT NULL, 1
    FROM manifest_child AS k
    LEFT JOIN repository_manifest AS h
        ON h.repository_id = $4 AND h.manifest_id = k.child_id AND h.deleted_at IS NULL
    WHERE k.manifest_id = $1
    UNION
    SELECT k.manifest_id, k.child_id, k.position, h.manifest_id IS NOT NULL, reached.depth + 1
    FROM reached
    JOIN manifest_child AS k ON k.manifest_id = reached.child_id
    LEFT JOIN repository_manifest AS h
        ON h.repository_id = $4 AND h.manifest_id = k.child_id AND h.deleted_at IS NULL
    WHERE reached.depth < $2 AND reached.present
)
SELECT DISTINCT ON (r.depth, r.parent_id, r.position) r.parent_id, r.child_id, k.platform, m.digest,
       coalesce(CASE WHEN r.present THEN m.os_version END, k.os_version) AS os_version,
       CASE WHEN r.present THEN m.total_bytes ELSE k.size_bytes END AS size_bytes,
       CASE WHEN r.present THEN m.facet_id END AS facet_id,
       CASE WHEN r.present THEN m.config_digest END AS config_digest,
       c.name AS config_media_type, coalesce(t.name, '') AS stated_media_type
FROM reached AS r
JOIN manifest_child AS k ON k.manifest_id = r.parent_id AND k.position = r.position
JOIN manifest AS m ON m.id = r.child_id
LEFT JOIN media_type AS t ON t.id = k.media_type_id
LEFT JOIN media_type AS c ON c.id = m.config_media_type_id AND r.present
ORDER BY r.depth, r.parent_id, r.position LIMIT $3

-- name: referrers
-- Manifests of the repository $1 (id) whose subject is one of the digests $2, of the artifact types $3 (null: any).
SELECT m.subject_digest, m.digest, coalesce(nullif(f.artifact_type, ''), c.name, '') AS artifact_type
FROM manifest AS m
JOIN repository_manifest AS h ON h.repository_id = $1 AND h.manifest_id = m.id AND h.deleted_at IS NULL
JOIN facet AS f ON f.id = m.facet_id
LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
WHERE m.subject_digest = ANY ($2::bytea[])
  AND ($3::text[] IS NULL OR coalesce(nullif(f.artifact_type, ''), c.name, '') = ANY ($3::text[]))
ORDER BY m.subject_digest, h.pushed_at, m.id LIMIT $4

-- name: repositories_under
-- Repositories with a tag at $1 (name) or below it, by name after $2, at most $3.
SELECT name, created_at FROM (
    SELECT name, created_at FROM repository WHERE name = $1 AND name > $2 AND tag_count > 0
    UNION ALL
    (SELECT name, created_at FROM repository
     WHERE name > greatest($1 || '/', $2) AND name < $1 || '0' AND tag_count > 0 ORDER BY name LIMIT $3)
) AS found
ORDER BY name LIMIT $3
