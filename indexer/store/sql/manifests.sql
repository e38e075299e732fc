-- name: find_manifests
-- What is on record of the manifests with the digests $1.
SELECT id, digest, size_bytes, total_bytes, image_created, facet_id, content FROM manifest WHERE digest = ANY ($1::bytea[])

-- name: add_manifests
-- Adds announced manifests: digests $1, sizes $2, facets $3; in the order of the digests, so that writers do not
-- deadlock. Size and media type are also set later, while the content is not read. Returns what it wrote.
INSERT INTO manifest (digest, size_bytes, facet_id)
SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::integer[]) AS new (digest, size_bytes, facet_id) ORDER BY digest
ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes, facet_id = excluded.facet_id
WHERE manifest.content = 'announced' AND manifest.size_bytes = 0 AND excluded.size_bytes > 0
RETURNING id, digest, content

-- name: find_repository_manifests
-- The records of the manifests with the digests $2 in the repositories $1.
SELECT wanted.repository_id, wanted.digest, h.pushed_at, h.as_of, h.deleted_at, h.absent_at, h.pushed_again_at, a.name AS pushed_by
FROM unnest($1::integer[], $2::bytea[]) AS wanted (repository_id, digest)
JOIN manifest AS m ON m.digest = wanted.digest
JOIN repository_manifest AS h ON h.repository_id = wanted.repository_id AND h.manifest_id = m.id
LEFT JOIN actor AS a ON a.id = h.pushed_by

-- name: put_repository_manifests
-- Writes records of manifests: repositories $1, manifests $2, pushed at $3, as of $4, deleted at $5, pushed by $6, deleted
-- before the push at $7, pushed again at $8; but not over younger evidence. Returns what it wrote.
INSERT INTO repository_manifest (repository_id, manifest_id, pushed_at, as_of, deleted_at, pushed_by, absent_at, pushed_again_at)
SELECT * FROM unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::integer[],
                     $7::timestamptz[], $8::timestamptz[])
ON CONFLICT (repository_id, manifest_id) DO UPDATE
SET pushed_at = excluded.pushed_at, as_of = excluded.as_of, deleted_at = excluded.deleted_at,
    pushed_by = excluded.pushed_by, absent_at = excluded.absent_at, pushed_again_at = excluded.pushed_again_at
WHERE repository_manifest.as_of <= excluded.as_of
RETURNING repository_id, manifest_id

-- name: find_blobs
-- Ids of the blobs with the digests $1.
SELECT digest, id FROM blob WHERE digest = ANY ($1::bytea[])

-- name: list_only_blobs
-- Which of the digests $1 are on record as blobs, and not as manifests. A deleted digest of which nothing was known is both.
SELECT digest FROM blob AS b
WHERE digest = ANY ($1::bytea[]) AND NOT EXISTS (SELECT FROM manifest AS m WHERE m.digest = b.digest)

-- name: add_blobs
-- Adds blobs: digests $1, sizes $2 as an event said them (0: none did); in the order of the digests, so that writers do
-- not deadlock.
INSERT INTO blob (digest, size_bytes)
SELECT * FROM unnest($1::bytea[], $2::bigint[]) AS new (digest, size_bytes) ORDER BY digest
ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes
WHERE blob.size_bytes = 0 AND excluded.size_bytes > 0

-- name: list_unconfirmed
-- Manifests of repository $1 that nothing has confirmed since $2, after digest $3, at most $4: those on record, and
-- those on record as deleted that are children of an index on record.
SELECT m.digest, h.pushed_at, h.as_of, h.deleted_at, h.absent_at, h.pushed_again_at, a.name AS pushed_by
FROM (
    SELECT h.* FROM repository AS r JOIN repository_manifest AS h ON h.repository_id = r.id AND h.deleted_at IS NULL
    WHERE r.name = $1
    UNION ALL
    SELECT h.* FROM repository AS r JOIN repository_manifest AS h ON h.repository_id = r.id AND h.deleted_at IS NOT NULL
    WHERE r.name = $1 AND EXISTS (
        SELECT FROM manifest_child AS c
        JOIN repository_manifest AS i ON i.repository_id = h.repository_id AND i.manifest_id = c.manifest_id
        WHERE c.child_id = h.manifest_id AND i.deleted_at IS NULL
    )
) AS h
JOIN manifest AS m ON m.id = h.manifest_id
LEFT JOIN actor AS a ON a.id = h.pushed_by
WHERE h.as_of < $2 AND m.digest > $3
ORDER BY m.digest LIMIT $4

