-- name: record_receiver_session
-- Records that process $1 can take deliveries since $2 and still could at $3, with $4 deliveries in its spool.
INSERT INTO receiver_session (process, opened_at, heartbeat_at, spooled) VALUES ($1, $2, $3, $4)
ON CONFLICT (process) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, spooled = excluded.spooled

-- name: list_receiver_sessions
-- All sessions.
SELECT opened_at, heartbeat_at FROM receiver_session

-- name: trim_receiver_sessions
-- Removes sessions that last reported before $1 and are no longer needed: another session overlaps their end, or the
-- downtime after it is decided.
DELETE FROM receiver_session AS d WHERE heartbeat_at < $1 AND (
    EXISTS (SELECT FROM receiver_session AS o WHERE o.opened_at <= d.heartbeat_at AND o.heartbeat_at > d.heartbeat_at)
    OR EXISTS (SELECT FROM receiver_downtime AS t WHERE t.to_at > d.heartbeat_at))
