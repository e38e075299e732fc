-- name: remember_events
-- Records the event ids $1, received at $2 ('infinity': keep for ever); returns those that are new.
INSERT INTO applied_event (event_key, received_at)
SELECT key, at FROM unnest($1::uuid[], $2::timestamptz[]) AS new (key, at) ORDER BY key
ON CONFLICT DO NOTHING
RETURNING event_key

-- name: trim_events
-- Removes at most $2 event ids received before $1: no registry redelivers an event that was acknowledged so long ago.
DELETE FROM applied_event WHERE event_key IN (SELECT event_key FROM applied_event WHERE received_at < $1 LIMIT $2)

-- name: add_causes
-- Records that in repositories $1 requests $2 deleted a digest, as events $3 reported, received at $4.
INSERT INTO deletion_cause (repository_id, request_key, event_id, received_at)
SELECT repository_id, request_key, event_id, $4
FROM unnest($1::integer[], $2::uuid[], $3::text[]) AS new (repository_id, request_key, event_id)
ORDER BY repository_id, request_key
ON CONFLICT DO NOTHING

-- name: find_causes
-- The events that reported digests deleted in repositories $1 by requests $2.
SELECT c.repository_id, c.request_key, c.event_id
FROM unnest($1::integer[], $2::uuid[]) AS asked (repository_id, request_key)
JOIN deletion_cause AS c USING (repository_id, request_key)

-- name: trim_causes
-- Removes at most $2 causes received before $1.
DELETE FROM deletion_cause WHERE (repository_id, request_key) IN (
    SELECT repository_id, request_key FROM deletion_cause WHERE received_at < $1 LIMIT $2)
