-- name: tag_known
-- Whether tag $2 of repository $1 (id) is or ever was on record.
SELECT EXISTS (SELECT FROM tag WHERE repository_id = $1 AND name = $2)
    OR EXISTS (SELECT FROM tag_history WHERE repository_id = $1 AND name = $2)

-- name: digests_at
-- What each tag $2 of repository $1 (ids) pointed to at the instant $3, in their order; null: nothing.
SELECT m.digest
FROM unnest($1::integer[], $2::text[]) WITH ORDINALITY AS wanted (repository_id, name, place)
LEFT JOIN LATERAL (
    SELECT manifest_id, valid_to FROM tag_history AS h
    WHERE h.repository_id = wanted.repository_id AND h.name = wanted.name AND h.valid_from <= $3::timestamptz
    ORDER BY h.valid_from DESC LIMIT 1
) AS h ON h.valid_to > $3::timestamptz
LEFT JOIN manifest AS m ON m.id = h.manifest_id
ORDER BY wanted.place
