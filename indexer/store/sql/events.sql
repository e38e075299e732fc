-- name: remember_events
-- Remembers the event ids $1, received at $2; returns those that are new.
INSERT INTO event_seen (event_key, received_at)
SELECT key, $2 FROM unnest($1::uuid[]) AS new (key) ORDER BY key
ON CONFLICT DO NOTHING
RETURNING event_key

-- name: trim_events
-- Forgets at most $2 event ids received before $1: no registry redelivers what it had acknowledged that long ago.
DELETE FROM event_seen WHERE event_key IN (SELECT event_key FROM event_seen WHERE received_at < $1 LIMIT $2)
