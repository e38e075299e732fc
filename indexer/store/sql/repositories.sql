-- name: add_repositories
-- Adds the repositories $1 (names), each with the instant $2 of its first event; in the order of their names, so that
-- writers do not deadlock.
INSERT INTO repository (name, created_at)
SELECT name, created_at FROM unnest($1::text[], $2::timestamptz[]) AS new (name, created_at)
WHERE NOT EXISTS (SELECT FROM repository AS r WHERE r.name = new.name)
ORDER BY name
ON CONFLICT DO NOTHING

-- name: lock_repositories
-- Locks the repositories $1 (names), in the order of their ids, and returns their ids.
SELECT name, id FROM repository WHERE name = ANY ($1::text[]) ORDER BY id FOR NO KEY UPDATE

-- name: count_repositories
-- Adds to the counters: ids $1, tags $2, manifests $3, published at $4, pulled at $5, announced at $6, checked at $8.
-- Those that come to have more than $7 tags are large from then on, with their tags, which are written before.
WITH new AS (
    SELECT * FROM unnest($1::integer[], $2::integer[], $3::integer[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                         $8::timestamptz[])
        AS new (id, tags, manifests, published_at, pulled_at, announced_at, checked_at)
), grown AS (
    SELECT r.id FROM new JOIN repository AS r ON r.id = new.id WHERE NOT r.large AND r.tag_count + new.tags > $7
), counted AS (
    UPDATE repository AS r
    SET tag_count = r.tag_count + new.tags,
        manifest_count = r.manifest_count + new.manifests,
        last_published_at = greatest(r.last_published_at, new.published_at),
        last_pulled_at = greatest(r.last_pulled_at, new.pulled_at),
        last_checked_at = greatest(r.last_checked_at, new.checked_at),
        created_at = least(r.created_at, new.announced_at),
        large = r.large OR r.tag_count + new.tags > $7
    FROM new
    WHERE r.id = new.id
      AND (new.tags <> 0 OR new.manifests <> 0 OR new.published_at > r.last_published_at
           OR new.pulled_at > r.last_pulled_at OR new.checked_at > r.last_checked_at OR new.announced_at < r.created_at)
)
UPDATE tag AS t SET large = true FROM grown WHERE t.repository_id = grown.id

-- name: mark_reconciled
-- Records that a comparison of repository $1, begun at $2, was complete.
UPDATE repository SET last_reconciled_at = greatest(last_reconciled_at, $2) WHERE name = $1

-- name: find_miscount
-- What must be added to the counters of repository $1 (name) to agree with its rows; no row if they agree. Rows and
-- counters change in one transaction, so a snapshot never shows one without the other.
SELECT * FROM (
    SELECT r.id,
           (SELECT count(*) FROM tag AS t WHERE t.repository_id = r.id)::integer - r.tag_count AS tags,
           (SELECT count(*) FROM repository_manifest AS h WHERE h.repository_id = r.id AND h.deleted_at IS NULL)::integer
               - r.manifest_count AS manifests
    FROM repository AS r WHERE r.name = $1
) AS counted WHERE tags <> 0 OR manifests <> 0

-- name: list_names
-- The repositories on record, by name after $1, at most $2.
SELECT name FROM repository WHERE name > $1 ORDER BY name LIMIT $2

-- name: measure
-- Computes what repository $1 stores: each distinct manifest, config and layer once. A blob's size is what an event
-- said, else the largest that a manifest of this repository says.
WITH present AS (
    SELECT manifest_id FROM repository_manifest WHERE repository_id = $1 AND deleted_at IS NULL
), claimed AS (
    SELECT l.blob_id, max(l.size_bytes) AS size_bytes
    FROM present JOIN manifest_layer AS l ON l.manifest_id = present.manifest_id GROUP BY l.blob_id
), content (digest, size_bytes) AS (
    SELECT m.digest, m.size_bytes FROM present JOIN manifest AS m ON m.id = present.manifest_id
    UNION ALL
    SELECT b.digest, coalesce(nullif(b.size_bytes, 0), c.size_bytes)
    FROM claimed AS c JOIN blob AS b ON b.id = c.blob_id
    UNION ALL
    SELECT m.config_digest, coalesce(nullif(b.size_bytes, 0), m.config_size_bytes, 0)
    FROM present JOIN manifest AS m ON m.id = present.manifest_id LEFT JOIN blob AS b ON b.digest = m.config_digest
    WHERE m.config_digest IS NOT NULL
), once AS (
    SELECT max(size_bytes) AS size_bytes FROM content GROUP BY digest
)
UPDATE repository
SET size_bytes = least(coalesce((SELECT sum(size_bytes) FROM once), 0), 9223372036854775807)::bigint, measured_at = $2
WHERE id = $1

-- name: find_ids
-- Ids of the repositories $1 names.
SELECT name, id FROM repository WHERE name = ANY ($1::text[])

-- name: last_reconciled
-- When the last complete comparison of repository $1 (name) began; null: never.
SELECT last_reconciled_at FROM repository WHERE name = $1
