-- name: find_tags
-- What is on record of the tags $2 of the repositories $1, live or deleted.
SELECT wanted.repository_id, wanted.name, t.name IS NOT NULL AS live, m.digest,
       coalesce(t.revision, d.revision) AS revision, coalesce(t.last_event_at, d.last_event_at) AS last_event_at,
       coalesce(t.last_observed_at, d.last_observed_at) AS last_observed_at, coalesce(t.evidence, d.evidence) AS evidence,
       coalesce(t.published_at, d.deleted_at) AS published_at, t.published_source,
       coalesce(t.first_seen_at, d.deleted_at) AS first_seen_at, a.name AS pushed_by, t.verified_at, t.read_at,
       t.broken_reason, t.alive_since, d.by_dummy
FROM unnest($1::integer[], $2::text[]) AS wanted (repository_id, name)
LEFT JOIN tag AS t ON t.repository_id = wanted.repository_id AND t.name = wanted.name
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN actor AS a ON a.id = t.pushed_by
LEFT JOIN tag_tombstone AS d ON t.name IS NULL AND d.repository_id = wanted.repository_id AND d.name = wanted.name
WHERE t.name IS NOT NULL OR d.name IS NOT NULL

-- name: list_readable_tags
-- At most $2 tags on record as readable, from the repositories after the share $1 of all.
SELECT r.name AS repository, t.name AS tag
FROM tag AS t JOIN repository AS r ON r.id = t.repository_id
WHERE t.repository_id > (SELECT floor($1::float8 * max(id))::integer FROM repository)
  AND t.manifest_id IS NOT NULL AND t.broken_reason IS NULL
ORDER BY t.repository_id, t.name LIMIT $2

-- name: put_tags
-- Writes live tags: repositories $1, names $2, manifests $3, published at $4, first seen at $5, last event at $6, last
-- observed at $7, verified at $8, read at $9, pushed by $10, revisions $11, publish sources $12, evidence $13, why
-- broken $14, semver keys $15, alive since $17. Size, creation time and facet come from the manifest; $16 is the facet
-- of a tag whose manifest was never announced.
INSERT INTO tag (repository_id, name, manifest_id, published_at, first_seen_at, last_event_at, last_observed_at,
                 verified_at, read_at, pushed_by, revision, published_source, evidence, broken_reason, semver_key,
                 alive_since, size_bytes, image_created, facet_id, large)
SELECT new.repository_id, new.name, new.manifest_id, new.published_at, new.first_seen_at, new.last_event_at,
       new.last_observed_at, new.verified_at, new.read_at, new.pushed_by, new.revision, new.published_source,
       new.evidence, new.broken_reason, new.semver_key, new.alive_since, coalesce(m.total_bytes, 0),
       coalesce(m.image_created, '-infinity'), coalesce(m.facet_id, $16), r.large
FROM unnest($1::integer[], $2::text[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::integer[], $11::integer[], $12::text[],
            $13::text[], $14::text[], $15::bytea[], $17::timestamptz[])
    AS new (repository_id, name, manifest_id, published_at, first_seen_at, last_event_at, last_observed_at,
            verified_at, read_at, pushed_by, revision, published_source, evidence, broken_reason, semver_key,
            alive_since)
JOIN repository AS r ON r.id = new.repository_id
LEFT JOIN manifest AS m ON m.id = new.manifest_id
ON CONFLICT (repository_id, name) DO UPDATE
SET manifest_id = excluded.manifest_id, published_at = excluded.published_at, first_seen_at = excluded.first_seen_at,
    last_event_at = excluded.last_event_at, last_observed_at = excluded.last_observed_at,
    verified_at = excluded.verified_at, read_at = excluded.read_at, pushed_by = excluded.pushed_by,
    revision = excluded.revision, published_source = excluded.published_source, evidence = excluded.evidence,
    broken_reason = excluded.broken_reason, alive_since = excluded.alive_since,
    size_bytes = excluded.size_bytes, image_created = excluded.image_created, facet_id = excluded.facet_id

-- name: drop_tags
-- Removes the live rows of the tags $2 of the repositories $1.
DELETE FROM tag AS t USING unnest($1::integer[], $2::text[]) AS gone (repository_id, name)
WHERE t.repository_id = gone.repository_id AND t.name = gone.name

-- name: put_tombstones
-- Writes tombstones: repositories $1, names $2, deleted at $3, last event at $4, last observed at $5, revisions $6,
-- evidence $7, verified $8, by a dummy $9.
INSERT INTO tag_tombstone
    (repository_id, name, deleted_at, last_event_at, last_observed_at, revision, evidence, verified, by_dummy)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
                     $6::integer[], $7::text[], $8::boolean[], $9::boolean[])
