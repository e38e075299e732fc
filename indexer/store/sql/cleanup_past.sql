-- name: intervals
-- What tags of repository $1 pointed to, and when; what ended before $2 is left out.
SELECT h.name, m.digest, h.valid_from, nullif(h.valid_to, 'infinity') AS valid_to, h.not_before, h.from_source
FROM tag_history AS h JOIN manifest AS m ON m.id = h.manifest_id
WHERE h.repository_id = $1 AND h.valid_to > $2 ORDER BY h.name, h.valid_from

-- name: manifests
-- The manifests that repository $1 has, or lost after $2. $3: the annotations and labels wanted.
SELECT m.id, m.digest, h.pushed_at, h.pushed_by IS NOT NULL AS by_event, h.deleted_at, m.size_bytes, m.subject_digest,
       m.content, m.unread,
       ARRAY(SELECT k.digest FROM manifest_child AS c JOIN manifest AS k ON k.id = c.child_id
             WHERE c.manifest_id = m.id ORDER BY c.position) AS children,
       CASE WHEN $3::text[] <> '{}' THEN
           (SELECT jsonb_object_agg(w.key, coalesce(m.annotations ->> w.key, m.labels ->> w.key))
            FROM unnest($3::text[]) AS w (key)
            WHERE coalesce(m.annotations ->> w.key, m.labels ->> w.key) IS NOT NULL)
       END AS annotations
FROM repository_manifest AS h JOIN manifest AS m ON m.id = h.manifest_id
WHERE h.repository_id = $1 AND (h.deleted_at IS NULL OR h.deleted_at > $2)

-- name: uses
-- Who pulled or checked manifests of repository $1 since $2, day by day, in the order of time.
SELECT m.digest, u.tag, a.name AS actor, c.address, max(u.occurred_at) AS at, sum(u.times)::bigint AS times
FROM (
    SELECT manifest_id, tag, actor_id, client_id, occurred_at, 1 AS times FROM pull_detail
    WHERE repository_id = $1 AND occurred_at >= $2
    UNION ALL
    SELECT content_id, tag, actor_id, client_id, occurred_at,
           coalesce((detail ->> 'pulls')::bigint, (detail ->> 'checks')::bigint, 1)
    FROM audit_staged
    WHERE repository_id = $1 AND occurred_at >= $2 AND action IN ('manifest.pulled', 'manifest.checked')
    UNION ALL
    SELECT content_id, tag, actor_id, client_id, occurred_at,
           coalesce((detail ->> 'pulls')::bigint, (detail ->> 'checks')::bigint, 1)
    FROM audit_entry
    WHERE repository_id = $1 AND occurred_at >= $2 AND action IN ('manifest.pulled', 'manifest.checked')
) AS u
JOIN manifest AS m ON m.id = u.manifest_id
LEFT JOIN actor AS a ON a.id = u.actor_id
LEFT JOIN client AS c ON c.id = u.client_id
GROUP BY m.digest, u.tag, a.name, c.address, date_trunc('day', u.occurred_at AT TIME ZONE 'UTC')
ORDER BY max(u.occurred_at)

-- name: pushes
-- When tags of repository $1 were pushed or restored since $2, in the order of time.
SELECT p.tag, m.digest, p.occurred_at, p.action = 'cleanup.restored' AS restored FROM (
    SELECT tag, content_id, occurred_at, action::text AS action FROM audit_staged
    WHERE repository_id = $1 AND occurred_at >= $2 AND tag IS NOT NULL
    UNION ALL
    SELECT tag, content_id, occurred_at, action::text AS action FROM audit_entry
    WHERE repository_id = $1 AND occurred_at >= $2 AND tag IS NOT NULL
) AS p
JOIN manifest AS m ON m.id = p.content_id
WHERE p.action IN ('tag.created', 'tag.moved', 'tag.repushed', 'cleanup.restored')
ORDER BY p.occurred_at

-- name: log_begins
-- When the oldest part of the log that is kept was opened.
SELECT min(opened_at) FROM audit_part WHERE dropped_at IS NULL
