-- name: list_unexplained
-- At most $1 findings whose cause may still become known, the oldest first, after ($2, $3): detected at, id.
SELECT f.id, f.detected_at, f.not_before, f.cause, f.repository_id, r.name AS repository, f.tag, f.expected, f.found
FROM drift_finding AS f JOIN repository AS r ON r.id = f.repository_id
WHERE f.explained_at IS NULL AND (f.detected_at, f.id) > ($2, $3)
ORDER BY f.detected_at, f.id LIMIT $1

-- name: was_announced
-- Whether an event of ($3, $4] announced tag $2 of repository $1 with digest $5, or deleted (null).
SELECT EXISTS (
    SELECT FROM (
        SELECT repository_id, occurred_at, tag, event_key, action, content_id FROM audit_entry
        UNION ALL
        SELECT repository_id, occurred_at, tag, event_key, action, content_id FROM audit_staged
    ) AS e LEFT JOIN manifest AS m ON m.id = e.content_id
    WHERE e.repository_id = $1 AND e.occurred_at > $3 AND e.occurred_at <= $4 AND e.tag = $2 AND e.event_key IS NOT NULL
      AND CASE WHEN $5::bytea IS NULL THEN e.action = 'tag.deleted' ELSE m.digest = $5 END)

-- name: claims_between
-- Loss statements of any process or instance that overlap ($1, $2].
SELECT state, from_at, to_at, lost, because, needs_reconcile, waiting_at_end FROM loss_interval
WHERE to_at > $1 AND from_at < $2

-- name: accounts_between
-- Processes whose counters were read, and that are not known to have ended before $1 or begun after $2.
SELECT began_at, accounted_until, ended_at FROM registry_process
WHERE (ended_at IS NULL OR ended_at > $1) AND began_at <= $2

-- name: uncounted_between
-- Whether events came in ($1, $2] from a registry instance whose counters are not read.
SELECT EXISTS (
    SELECT FROM registry_instance AS i WHERE i.last_seen_at > $1 AND i.first_seen_at <= $2 AND i.events > 0
      AND NOT EXISTS (SELECT FROM registry_process AS p WHERE p.instance_id = i.id))

-- name: own_layer
-- The smallest layer of manifest $1 (digest) that no other manifest has which is on record in any repository.
SELECT b.digest FROM manifest AS m
JOIN manifest_layer AS l ON l.manifest_id = m.id
JOIN blob AS b ON b.id = l.blob_id
WHERE m.digest = $1 AND NOT EXISTS (
    SELECT FROM manifest_layer AS o
    JOIN repository_manifest AS h ON h.manifest_id = o.manifest_id AND h.deleted_at IS NULL
    WHERE o.blob_id = l.blob_id AND o.manifest_id <> m.id)
ORDER BY b.size_bytes LIMIT 1

-- name: explain
-- Records at $3 that the cause of finding $1 is $2, unless it has one.
UPDATE drift_finding SET cause = $2, explained_at = $3 WHERE id = $1 AND explained_at IS NULL
