-- name: find_tag
-- The live tag $2 of repository $1 (id). Instants are only shown, so they are text.
SELECT t.name, m.digest, t.facet_id, t.size_bytes, t.published_at::text, t.published_source, t.image_created::text,
       t.first_seen_at::text, p.last_pulled_at::text, p.pull_count, k.last_checked_at::text, m.config_digest, t.pushed_by,
       t.verified_at::text, t.broken_reason, t.manifest_id
FROM tag AS t
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN tag_pull AS p ON p.repository_id = t.repository_id AND p.name = t.name
LEFT JOIN tag_check AS k ON k.repository_id = t.repository_id AND k.name = t.name
WHERE t.repository_id = $1 AND t.name = $2

-- name: names_of_manifest
-- The live tags of repository $1 that point to manifest $2, by name, at most $3.
SELECT name FROM tag WHERE repository_id = $1 AND manifest_id = $2 ORDER BY name LIMIT $3
