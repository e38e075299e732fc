-- name: make_feed
-- Adds feed $1 of kind $2 unless it is on record, to begin after position $3 (null: after the newest entry).
INSERT INTO feed (name, kind, position) VALUES ($1, $2, coalesce($3, (SELECT position FROM audit_log_head)))
ON CONFLICT (name) DO UPDATE SET kind = excluded.kind WHERE feed.kind <> excluded.kind

-- name: lease_feed
-- Makes $2 the process that delivers feed $1, for $3 from now; no row if another is, or if there is no such feed.
UPDATE feed SET holder = $2, lease_until = clock_timestamp() + $3::interval
WHERE name = $1 AND (holder = $2 OR lease_until <= clock_timestamp())
RETURNING position, attempts, refused_in_a_row, replays, prepared_replay, retry_at, stopped, last_error,
          (SELECT h.position FROM audit_log_head AS h) AS head, (SELECT i.id FROM audit_log_identity AS i) AS log

-- name: begin_replay
-- Records that the sink of feed $1 is prepared for replay $2.
UPDATE feed SET prepared_replay = $2 WHERE name = $1

-- name: move_feed
-- Moves feed $1, leased by $2, from position $3 of replay $4 to $5, where $6 entries were delivered at $7.
UPDATE feed SET position = $5, delivered = delivered + $6, attempts = 0, retry_at = NULL,
                refused_in_a_row = CASE WHEN $6 > 0 THEN 0 ELSE refused_in_a_row END,
                delivered_at = CASE WHEN $6 > 0 THEN $7 ELSE delivered_at END
WHERE name = $1 AND holder = $2 AND position = $3 AND replays = $4
RETURNING name

-- name: add_dead_letter
-- Feed $1, leased by $2, at position $3 of replay $4: its sink refused entry $6 because of $8, at $7. Moves on to $5.
-- Returns how many were refused in a row.
WITH moved AS (
    UPDATE feed SET position = $5, attempts = 0, retry_at = NULL, refused_in_a_row = refused_in_a_row + 1
    WHERE name = $1 AND holder = $2 AND position = $3 AND replays = $4
    RETURNING refused_in_a_row
), dead AS (
    INSERT INTO feed_dead_letter (feed, position, refused_at, first_tried_at, tried_at, reason)
    SELECT $1, $6, $7, $7, $7, $8 FROM moved
    ON CONFLICT (feed, position) DO UPDATE
    SET refused_at = excluded.refused_at, reason = excluded.reason, retry_requested = false, retry_at = NULL,
        tries = feed_dead_letter.tries + 1, tried_at = excluded.tried_at
)
SELECT refused_in_a_row FROM moved

-- name: fail_feed
-- Delivering feed $1, leased by $2, failed at $3 because of $5; it is tried again at $4.
UPDATE feed SET attempts = attempts + 1, failed_at = $3, retry_at = $4, last_error = $5 WHERE name = $1 AND holder = $2

-- name: stop_feed
-- Feed $1, leased by $2, delivers nothing from $3 on, because of $4, until an operator replays it.
UPDATE feed SET stopped = $4, failed_at = $3, last_error = $4 WHERE name = $1 AND holder = $2

-- name: release_feed
-- Ends the lease of feed $1 by $2, so that any process may deliver it.
UPDATE feed SET lease_until = '-infinity' WHERE name = $1 AND holder = $2

-- name: replay_feed
-- Feed $1 continues after position $2 (null: where it is), stopped or not; no row if there is no such feed.
UPDATE feed SET position = coalesce($2, position), replays = replays + CASE WHEN $2 IS NULL THEN 0 ELSE 1 END,
                attempts = 0, refused_in_a_row = 0, retry_at = NULL, stopped = NULL
WHERE name = $1 RETURNING position

-- name: remove_feed
-- Removes feed $1 with its dead letters.
DELETE FROM feed WHERE name = $1 RETURNING name

-- name: list_feeds
-- The state of every feed, or (not null) of those with the names $1.
SELECT f.name, f.kind, f.position, f.delivered, f.attempts, f.replays, f.created_at, f.delivered_at, f.failed_at, f.retry_at,
       f.stopped, f.last_error, f.lease_until > clock_timestamp() AS held, greatest(h.position - f.position, 0) AS behind,
       CASE WHEN h.position > f.position THEN
           (SELECT e.recorded_at FROM audit_entry AS e WHERE e.position > f.position ORDER BY e.position LIMIT 1)
       END AS behind_since,
       (SELECT count(*) FROM feed_dead_letter AS d WHERE d.feed = f.name) AS dead
FROM feed AS f, audit_log_head AS h WHERE $1::text[] IS NULL OR f.name = ANY ($1) ORDER BY f.name

-- name: list_dead_letters
-- At most $3 entries that the sink of feed $1 refused, after position $2.
SELECT position, refused_at, retry_requested, reason, tries, first_tried_at, tried_at FROM feed_dead_letter
WHERE feed = $1 AND position > $2 ORDER BY position LIMIT $3

-- name: retry_dead_letters
-- Requests a retry of the dead letters of feed $1: those at positions $2 (null: all). Returns how many.
WITH asked AS (
    UPDATE feed_dead_letter SET retry_requested = true, attempts = 0, retry_at = NULL
    WHERE feed = $1 AND ($2::bigint[] IS NULL OR position = ANY ($2)) RETURNING 1
), resumed AS (
    UPDATE feed SET attempts = 0, refused_in_a_row = 0, retry_at = NULL, stopped = NULL
    WHERE name = $1 AND EXISTS (SELECT FROM asked)
)
SELECT count(*) FROM asked

-- name: discard_dead_letters
-- Removes the dead letters of feed $1 at positions $2 (null: all). Returns their positions.
DELETE FROM feed_dead_letter WHERE feed = $1 AND ($2::bigint[] IS NULL OR position = ANY ($2)) RETURNING position

-- name: dead_letters_to_retry
-- At most $2 positions of dead letters of feed $1 to be retried now, and how often each was retried without an answer.
SELECT position, attempts FROM feed_dead_letter
WHERE feed = $1 AND retry_requested AND (retry_at IS NULL OR retry_at <= clock_timestamp()) ORDER BY position LIMIT $2

-- name: delay_dead_letter
-- The sink of feed $1 did not answer for entry $2, because of $4: it is retried after $3.
UPDATE feed_dead_letter SET attempts = attempts + 1, retry_at = clock_timestamp() + $3::interval, reason = $4,
                            tries = tries + 1, tried_at = clock_timestamp()
WHERE feed = $1 AND position = $2

-- name: resolve_dead_letter
-- Removes the dead letter $2 of feed $1, which its sink accepted.
WITH gone AS (DELETE FROM feed_dead_letter WHERE feed = $1 AND position = $2 RETURNING 1)
UPDATE feed SET delivered = delivered + (SELECT count(*) FROM gone) WHERE name = $1

-- name: dead_letter_again
-- The sink of feed $1 refused entry $2 again, at $3 because of $4.
UPDATE feed_dead_letter SET retry_requested = false, retry_at = NULL, refused_at = $3, reason = $4,
                            tries = tries + 1, tried_at = $3
WHERE feed = $1 AND position = $2

-- name: log_identity
-- Which log this is.
SELECT id FROM audit_log_identity
