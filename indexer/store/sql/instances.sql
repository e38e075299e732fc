-- name: newest
-- When the newest registry process was first heard of. One without events is known by imported history alone.
SELECT max(first_seen_at) FROM registry_instance WHERE events > 0
