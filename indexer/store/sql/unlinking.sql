-- name: lock_repository
-- Waits until nothing is applied to the repository $1, and keeps it so until the end of the transaction.
SELECT id FROM repository WHERE name = $1 FOR NO KEY UPDATE

-- name: needs
-- What in the repository $1 needs the manifests $2: tags, tags $3 of what is attached to each, indexes, referrers, and
-- subjects, which go before what is attached to them.
SELECT m.digest, n.kind, n.tag, n.by_digest
FROM repository AS r
CROSS JOIN unnest($2::bytea[], $3::text[]) AS wanted (digest, carrier)
JOIN manifest AS m ON m.digest = wanted.digest
CROSS JOIN LATERAL (
    SELECT 'tag' AS kind, t.name AS tag, NULL::bytea AS by_digest FROM tag AS t
    WHERE t.repository_id = r.id AND t.manifest_id = m.id
    UNION ALL
    SELECT 'tag', t.name, NULL FROM tag AS t
    WHERE t.repository_id = r.id AND t.name >= wanted.carrier AND t.name < wanted.carrier || '/'
      AND (t.name = wanted.carrier OR starts_with(t.name, wanted.carrier || '.'))
    UNION ALL
    SELECT 'index', NULL, i.digest FROM manifest_child AS c
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = c.manifest_id AND h.deleted_at IS NULL
    JOIN manifest AS i ON i.id = c.manifest_id
    WHERE c.child_id = m.id
    UNION ALL
    SELECT 'referrer', NULL, f.digest FROM manifest AS f
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = f.id AND h.deleted_at IS NULL
    WHERE f.subject_digest = m.digest
    UNION ALL
    SELECT 'subject', NULL, s.digest FROM manifest AS s
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = s.id AND h.deleted_at IS NULL
    WHERE s.digest = m.subject_digest
) AS n
WHERE r.name = $1

-- name: new_needs
-- What is in the repository $1 and needs the manifest $2, which was deleted: an index, or something attached to it that is
-- not to go itself.
SELECT m.digest, n.kind, NULL AS tag, n.by_digest
FROM repository AS r
JOIN manifest AS m ON m.digest = $2
CROSS JOIN LATERAL (
    SELECT 'index' AS kind, i.digest AS by_digest FROM manifest_child AS c
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = c.manifest_id AND h.deleted_at IS NULL
    JOIN manifest AS i ON i.id = c.manifest_id
    WHERE c.child_id = m.id
    UNION ALL
    SELECT 'referrer', f.digest FROM manifest AS f
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = f.id AND h.deleted_at IS NULL
    WHERE f.subject_digest = m.digest AND NOT EXISTS (
        SELECT FROM cleanup_planned AS p
        WHERE p.repository_id = r.id AND p.tag = '' AND p.digest = f.digest AND p.ended_at IS NULL)
) AS n
WHERE r.name = $1

-- name: unread
-- A manifest of the repository $1 of which it is not known what it refers to; null: there is none.
SELECT m.digest FROM repository AS r
JOIN repository_manifest AS h ON h.repository_id = r.id AND h.deleted_at IS NULL
JOIN manifest AS m ON m.id = h.manifest_id
WHERE r.name = $1 AND (
    m.content NOT IN ('read', 'partly-read')
    OR EXISTS (SELECT FROM unnest(m.unread) AS part WHERE part ~ '^(manifests|layers|subject|config|document)'))
LIMIT 1

-- name: promised_until
-- Until when a restore is promised that needs manifest $2 of the repository $1, of a tag that a person deleted; null: none is at $3.
SELECT max(a.kept_until) FROM trash_manifest AS t JOIN tag_action AS a ON a.id = t.action_id
WHERE t.digest = $2 AND a.repository = $1 AND a.kind = 'delete' AND a.source = 'operator' AND a.done_at IS NOT NULL
  AND a.outcome IS DISTINCT FROM 'not_done' AND a.gone IS NULL AND a.kept_until > $3
  AND NOT EXISTS (SELECT FROM tag_action AS b WHERE b.of_action = a.id AND b.kind = 'restore' AND b.done_at IS NOT NULL
                  AND b.outcome IS DISTINCT FROM 'not_done')

-- name: unsettled
-- What in the repository $1 has an action, other than $2, of which it is not certain that it undid no push; null: nothing.
SELECT repository || CASE WHEN tag = '' THEN '' ELSE ':' || tag END FROM tag_action
WHERE repository = $1 AND id <> $2
  AND (state = 'uncertain' OR (tag <> '' AND state IN ('planned', 'requested', 'done') AND ended_at IS NULL))
LIMIT 1

-- name: family_down
-- The manifest $1 and its children at any depth, with their configs.
WITH RECURSIVE down AS (
    SELECT id FROM manifest WHERE digest = $1
    UNION
    SELECT c.child_id FROM down JOIN manifest_child AS c ON c.manifest_id = down.id
)
SELECT m.digest, m.config_digest FROM down JOIN manifest AS m ON m.id = down.id

-- name: used_since
-- Whether the repository $1 saw any of the manifests $2 pushed since $3, or pulled or checked since $4.
SELECT EXISTS (
    SELECT FROM repository AS r JOIN manifest AS m ON m.digest = ANY($2::bytea[])
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = m.id
    WHERE r.name = $1 AND (h.last_pulled_at > $4 OR h.last_checked_at > $4 OR h.pushed_at > $3 OR h.pushed_again_at > $3)
)

-- name: in_use
-- Whether a source names any of $2 in the repository $1 or in any.
SELECT EXISTS (SELECT FROM in_use_image WHERE repository IN ('', $1) AND reference = ANY($2::text[]))

-- name: may_be_incomplete
-- Whether events may have been lost since the repository $1 was last compared in full with the registry, or it never was.
SELECT coalesce((SELECT max(to_at) FROM loss_interval WHERE needs_reconcile) > c.compared_at, c.compared_at IS NULL)
FROM (
    SELECT coalesce(r.last_reconciled_at, (
        SELECT max(started_at) FROM reconcile_run
        WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan' AND started_at <= r.created_at
    )) AS compared_at FROM repository AS r WHERE r.name = $1
) AS c
