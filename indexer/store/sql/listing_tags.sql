-- name: find_tag
-- The live tag $2 of repository $1 (id). Instants are only shown, so they are text.
SELECT t.name, m.digest, t.facet_id, t.size_bytes, t.published_at::text, t.published_source, t.image_created::text,
       t.first_seen_at::text, p.last_pulled_at::text, p.pull_count, k.last_checked_at::text, m.config_digest, t.pushed_by,
       t.verified_at::text, t.broken_reason, t.repository_id, t.manifest_id
FROM tag AS t
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN tag_pull AS p ON p.repository_id = t.repository_id AND p.name = t.name
LEFT JOIN tag_check AS k ON k.repository_id = t.repository_id AND k.name = t.name
WHERE t.repository_id = $1 AND t.name = $2

-- name: names_of_manifest
-- The live tags of repository $1 that point to manifest $2, by name, at most $3.
SELECT name FROM tag WHERE repository_id = $1 AND manifest_id = $2 ORDER BY name LIMIT $3

-- name: expiring
-- What cleanup planned of tags: their repositories $1 (ids), names $2 and digests $3; number is the place in these lists.
SELECT v.number, e.due_at::text, e.policy, e.rule
FROM unnest($1::integer[], $2::text[], $3::bytea[]) WITH ORDINALITY AS v (repository_id, name, digest, number)
JOIN cleanup_planned AS e ON e.repository_id = v.repository_id AND e.tag = v.name AND e.digest = v.digest AND e.ended_at IS NULL
