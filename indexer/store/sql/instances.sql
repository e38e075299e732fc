-- name: newest
-- When the first event of the newest registry instance was received. One without events is known from imported history
-- only.
SELECT max(first_seen_at) FROM registry_instance WHERE events > 0
