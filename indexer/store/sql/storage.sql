-- name: save_findings
-- Stores findings $1 (an array of objects with the columns' names), found at $2. Returns the ids of those that are new and
-- damaged.
WITH found AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS f (
        is_damaged boolean, repairable boolean, code text, repository text, path text, tag text, digest text, tags text[],
        tags_count integer, text text, advice text)
), saved AS (
    INSERT INTO storage_finding (first_seen_at, last_seen_at, is_damaged, repairable, code, repository, path, tag, digest,
                                 tags, tags_count, text, advice)
    SELECT $2, $2, f.is_damaged, f.repairable, f.code, f.repository, f.path, f.tag, f.digest, f.tags, f.tags_count, f.text,
           f.advice
    FROM found AS f ORDER BY f.repository, f.path, f.code
    ON CONFLICT (repository, path, code) DO UPDATE
        SET last_seen_at = EXCLUDED.last_seen_at, is_damaged = EXCLUDED.is_damaged, repairable = EXCLUDED.repairable,
            tag = EXCLUDED.tag, digest = EXCLUDED.digest, tags = EXCLUDED.tags, tags_count = EXCLUDED.tags_count,
            text = EXCLUDED.text, advice = EXCLUDED.advice
    RETURNING id, is_damaged, first_seen_at = last_seen_at AS is_new
)
SELECT id FROM saved WHERE is_new AND is_damaged ORDER BY id

-- name: stage_damaged
-- Stages an entry for each of the findings $1, at $2.
INSERT INTO audit_staged (occurred_at, recorded_at, action, source, repository_id, tag, content_id, detail)
SELECT $2, $2, 'storage.damaged'::audit_action, 'storage', r.id, f.tag, NULL,
       jsonb_strip_nulls(jsonb_build_object(
           'code', f.code, 'digest', f.digest, 'path', f.path, 'tags', to_jsonb(f.tags), 'tags_count', f.tags_count,
           'text', f.text, 'advice', f.advice,
           'named_repository', CASE WHEN r.id IS NULL THEN nullif(f.repository, '') END))
FROM storage_finding AS f LEFT JOIN repository AS r ON r.name = f.repository
WHERE f.id = ANY($1::bigint[]) ORDER BY f.id

-- name: drop_findings
-- Deletes the findings that were last seen before $1.
DELETE FROM storage_finding WHERE last_seen_at < $1

-- name: save_check
-- Stores the newest check: ended at $1, begun at $2, of job $3, with content $4, proven by $5 with sentence $6; it read
-- repositories $7 and blobs $8, compared $9 of these, and found damage $10 and harmless things $11.
INSERT INTO storage_check (checked_at, begun_at, job_id, content, proven_by, proof, repositories, blobs, compared, damaged,
                           harmless)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (singleton) DO UPDATE
    SET checked_at = EXCLUDED.checked_at, begun_at = EXCLUDED.begun_at, job_id = EXCLUDED.job_id, content = EXCLUDED.content,
        proven_by = EXCLUDED.proven_by, proof = EXCLUDED.proof, repositories = EXCLUDED.repositories,
        blobs = EXCLUDED.blobs, compared = EXCLUDED.compared, damaged = EXCLUDED.damaged, harmless = EXCLUDED.harmless

-- name: find_check
-- The newest check.
SELECT checked_at, begun_at, job_id, content, proven_by, proof, repositories, blobs, compared, damaged, harmless
FROM storage_check

-- name: known_wrong
-- Digests whose bytes were found to be wrong.
SELECT DISTINCT digest FROM storage_finding WHERE code LIKE '%.wrong_content' AND digest IS NOT NULL

-- name: count_findings
-- The number of findings by code.
SELECT code, is_damaged, count(*) AS findings FROM storage_finding GROUP BY code, is_damaged ORDER BY code

-- name: findings_of
-- At most $2 findings in repository $1, damaged ones first.
SELECT first_seen_at, last_seen_at, is_damaged, repairable, code, repository, path, tag, digest, tags, tags_count, text,
       advice
FROM storage_finding WHERE repository = $1 ORDER BY is_damaged DESC, path, code LIMIT $2

-- name: save_sample
-- Stores the bytes of a pass at $1 in place of an earlier one of the day: stored bytes $2, blobs $3, referenced bytes $4,
-- blobs $5, tagged $6, children $7, referrers $8, old $9, untagged $10, uploads $11, links $12, unknown $13,
-- repositories $14, tags $15, manifests $16.
INSERT INTO storage_sample (taken_at, taken_on, stored_bytes, stored_blobs, referenced_bytes, referenced_blobs, tagged_bytes,
                            children_bytes, referrers_bytes, old_bytes, untagged_bytes, upload_bytes, link_bytes,
                            unknown_bytes, repositories, tags, manifests)
