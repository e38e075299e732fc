-- name: record_action
-- Stages an entry of what an operator or a policy did: at $1, action $2, source $3, actor $4, client $5, detail $6.
INSERT INTO audit_staged (occurred_at, recorded_at, action, source, actor_id, client_id, detail)
VALUES ($1, $1, $2::text::audit_action, $3::text::audit_source, $4, $5, $6)
