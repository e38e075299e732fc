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

-- name: reading
-- When the storage was read last, and blobs that nothing referred to then.
SELECT r.begun_at, coalesce(array_agg(u.digest) FILTER (WHERE u.digest IS NOT NULL), '{}') AS digests
FROM storage_reading AS r LEFT JOIN storage_unreferenced AS u ON true GROUP BY r.begun_at

-- name: lock_reading
-- Locks the row about the newest reading; returns when that was begun.
SELECT begun_at FROM storage_reading FOR UPDATE

-- name: save_reading
-- Stores that the storage was read at $1.
INSERT INTO storage_reading (begun_at) VALUES ($1) ON CONFLICT (singleton) DO UPDATE SET begun_at = EXCLUDED.begun_at

-- name: drop_unreferenced
DELETE FROM storage_unreferenced

-- name: save_unreferenced
-- Stores the blobs $1 that nothing refers to.
INSERT INTO storage_unreferenced (digest) SELECT DISTINCT * FROM unnest($1::bytea[])

-- name: maintenance_within
-- The parts of maintenance that lie between $1 and $2, oldest first.
SELECT greatest(begun_at, $1) AS since, least(ended_at, until, $2) AS until FROM maintenance
WHERE begun_at < $2 AND least(ended_at, until, $2) > greatest(begun_at, $1) ORDER BY begun_at

-- name: changes_within
-- How many pushes, mounts and deletions the registry announced from the times $1 up to the times $2, pairwise, but in
-- repository $3; the first, the last, and the names of at most five.
WITH change AS (
    SELECT DISTINCT ON (e.event_key) e.occurred_at, e.action, r.name || coalesce(':' || e.tag, '') AS name
    FROM unnest($1::timestamptz[], $2::timestamptz[]) AS w (since, until)
    CROSS JOIN LATERAL (
        SELECT event_key, occurred_at, action, tag, repository_id FROM audit_entry
        WHERE occurred_at >= w.since AND occurred_at < w.until AND event_key IS NOT NULL
          AND action::text = ANY ($4::text[] || $5::text[])
        UNION ALL
        SELECT event_key, occurred_at, action, tag, repository_id FROM audit_staged
        WHERE occurred_at >= w.since AND occurred_at < w.until AND event_key IS NOT NULL
          AND action::text = ANY ($4::text[] || $5::text[])
    ) AS e
    JOIN repository AS r ON r.id = e.repository_id
    WHERE r.name <> $3
    ORDER BY e.event_key, e.tag NULLS LAST
)
SELECT count(*) FILTER (WHERE action::text = ANY ($4::text[])) AS uploads,
       count(*) FILTER (WHERE action::text = ANY ($5::text[])) AS deletions,
       min(occurred_at) AS first_at, max(occurred_at) AS last_at,
       coalesce((SELECT array_agg(s.name) FROM (SELECT DISTINCT name FROM change ORDER BY name LIMIT 5) AS s), '{}')
           AS examples
FROM change

-- name: add_collection
-- Stores a collection that was inferred at $1: not before $2, not after $3, gone blobs $4, in maintenance $5, uploads $6,
-- deletions $7, the first $8, the last $9, examples $10.
INSERT INTO storage_collection (found_at, not_before, not_after, gone, in_maintenance, uploads, deletions, first_at, last_at,
                                examples)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: trim_collections
-- Forgets all but the newest $1.
DELETE FROM storage_collection WHERE id <= (SELECT max(id) FROM storage_collection) - $1::bigint

-- name: stage_overlap
-- Stages an entry at $1 about a collection that overlapped: detail $2.
INSERT INTO audit_staged (occurred_at, recorded_at, action, source, detail)
VALUES ($1, $1, 'gc.overlapped'::audit_action, 'storage', $2)

-- name: newest_collections
-- At most $1 collections that were inferred, newest first.
SELECT found_at, not_before, not_after, gone, in_maintenance, uploads, deletions, first_at, last_at, examples
FROM storage_collection ORDER BY id DESC LIMIT $1
