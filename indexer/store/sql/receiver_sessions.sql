-- name: record_receiver_session
-- Process $1 takes deliveries since $2 and at $3 still did, with $4 deliveries in its spool.
INSERT INTO receiver_session (process, opened_at, open_at, spooled) VALUES ($1, $2, $3, $4)
ON CONFLICT (process) DO UPDATE SET open_at = excluded.open_at, spooled = excluded.spooled

-- name: list_receiver_sessions
-- When each process received.
SELECT opened_at, open_at FROM receiver_session

-- name: trim_receiver_sessions
-- Forgets the doors last open before $1 that tell nothing more: another was open by then, or what followed is decided.
DELETE FROM receiver_session AS d WHERE open_at < $1 AND (
    EXISTS (SELECT FROM receiver_session AS o WHERE o.opened_at <= d.open_at AND o.open_at > d.open_at)
    OR EXISTS (SELECT FROM downtime AS t WHERE t.to_at > d.open_at))
