-- name: record_receiver_session
-- Process $1 takes deliveries since $2 and at $3 still did, with $4 deliveries in its spool.
INSERT INTO receiver_session (process, opened_at, heartbeat_at, spooled) VALUES ($1, $2, $3, $4)
ON CONFLICT (process) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, spooled = excluded.spooled

-- name: list_receiver_sessions
-- When each process received.
SELECT opened_at, heartbeat_at FROM receiver_session

-- name: trim_receiver_sessions
-- Forgets the doors last open before $1 that tell nothing more: another was open by then, or what followed is decided.
DELETE FROM receiver_session AS d WHERE heartbeat_at < $1 AND (
    EXISTS (SELECT FROM receiver_session AS o WHERE o.opened_at <= d.heartbeat_at AND o.heartbeat_at > d.heartbeat_at)
    OR EXISTS (SELECT FROM receiver_downtime AS t WHERE t.to_at > d.heartbeat_at))
