-- name: sizes_of
-- Sizes in bytes of the digests $1, of those that are known: as an event said, of a manifest, or as a manifest says.
SELECT wanted.digest, coalesce(nullif(b.size_bytes, 0), nullif(m.size_bytes, 0), l.size_bytes) AS size_bytes
FROM unnest($1::bytea[]) AS wanted (digest)
LEFT JOIN blob AS b ON b.digest = wanted.digest
LEFT JOIN manifest AS m ON m.digest = wanted.digest
LEFT JOIN LATERAL (
    SELECT max(size_bytes) AS size_bytes FROM manifest_layer WHERE blob_id = b.id
) AS l ON true
WHERE coalesce(nullif(b.size_bytes, 0), nullif(m.size_bytes, 0), l.size_bytes) IS NOT NULL

-- name: parents_of
-- Which indexes on record have the manifests $2 of the repositories $1 (names) as children, in the same repository.
SELECT wanted.repository, wanted.digest, p.digest AS parent
FROM unnest($1::text[], $2::bytea[]) AS wanted (repository, digest)
JOIN repository AS r ON r.name = wanted.repository
JOIN manifest AS m ON m.digest = wanted.digest
JOIN manifest_child AS c ON c.child_id = m.id
JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = c.manifest_id AND h.deleted_at IS NULL
JOIN manifest AS p ON p.id = c.manifest_id
ORDER BY wanted.repository, wanted.digest, p.digest

-- name: subjects_of
-- To which manifests on record in the same repository the manifests $2 of the repositories $1 (names) are attached.
SELECT wanted.repository, wanted.digest, m.subject_digest AS subject
FROM unnest($1::text[], $2::bytea[]) AS wanted (repository, digest)
JOIN repository AS r ON r.name = wanted.repository
JOIN manifest AS m ON m.digest = wanted.digest
JOIN manifest AS s ON s.digest = m.subject_digest
JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = s.id AND h.deleted_at IS NULL
ORDER BY wanted.repository, wanted.digest

-- name: tags_that_need
-- Which tags need the digests $1: as their manifest, as a child of it, or as a layer of one of these. One tag of each
-- manifest that needs one.
SELECT DISTINCT ON (t.repository_id, t.manifest_id, needed.digest)
       needed.digest, r.name AS repository, t.name AS tag, m.digest AS manifest
FROM (
    SELECT wanted.digest, x.id AS manifest_id
    FROM unnest($1::bytea[]) AS wanted (digest)
    JOIN manifest AS x ON x.digest = wanted.digest
    UNION ALL
    SELECT wanted.digest, l.manifest_id
    FROM unnest($1::bytea[]) AS wanted (digest)
    JOIN blob AS b ON b.digest = wanted.digest
    JOIN manifest_layer AS l ON l.blob_id = b.id
) AS needed
CROSS JOIN LATERAL (
    SELECT needed.manifest_id
    UNION ALL
    SELECT c.manifest_id FROM manifest_child AS c WHERE c.child_id = needed.manifest_id
) AS above (manifest_id)
JOIN tag AS t ON t.manifest_id = above.manifest_id
JOIN repository AS r ON r.id = t.repository_id
JOIN manifest AS m ON m.id = t.manifest_id
ORDER BY t.repository_id, t.manifest_id, needed.digest, t.name