-- name: confirm_repository_manifests
-- Records that observations agreed with the record: repositories $1 (ids, locked), digests $2, at $3.
UPDATE repository_manifest AS h SET as_of = greatest(h.as_of, observed.at)
FROM unnest($1::integer[], $2::bytea[], $3::timestamptz[]) AS observed (repository_id, digest, at)
JOIN manifest AS m ON m.digest = observed.digest
WHERE h.repository_id = observed.repository_id AND h.manifest_id = m.id

-- name: read_manifests
-- Stores the content of the manifests $1 (ids): sizes $2, totals $3, created $4, facets $5, config media types $6,
-- config digests $7, subjects $8, annotations $9, labels $10, all read at $11; config sizes $12, states $13, the parts
-- that could not be read, one a line, $14, and versions of the operating system $15.
UPDATE manifest AS m
SET size_bytes = new.size_bytes, total_bytes = new.total_bytes, image_created = new.image_created,
    facet_id = new.facet_id, config_media_type_id = new.config_media_type_id, config_digest = new.config_digest,
    subject_digest = new.subject_digest, annotations = new.annotations, labels = new.labels,
    read_at = greatest(m.read_at, $11),
    config_size_bytes = new.config_size_bytes, content = new.content,
    unread = string_to_array(new.unread, E'\n'), os_version = new.os_version
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::integer[], $6::integer[], $7::bytea[],
            $8::bytea[], $9::jsonb[], $10::jsonb[], $12::bigint[], $13::text[], $14::text[], $15::text[])
    AS new (id, size_bytes, total_bytes, image_created, facet_id, config_media_type_id, config_digest, subject_digest,
            annotations, labels, config_size_bytes, content, unread, os_version)
WHERE m.id = new.id

-- name: mark_unreadable
-- Records that the manifest $1 (digest) could not be read in any repository, at $2.
UPDATE manifest SET content = 'unreadable', read_at = $2 WHERE digest = $1 AND content NOT IN ('read', 'partly-read')

-- name: find_dummies
-- The digests of GitLab's dummy manifests that were recognised.
SELECT digest FROM dummy_manifest

-- name: add_dummy
-- Records that manifest $1 (digest) was recognised as a dummy at $2.
INSERT INTO dummy_manifest (digest, found_at) VALUES ($1, $2) ON CONFLICT DO NOTHING

-- name: drop_layers
DELETE FROM manifest_layer WHERE manifest_id = ANY ($1::bigint[])

-- name: add_layers
-- Adds layers: to manifests $1, at positions $2, blobs $3, media types $4, sizes $5 as the manifest says.
INSERT INTO manifest_layer (manifest_id, position, blob_id, media_type_id, size_bytes)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::integer[], $5::bigint[])

-- name: drop_children
DELETE FROM manifest_child WHERE manifest_id = ANY ($1::bigint[])

-- name: add_children
-- Adds children: to indexes $1, at positions $2, manifests $3, platforms $4, OS versions $5, sizes $6 as the index
-- says, media types $7.
INSERT INTO manifest_child (manifest_id, position, child_id, platform, os_version, size_bytes, media_type_id)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::text[], $5::text[], $6::bigint[], $7::integer[])

-- name: find_parents
-- The indexes that have one of the manifests $1 (ids) as a child.
SELECT DISTINCT manifest_id FROM manifest_child WHERE child_id = ANY ($1::bigint[])

-- name: sum_children
-- Computes the total of the indexes $1 (ids) from their distinct children, and their creation time: the latest of their
-- own and their children's. What was read of a child counts only if some repository has, or had, both; one whose media
-- type is not a manifest's ($2) counts with the size that the index says. Returns the ids of those that changed.
UPDATE manifest AS m
SET total_bytes = sums.total, image_created = greatest(m.image_created, sums.created)
FROM (
    SELECT p.manifest_id, max(c.image_created) FILTER (WHERE p.together) AS created,
           least(sum(CASE WHEN p.is_blob THEN p.size_bytes WHEN p.together THEN c.total_bytes ELSE 0 END),
                 9223372036854775807)::bigint AS total
    FROM (
        SELECT DISTINCT ON (k.manifest_id, k.child_id) k.manifest_id, k.child_id, k.size_bytes,
               t.name <> '' AND lower(t.name) <> ALL ($2::text[]) AS is_blob,
               EXISTS (SELECT FROM repository_manifest AS of_child JOIN repository_manifest AS of_index
                           ON of_index.repository_id = of_child.repository_id AND of_index.manifest_id = k.manifest_id
                       WHERE of_child.manifest_id = k.child_id) AS together
        FROM manifest_child AS k LEFT JOIN media_type AS t ON t.id = k.media_type_id
        WHERE k.manifest_id = ANY ($1::bigint[]) ORDER BY k.manifest_id, k.child_id, k.position
    ) AS p
    JOIN manifest AS c ON c.id = p.child_id
    GROUP BY p.manifest_id
) AS sums
WHERE m.id = sums.manifest_id AND (m.total_bytes <> sums.total OR m.image_created < sums.created)
RETURNING m.id

