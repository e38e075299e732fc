-- name: find_repository
-- The repository $1 (name).
SELECT name, tag_count, manifest_count, size_bytes, created_at, last_published_at, last_pulled_at, last_checked_at,
       last_reconciled_at
FROM repository WHERE name = $1
