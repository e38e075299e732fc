-- name: list_parts
-- All parts, by position.
SELECT first_position, last_position, opened_at, closed_at, dropped_at, file FROM audit_part ORDER BY first_position

-- name: first_position
-- Where the log begins: the first part that was not dropped.
SELECT min(first_position) FROM audit_part WHERE dropped_at IS NULL

-- name: close_part
-- Closes the part that begins at $1, with last position $2, at $3.
UPDATE audit_part SET last_position = $2, closed_at = $3 WHERE first_position = $1

-- name: open_part
-- Adds a part that begins at $1, opened at $2.
INSERT INTO audit_part (first_position, opened_at) VALUES ($1, $2)

-- name: set_part_opened
-- Sets when the open part that begins at $1 was opened: $2.
UPDATE audit_part SET opened_at = $2 WHERE first_position = $1 AND last_position IS NULL

-- name: part_to_reindex
-- The first of the closed parts in the log whose indexes were not rebuilt.
SELECT first_position FROM audit_part
WHERE last_position IS NOT NULL AND dropped_at IS NULL AND reindexed_at IS NULL ORDER BY first_position LIMIT 1

-- name: indexes_of_part
-- The indexes of table $1, and which are valid: one whose build was interrupted is not.
SELECT c.relname AS name, i.indisvalid AS valid
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = to_regclass($1) ORDER BY c.relname

-- name: mark_reindexed
-- Records that the indexes of the part that begins at $1 were rebuilt at $2.
UPDATE audit_part SET reindexed_at = $2 WHERE first_position = $1

-- name: mark_dropped
-- Records that the closed part that begins at $1 was dropped at $2; archived in file $3 with SHA-256 $4. No row if it
-- was dropped already.
UPDATE audit_part SET dropped_at = $2, file = $3, sha256 = $4
WHERE first_position = $1 AND dropped_at IS NULL AND last_position IS NOT NULL RETURNING first_position

-- name: hold_head
-- Waits for the sealer, and keeps it out.
SELECT position FROM audit_log_head FOR UPDATE

