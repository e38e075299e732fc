-- name: repositories
-- Every repository with something in it, in the order of names; those named $1 only, if it is not null. One that came
-- after a complete full reconcile began was compared by that: it was not there. Not one that has copies of what cleanup deleted.
SELECT id, name, tag_count, manifest_count, coalesce(last_reconciled_at, (
    SELECT max(started_at) FROM reconcile_run
    WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan' AND started_at <= repository.created_at
)) AS last_reconciled_at FROM repository
WHERE ($1::text[] IS NULL OR name = ANY($1::text[])) AND (tag_count > 0 OR manifest_count > 0)
  AND NOT EXISTS (SELECT FROM trash_copy AS c WHERE c.trash = repository.name)
ORDER BY name

-- name: tags
-- The tags of repositories $1, with how it is known since when they point where they do.
SELECT t.repository_id, t.name, t.manifest_id, t.published_at, t.published_source, t.first_seen_at, nullif(t.last_event_at, '-infinity') AS last_event_at,
       t.verified_at, t.broken_reason IS NOT NULL AS broken, h.not_before
FROM tag AS t
LEFT JOIN tag_history AS h ON h.repository_id = t.repository_id AND h.name = t.name AND h.valid_to = 'infinity'
WHERE t.repository_id = ANY($1::integer[])

-- name: restored
-- When tags of repositories $1 that point where a restore of ours put them were last restored.
SELECT r.id AS repository_id, t.name AS tag, max(a.done_at) AS restored_at
FROM repository AS r
JOIN tag_action AS a ON a.repository = r.name AND a.kind = 'restore' AND a.done_at IS NOT NULL
JOIN tag AS t ON t.repository_id = r.id AND t.name = a.tag
JOIN manifest AS m ON m.id = t.manifest_id AND m.digest = a.digest
WHERE r.id = ANY($1::integer[])
GROUP BY r.id, t.name

-- name: restored_manifests
-- When manifests of repositories $1 were last restored by their digest.
SELECT r.id AS repository_id, a.digest, max(a.done_at) AS restored_at
FROM repository AS r JOIN tag_action AS a ON a.repository = r.name AND a.tag = '' AND a.kind = 'restore' AND a.done_at IS NOT NULL
WHERE r.id = ANY($1::integer[])
GROUP BY r.id, a.digest

-- name: manifests
-- The manifests that repositories $1 have. $2: whether configs are wanted. $3: the annotations and labels wanted.
SELECT h.repository_id, m.id, m.digest, greatest(h.pushed_at, h.pushed_again_at) AS pushed_at,
       h.pushed_by IS NOT NULL OR h.pushed_again_at IS NOT NULL AS by_event, m.size_bytes, m.subject_digest,
       CASE WHEN $2 THEN m.config_digest END AS config_digest, m.content, m.unread,
       greatest(h.last_pulled_at, h.last_checked_at) AS used_at, h.pull_count,
       CASE WHEN $3::text[] <> '{}' THEN
           (SELECT jsonb_object_agg(w.key, coalesce(m.annotations ->> w.key, m.labels ->> w.key))
            FROM unnest($3::text[]) AS w (key)
            WHERE coalesce(m.annotations ->> w.key, m.labels ->> w.key) IS NOT NULL)
       END AS annotations
FROM repository_manifest AS h JOIN manifest AS m ON m.id = h.manifest_id
WHERE h.repository_id = ANY($1::integer[]) AND h.deleted_at IS NULL

-- name: children
-- The children of the indexes that repositories $1 have.
SELECT h.repository_id, c.manifest_id, array_agg(c.child_id ORDER BY c.position) AS children
FROM repository_manifest AS h JOIN manifest_child AS c ON c.manifest_id = h.manifest_id
WHERE h.repository_id = ANY($1::integer[]) AND h.deleted_at IS NULL
GROUP BY h.repository_id, c.manifest_id

-- name: ended
-- What tags of repositories $1 pointed to before: of each tag and manifest the last time.
SELECT DISTINCT ON (h.repository_id, h.name, h.manifest_id)
       h.repository_id, h.name, h.manifest_id, h.valid_to, h.to_not_before, h.to_source
FROM tag_history AS h
WHERE h.repository_id = ANY($1::integer[]) AND h.valid_to < 'infinity'
ORDER BY h.repository_id, h.name, h.manifest_id, h.valid_to DESC

-- name: gone
-- Subjects of what repositories $1 have that they do not have any more, and when these went.
SELECT h.repository_id, s.digest, g.deleted_at
FROM repository_manifest AS h
JOIN manifest AS m ON m.id = h.manifest_id AND m.subject_digest IS NOT NULL
JOIN manifest AS s ON s.digest = m.subject_digest
JOIN repository_manifest AS g ON g.repository_id = h.repository_id AND g.manifest_id = s.id
WHERE h.repository_id = ANY($1::integer[]) AND h.deleted_at IS NULL AND g.deleted_at IS NOT NULL

-- name: tag_uses
-- When tags of repositories $1 were pulled or checked by name.
SELECT coalesce(p.repository_id, c.repository_id) AS repository_id, coalesce(p.name, c.name) AS name,
       greatest(p.last_pulled_at, c.last_checked_at) AS used_at
