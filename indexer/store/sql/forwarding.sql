-- name: enqueue_events
-- Queues events for GitLab at $1: subjects $2, whether each can wait $3, bodies $4.
INSERT INTO gitlab_event (queued_at, due_at, subject, can_wait, body)
SELECT $1, $1, subject, can_wait, body
FROM unnest($2::text[], $3::boolean[], $4::bytea[]) WITH ORDINALITY AS new (subject, can_wait, body, place)
ORDER BY place

-- name: lease_forwarding
-- Makes $1 the process that forwards, for $2 from now; no row if another is.
UPDATE gitlab_forwarding SET holder = $1, lease_until = clock_timestamp() + $2::interval
WHERE holder = $1 OR lease_until <= clock_timestamp()
RETURNING holder

-- name: next_events
-- The next events that are due at $1, at most $2, as many as make $3 bytes and at least one. An event that waits for
-- another try delays later ones of the same subject, and no others.
WITH next AS (
    SELECT id, queued_at, attempts, can_wait, subject, body FROM gitlab_event AS e
    WHERE refused_at IS NULL AND due_at <= $1 AND NOT EXISTS (
        SELECT FROM gitlab_event AS earlier
        WHERE earlier.subject = e.subject AND earlier.id < e.id AND earlier.refused_at IS NULL AND earlier.due_at > $1
    )
    ORDER BY can_wait, id LIMIT $2
), sized AS (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY can_wait, id) - octet_length(body) AS before FROM next
)
SELECT id, queued_at, attempts, subject, body FROM sized WHERE before < $3 ORDER BY can_wait, id

-- name: finish_events
-- Removes the events $1, which GitLab accepted.
WITH gone AS (DELETE FROM gitlab_event WHERE id = ANY ($1::bigint[]) RETURNING 1)
UPDATE gitlab_forwarding SET forwarded = forwarded + (SELECT count(*) FROM gone)

-- name: defer_event
-- Event $1 is tried again at $2.
UPDATE gitlab_event SET due_at = $2, attempts = attempts + 1 WHERE id = $1

-- name: add_dead_event
-- GitLab refused the event $1 for good, at $2, because of $3.
UPDATE gitlab_event SET refused_at = $2, reason = $3, attempts = attempts + 1 WHERE id = $1

-- name: drop_old_events
-- Drops at most $2 events that have waited since before $1; returns how many.
WITH gone AS (
    DELETE FROM gitlab_event WHERE id IN (
        SELECT id FROM gitlab_event WHERE refused_at IS NULL AND queued_at < $1 LIMIT $2
    ) RETURNING 1
), counted AS (
    UPDATE gitlab_forwarding SET dropped = dropped + (SELECT count(*) FROM gone) WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone

-- name: drop_excess_events
-- Drops what waits beyond $1 events, at most $2 of them, pulls first, then the oldest; returns how many.
WITH gone AS (
    DELETE FROM gitlab_event WHERE id IN (
        SELECT id FROM gitlab_event WHERE refused_at IS NULL ORDER BY can_wait DESC, id
        LIMIT least($2, greatest((SELECT count(*) FROM gitlab_event WHERE refused_at IS NULL) - $1, 0))
    ) RETURNING 1
), counted AS (
    UPDATE gitlab_forwarding SET dropped = dropped + (SELECT count(*) FROM gone) WHERE EXISTS (SELECT FROM gone)
)
SELECT count(*) FROM gone

-- name: trim_dead_events
-- Forgets at most $2 events that GitLab refused before $1.
DELETE FROM gitlab_event WHERE id IN (SELECT id FROM gitlab_event WHERE refused_at < $1 LIMIT $2)

-- name: forwarding_backlog
-- How many events wait for GitLab, since when, and how many it refused; how many were forwarded and dropped in all.
SELECT f.forwarded, f.dropped,
       (SELECT count(*) FROM gitlab_event WHERE refused_at IS NULL) AS waiting,
       (SELECT min(queued_at) FROM gitlab_event WHERE refused_at IS NULL) AS since,
       (SELECT count(*) FROM gitlab_event WHERE refused_at IS NOT NULL) AS dead
FROM gitlab_forwarding AS f