-- name: platforms_of_children
-- The platforms of the children of index $1: as the index says, else as their own config says, of those that some
-- repository has, or had, together with it.
SELECT DISTINCT coalesce(nullif(mc.platform, ''), p) AS platform
FROM manifest_child AS mc
JOIN manifest AS c ON c.id = mc.child_id
JOIN facet AS f ON f.id = c.facet_id
LEFT JOIN LATERAL unnest(f.platforms) AS p ON EXISTS (
    SELECT FROM repository_manifest AS of_child JOIN repository_manifest AS of_index
        ON of_index.repository_id = of_child.repository_id AND of_index.manifest_id = mc.manifest_id
    WHERE of_child.manifest_id = mc.child_id)
WHERE mc.manifest_id = $1

-- name: repositories_holding
-- The repositories that have any of the manifests $1 (ids).
SELECT DISTINCT repository_id FROM repository_manifest WHERE manifest_id = ANY ($1::bigint[]) AND deleted_at IS NULL
ORDER BY repository_id

-- name: lock_repositories_by_id
-- Locks the repositories with the ids $1, in their order.
SELECT id FROM repository WHERE id = ANY ($1::integer[]) ORDER BY id FOR NO KEY UPDATE

-- name: describe_tags
-- Copies what was read of the manifests $1 (ids) to their tags: size, creation time, facet. A publish time that is only
-- known as "not after we first saw it" becomes the image's creation time, if that is possible and later than $2.
UPDATE tag AS t
SET size_bytes = m.total_bytes,
    image_created = m.image_created,
    facet_id = m.facet_id,
    published_at = CASE WHEN borrowed.at IS NULL THEN t.published_at ELSE borrowed.at END,
    published_source = CASE WHEN borrowed.at IS NULL THEN t.published_source ELSE 'image-config' END
FROM tag AS old
JOIN manifest AS m ON m.id = old.manifest_id
LEFT JOIN LATERAL (
    SELECT m.image_created AS at
    WHERE old.published_source = 'first-seen' AND m.image_created < old.published_at AND m.image_created > $2
      AND NOT EXISTS (
          SELECT FROM tag_history AS h
          WHERE h.repository_id = old.repository_id AND h.name = old.name AND h.valid_to = 'infinity'
            AND h.not_before >= m.image_created
      )
) AS borrowed ON true
WHERE old.manifest_id = ANY ($1::bigint[]) AND t.repository_id = old.repository_id AND t.name = old.name
  AND (borrowed.at IS NOT NULL
       OR (t.size_bytes, t.image_created, t.facet_id) IS DISTINCT FROM (m.total_bytes, m.image_created, m.facet_id))

-- name: describe_repository
-- Copies what manifests say to the tags of repository $1 (name), where it differs.
UPDATE tag AS t SET size_bytes = m.total_bytes, image_created = m.image_created, facet_id = m.facet_id
FROM repository AS r, manifest AS m
WHERE r.name = $1 AND t.repository_id = r.id AND m.id = t.manifest_id
  AND (t.size_bytes, t.image_created, t.facet_id) IS DISTINCT FROM (m.total_bytes, m.image_created, m.facet_id)

-- name: facet_of_manifest
-- The facet of manifest $1 (id).
SELECT f.media_type, f.artifact_type, f.kind, f.platforms
FROM manifest AS m JOIN facet AS f ON f.id = m.facet_id WHERE m.id = $1

-- name: set_facet
-- Gives manifest $1 (id) the facet $2.
UPDATE manifest SET facet_id = $2 WHERE id = $1

-- name: count_repository_manifests
-- How many manifests the repositories have.
SELECT coalesce(sum(manifest_count), 0)::bigint FROM repository