FROM (SELECT * FROM tag_pull WHERE repository_id = ANY($1::integer[])) AS p
FULL JOIN (SELECT * FROM tag_check WHERE repository_id = ANY($1::integer[])) AS c
    ON c.repository_id = p.repository_id AND c.name = p.name

-- name: pulls
-- Who pulled or checked manifests of repositories $1 since $2, and how often, as single entries and as the log has it.
SELECT u.repository_id, u.manifest_id, u.tag, a.name AS actor, c.address, max(u.occurred_at) AS last_at,
       sum(u.times)::bigint AS times
FROM (
    SELECT repository_id, manifest_id, tag, actor_id, client_id, occurred_at, 1 AS times FROM pull_detail
    WHERE repository_id = ANY($1::integer[]) AND occurred_at >= $2
    UNION ALL
    SELECT repository_id, content_id, tag, actor_id, client_id, occurred_at,
           coalesce((detail ->> 'pulls')::bigint, (detail ->> 'checks')::bigint, 1)
    FROM audit_staged
    WHERE repository_id = ANY($1::integer[]) AND occurred_at >= $2 AND action IN ('manifest.pulled', 'manifest.checked')
    UNION ALL
    SELECT repository_id, content_id, tag, actor_id, client_id, occurred_at,
           coalesce((detail ->> 'pulls')::bigint, (detail ->> 'checks')::bigint, 1)
    FROM audit_entry
    WHERE repository_id = ANY($1::integer[]) AND occurred_at >= $2 AND action IN ('manifest.pulled', 'manifest.checked')
) AS u
LEFT JOIN actor AS a ON a.id = u.actor_id
LEFT JOIN client AS c ON c.id = u.client_id
GROUP BY u.repository_id, u.manifest_id, u.tag, a.name, c.address

-- name: deleted_by
-- Which rule deleted tags of repositories $1 from manifests: of each tag and manifest the last.
SELECT DISTINCT ON (p.repository_id, p.digest, p.tag) p.repository_id, p.digest, p.tag, p.rule, p.policy, p.ended_at
FROM cleanup_planned AS p
WHERE p.repository_id = ANY($1::integer[]) AND p.outcome = 'done' AND p.tag <> ''
ORDER BY p.repository_id, p.digest, p.tag, p.ended_at DESC

-- name: coverage
-- Since when pulls are announced (null: they are not), when events were first received, and until when the log was dropped.
SELECT (SELECT changed_at FROM registry_trait WHERE trait = 'announces_pulls' AND holds) AS announced_since,
       (SELECT min(first_seen_at) FROM registry_instance WHERE events > 0) AS first_event_at,
       (SELECT max(heartbeat_at) FROM receiver_session) AS receiver_at,
       (SELECT min(received_at) FROM inbox WHERE done_at IS NULL) AS waiting_since,
       (SELECT max(to_at) FROM loss_interval WHERE needs_reconcile) AS suspected_at,
       (SELECT max(closed_at) FROM audit_part WHERE dropped_at IS NOT NULL) AS dropped_until,
       (SELECT position FROM audit_log_head) AS position

-- name: gaps
-- When events may have been lost.
SELECT from_at, to_at, because FROM loss_interval WHERE state <> 'nothing_lost' ORDER BY to_at DESC LIMIT 1000

-- name: blobs
-- Config and layers of manifests $1 (digests), with their sizes.
SELECT m.digest, b.digest AS blob, greatest(l.size_bytes, b.size_bytes) AS size_bytes
FROM manifest AS m JOIN manifest_layer AS l ON l.manifest_id = m.id JOIN blob AS b ON b.id = l.blob_id
WHERE m.digest = ANY($1::bytea[])
UNION ALL
SELECT m.digest, m.config_digest, coalesce(m.config_size_bytes, 0) FROM manifest AS m
WHERE m.digest = ANY($1::bytea[]) AND m.config_digest IS NOT NULL

-- name: owners
-- How many manifests of all repositories hold each of blobs $1: as a layer, as their config, or as what they are.
SELECT o.digest, sum(o.holders)::bigint AS holders FROM (
    SELECT b.digest, count(DISTINCT (l.manifest_id, h.repository_id)) AS holders
    FROM blob AS b JOIN manifest_layer AS l ON l.blob_id = b.id
    JOIN repository_manifest AS h ON h.manifest_id = l.manifest_id AND h.deleted_at IS NULL
    WHERE b.digest = ANY($1::bytea[]) GROUP BY b.digest
    UNION ALL
    SELECT m.digest, count(*) FROM manifest AS m
    JOIN repository_manifest AS h ON h.manifest_id = m.id AND h.deleted_at IS NULL
    WHERE m.digest = ANY($1::bytea[]) GROUP BY m.digest
) AS o GROUP BY o.digest

-- name: config_owners
-- How many manifests of all repositories have each of blobs $1 as their config. No index has configs: the whole table is
-- read, once for all.
SELECT m.config_digest AS digest, count(*) AS holders
FROM manifest AS m JOIN repository_manifest AS h ON h.manifest_id = m.id AND h.deleted_at IS NULL
WHERE m.config_digest = ANY($1::bytea[]) GROUP BY m.config_digest
