-- name: head_position
-- The position of the newest sealed entry.
SELECT position FROM audit_log_head

-- name: clients_at
-- Ids of the clients at address $1.
SELECT id FROM client WHERE address = $1
