-- name: manifest
-- Manifest $2 (id) with its record in repository $1 (id), whose columns are null if there is none. Annotations and
-- labels of more than $3 bytes are left out.
SELECT m.id, m.digest, m.size_bytes, m.total_bytes, m.image_created, m.read_at, m.facet_id, m.content,
       m.config_digest, m.subject_digest, m.unread, m.os_version,
       CASE WHEN octet_length(m.annotations::text) <= $3 THEN m.annotations END AS annotations,
       CASE WHEN octet_length(m.labels::text) <= $3 THEN m.labels END AS labels,
       octet_length(m.annotations::text) > $3 AS annotations_left_out,
       octet_length(m.labels::text) > $3 AS labels_left_out, config_type.name AS config_media_type,
       coalesce(nullif(m.config_size_bytes, 0), config.size_bytes) AS config_size_bytes, h.pushed_at, h.deleted_at,
       h.last_pulled_at, h.pull_count, h.last_checked_at, h.pushed_by,
       h.manifest_id IS NOT NULL AND h.deleted_at IS NULL AS held
FROM manifest AS m
LEFT JOIN media_type AS config_type ON config_type.id = m.config_media_type_id
LEFT JOIN blob AS config ON config.digest = m.config_digest
LEFT JOIN repository_manifest AS h ON h.repository_id = $1 AND h.manifest_id = m.id
WHERE m.id = $2

-- name: manifest_id_of_repository
-- The id of the manifest with digest $2, if repository $1 (id) has it.
SELECT m.id FROM manifest AS m
JOIN repository_manifest AS h ON h.repository_id = $1 AND h.manifest_id = m.id AND h.deleted_at IS NULL
WHERE m.digest = $2

-- name: layers
-- The layers of manifest $1 (id), in order, as it describes them, at most $2.
SELECT b.digest, coalesce(nullif(l.size_bytes, 0), b.size_bytes) AS size_bytes, t.name AS media_type
FROM manifest_layer AS l JOIN blob AS b ON b.id = l.blob_id JOIN media_type AS t ON t.id = l.media_type_id
WHERE l.manifest_id = $1 ORDER BY l.position LIMIT $2

-- name: children
-- The children of index $1 (id), in order, at most $3. Of one that repository $2 (id) does not have, only what the
-- index says.
SELECT c.digest, k.platform, k.os_version, h.manifest_id IS NOT NULL AS held, t.name AS stated_media_type,
       CASE WHEN h.manifest_id IS NULL OR c.size_bytes = 0 THEN k.size_bytes ELSE c.size_bytes END AS size_bytes,
       CASE WHEN h.manifest_id IS NULL THEN 0 ELSE c.total_bytes END AS total_bytes,
       CASE WHEN h.manifest_id IS NOT NULL THEN c.facet_id END AS facet_id
FROM manifest_child AS k
JOIN manifest AS c ON c.id = k.child_id
LEFT JOIN repository_manifest AS h ON h.repository_id = $2 AND h.manifest_id = c.id AND h.deleted_at IS NULL
LEFT JOIN media_type AS t ON t.id = k.media_type_id
WHERE k.manifest_id = $1 ORDER BY k.position LIMIT $3

-- name: parents
-- The indexes of repository $1 (id) that have manifest $2 (id) as a child, at most $3.
SELECT DISTINCT p.digest
FROM manifest_child AS k
JOIN repository_manifest AS h ON h.repository_id = $1 AND h.manifest_id = k.manifest_id AND h.deleted_at IS NULL
JOIN manifest AS p ON p.id = k.manifest_id
WHERE k.child_id = $2 ORDER BY p.digest LIMIT $3

-- name: referrers
-- Manifests of repository $1 (id) whose subject is digest $2, newest first, at most $3; with annotations up to $4 bytes
-- in all. The bytes as stored are compared first, so that few are decompressed.
WITH newest AS (
    SELECT m.id, m.digest, m.size_bytes, m.total_bytes, m.facet_id, m.annotations, h.pushed_at
    FROM manifest AS m
    JOIN repository_manifest AS h ON h.repository_id = $1 AND h.manifest_id = m.id AND h.deleted_at IS NULL
    WHERE m.subject_digest = $2 ORDER BY h.pushed_at DESC, m.id DESC LIMIT $3
), stored AS (
    SELECT *, coalesce(sum(pg_column_size(annotations)) OVER (ORDER BY pushed_at DESC, id DESC), 0) AS stored_bytes
    FROM newest
), weighed AS (
    SELECT *, coalesce(sum(CASE WHEN stored_bytes <= $4 THEN octet_length(annotations::text) ELSE $4 + 1 END)
                           OVER (ORDER BY pushed_at DESC, id DESC), 0) AS bytes
    FROM stored
)
SELECT digest, size_bytes, total_bytes, facet_id, CASE WHEN bytes <= $4 THEN annotations END AS annotations,
       annotations IS NOT NULL AND bytes > $4 AS left_out, pushed_at
FROM weighed ORDER BY pushed_at DESC, id DESC
