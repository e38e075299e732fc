-- name: repository_number
-- The id of the repository $1 (name).
SELECT id FROM repository WHERE name = $1

-- name: tag_names
-- Names of the live tags of the repository $1 (id) after $2, at most $3.
SELECT name FROM tag WHERE repository_id = $1 AND name > $2 ORDER BY name LIMIT $3
