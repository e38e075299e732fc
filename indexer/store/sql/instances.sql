-- name: newest
-- When the newest registry process was first heard of.
SELECT max(first_seen_at) FROM registry_instance