VALUES ($1, ($1::timestamptz AT TIME ZONE 'UTC')::date, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
ON CONFLICT (taken_on) DO UPDATE
    SET taken_at = EXCLUDED.taken_at, stored_bytes = EXCLUDED.stored_bytes, stored_blobs = EXCLUDED.stored_blobs,
        referenced_bytes = EXCLUDED.referenced_bytes, referenced_blobs = EXCLUDED.referenced_blobs,
        tagged_bytes = EXCLUDED.tagged_bytes, children_bytes = EXCLUDED.children_bytes,
        referrers_bytes = EXCLUDED.referrers_bytes, old_bytes = EXCLUDED.old_bytes,
        untagged_bytes = EXCLUDED.untagged_bytes, upload_bytes = EXCLUDED.upload_bytes, link_bytes = EXCLUDED.link_bytes,
        unknown_bytes = EXCLUDED.unknown_bytes, repositories = EXCLUDED.repositories, tags = EXCLUDED.tags,
        manifests = EXCLUDED.manifests

-- name: newest_samples
-- At most $1 samples, newest first.
SELECT taken_at, stored_bytes, stored_blobs, referenced_bytes, referenced_blobs, tagged_bytes, children_bytes,
       referrers_bytes, old_bytes, untagged_bytes, upload_bytes, link_bytes, unknown_bytes, repositories, tags, manifests
FROM storage_sample ORDER BY taken_on DESC LIMIT $1

-- name: drop_shares
-- Forgets the bytes of all names.
DELETE FROM storage_share

-- name: save_shares
-- Stores the bytes of names: $1 whether a prefix, $2 names, $3 referenced, $4 exclusive, $5 attributed, $6 tags, $7
-- manifests, $8 repositories.
INSERT INTO storage_share (is_prefix, name, referenced_bytes, exclusive_bytes, attributed_bytes, tags, manifests,
                           repositories)
SELECT * FROM unnest($1::boolean[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                     $8::bigint[])

-- name: find_share
-- The bytes of repository $1.
SELECT name, referenced_bytes, exclusive_bytes, attributed_bytes, tags, manifests, repositories
FROM storage_share WHERE NOT is_prefix AND name = $1

-- name: largest_shares
-- At most $2 repositories, or prefixes where $1, with the most attributed bytes.
SELECT name, referenced_bytes, exclusive_bytes, attributed_bytes, tags, manifests, repositories
FROM storage_share WHERE is_prefix = $1 ORDER BY attributed_bytes DESC, name LIMIT $2

-- name: drop_roots
-- Forgets the bytes of digests that tags point to.
DELETE FROM storage_root

-- name: save_roots
-- Stores the bytes of digests $2 that tags of the repositories $1 (names) point to: referenced $3, exclusive $4,
-- attributed $5. Those that are not on record are left out.
INSERT INTO storage_root (repository_id, manifest_id, referenced_bytes, exclusive_bytes, attributed_bytes)
SELECT r.id, m.id, w.referenced_bytes, w.exclusive_bytes, w.attributed_bytes
FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bigint[], $5::bigint[])
    AS w (repository, digest, referenced_bytes, exclusive_bytes, attributed_bytes)
JOIN repository AS r ON r.name = w.repository JOIN manifest AS m ON m.digest = w.digest
ON CONFLICT DO NOTHING

-- name: find_root
-- The bytes of manifest $2 in the repository $1, and when the storage was read.
SELECT referenced_bytes, exclusive_bytes, attributed_bytes, (SELECT max(taken_at) FROM storage_sample) AS as_of
FROM storage_root WHERE repository_id = $1 AND manifest_id = $2

-- name: in_trash
-- Manifests that are kept to put deleted tags back, as long as that is promised at $1: at most $3 after digest $2.
SELECT k.digest, k.content FROM kept_manifest AS k
WHERE k.digest > $2 AND EXISTS (
    SELECT FROM trash_manifest AS t JOIN tag_action AS a ON a.id = t.action_id
    WHERE t.digest = k.digest AND a.kind IN ('delete', 'unlink') AND a.kept_until > $1
      AND a.outcome IS DISTINCT FROM 'not_done' AND a.gone IS NULL)
ORDER BY k.digest LIMIT $3
