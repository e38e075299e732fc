-- name: newest_maintenance
-- The maintenance that was begun last, and the database's clock.
SELECT m.begun_at, m.until, m.ended_at, m.begun_by, m.reason, c.now
FROM (SELECT clock_timestamp() AS now) AS c LEFT JOIN LATERAL (
    SELECT begun_at, until, ended_at, begun_by, reason FROM maintenance ORDER BY id DESC LIMIT 1) AS m ON true

-- name: lock_maintenance
-- Lets one transaction at a time begin or end maintenance.
LOCK TABLE maintenance IN EXCLUSIVE MODE

-- name: begin_maintenance
-- Begins maintenance for $1 (interval; null: until it is ended), by $2, reason $3. Returns it.
INSERT INTO maintenance (begun_at, until, begun_by, reason)
SELECT c.now, c.now + $1::interval, $2, $3 FROM (SELECT clock_timestamp() AS now) AS c
RETURNING begun_at, until, ended_at, begun_by, reason

-- name: end_maintenance
-- Ends whatever maintenance holds.
UPDATE maintenance SET ended_at = clock_timestamp() WHERE ended_at IS NULL