ON CONFLICT (repository_id, name) DO UPDATE
SET deleted_at = excluded.deleted_at, last_event_at = excluded.last_event_at,
    last_observed_at = excluded.last_observed_at, revision = excluded.revision, evidence = excluded.evidence, verified = excluded.verified,
    by_dummy = excluded.by_dummy

-- name: drop_tombstones
-- Removes the tombstones of the tags $2 of the repositories $1, which live again.
DELETE FROM tag_tombstone AS d USING unnest($1::integer[], $2::text[]) AS back (repository_id, name)
WHERE d.repository_id = back.repository_id AND d.name = back.name

-- name: tags_of_digests
-- The live tags of the repositories $1 that point to the digests $2.
SELECT t.repository_id, t.name
FROM unnest($1::integer[], $2::bytea[]) AS wanted (repository_id, digest)
JOIN manifest AS m ON m.digest = wanted.digest
JOIN tag AS t ON t.manifest_id = m.id AND t.repository_id = wanted.repository_id

-- name: find_pointing
-- Those of the manifests with the digests $2 of the repositories $1 that a live, not broken tag points to.
SELECT DISTINCT t.repository_id, wanted.digest
FROM unnest($1::integer[], $2::bytea[]) AS wanted (repository_id, digest)
JOIN manifest AS m ON m.digest = wanted.digest
JOIN tag AS t ON t.manifest_id = m.id AND t.repository_id = wanted.repository_id AND t.broken_reason IS NULL

-- name: list_recorded
-- The live tags of repository $1 (name), by name after $2, at most $3, and whether their manifest is on record in the
-- repository.
SELECT t.name, m.digest, t.revision, t.read_at, t.verified_at, t.last_event_at, t.last_observed_at,
       t.broken_reason IS NOT NULL AS broken, h.manifest_id IS NOT NULL AS has_manifest
FROM repository AS r
JOIN tag AS t ON t.repository_id = r.id
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN repository_manifest AS h
    ON h.repository_id = t.repository_id AND h.manifest_id = t.manifest_id AND h.deleted_at IS NULL
WHERE r.name = $1 AND t.name > $2
ORDER BY t.name LIMIT $3

-- name: count_live
-- How many live tags the inventory has.
SELECT coalesce(sum(tag_count), 0)::bigint FROM repository

-- name: trim_tombstones
-- Removes at most $2 tombstones of deletions before $1.
DELETE FROM tag_tombstone WHERE (repository_id, name) IN (
    SELECT repository_id, name FROM tag_tombstone WHERE deleted_at < $1 LIMIT $2
)

-- name: add_pulls
-- Counts pulls of tags: repositories $1, names $2, latest $3, counts $4.
INSERT INTO tag_pull (repository_id, name, last_pulled_at, pull_count)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::bigint[])
ON CONFLICT (repository_id, name) DO UPDATE
SET last_pulled_at = greatest(tag_pull.last_pulled_at, excluded.last_pulled_at),
    pull_count = tag_pull.pull_count + excluded.pull_count

-- name: add_checks
-- Records when tags were last checked: repositories $1, names $2, latest $3.
INSERT INTO tag_check (repository_id, name, last_checked_at)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[])
ON CONFLICT (repository_id, name) DO UPDATE
SET last_checked_at = greatest(tag_check.last_checked_at, excluded.last_checked_at)

-- name: add_manifest_pulls
-- Counts pulls of manifests: repositories $1, digests $2, latest $3, counts $4, latest checks $5; null: none.
UPDATE repository_manifest AS h
SET last_pulled_at = greatest(h.last_pulled_at, new.last_at), pull_count = h.pull_count + new.pulls,
    last_checked_at = greatest(h.last_checked_at, new.checked_at)
FROM unnest($1::integer[], $2::bytea[], $3::timestamptz[], $4::bigint[], $5::timestamptz[])
    AS new (repository_id, digest, last_at, pulls, checked_at)
JOIN manifest AS m ON m.digest = new.digest
WHERE h.repository_id = new.repository_id AND h.manifest_id = m.id
