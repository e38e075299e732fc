-- name: tag_known
-- Whether tag $2 of repository $1 (id) is or ever was on record.
SELECT EXISTS (SELECT FROM tag WHERE repository_id = $1 AND name = $2)
    OR EXISTS (SELECT FROM tag_history WHERE repository_id = $1 AND name = $2)
