-- name: newest_announced
-- The $2 manifests that tags came to point to last, as events said, of the $1 newest tags; and when.
SELECT m.digest, max(t.published_at) AS published_at
FROM (
    SELECT manifest_id, published_at, published_source FROM tag
    WHERE manifest_id IS NOT NULL AND broken_reason IS NULL
    ORDER BY published_at DESC, repository_id DESC, name DESC LIMIT $1
) AS t
JOIN manifest AS m ON m.id = t.manifest_id
WHERE t.published_source = 'event'
GROUP BY m.digest ORDER BY published_at DESC LIMIT $2
