-- name: lock_check
-- Becomes the only process that checks until the transaction ends; no row if another is.
SELECT position, pass_began_at, pass_ended_at FROM audit_self_check FOR UPDATE SKIP LOCKED

-- name: move_check
-- Records that the entries up to position $1 were compared, in a pass that began at $2; the last complete one ended at
-- $3.
UPDATE audit_self_check SET position = $1, pass_began_at = $2, pass_ended_at = $3

-- name: extent
-- The first and the last position that has an entry, and that must have one.
SELECT (SELECT position FROM audit_entry ORDER BY position LIMIT 1) AS first,
       (SELECT position FROM audit_entry ORDER BY position DESC LIMIT 1) AS last,
       h.position AS head,
       (SELECT min(first_position) - 1 FROM audit_part WHERE dropped_at IS NULL) AS dropped
FROM audit_log_head AS h

-- name: clear_damages
-- Removes what was found between positions $1 and $2.
DELETE FROM audit_damage WHERE position BETWEEN $1 AND $2

-- name: put_damage
-- Records damages found at $1: positions $2, faults $3, sentences $4; at most $5 in all.
INSERT INTO audit_damage (position, found_at, fault, what)
SELECT position, $1, fault, what FROM unnest($2::bigint[], $3::text[], $4::text[]) AS new (position, fault, what)
ORDER BY position LIMIT greatest(0, $5 - (SELECT count(*) FROM audit_damage))
ON CONFLICT (position) DO UPDATE SET fault = excluded.fault, what = excluded.what

-- name: check_state
-- How far the entries were compared, and the first damage.
SELECT c.position, c.pass_began_at, c.pass_ended_at, (SELECT count(*) FROM audit_damage) AS damaged,
       d.position AS damage_position, d.found_at, d.fault, d.what
FROM audit_self_check AS c
LEFT JOIN LATERAL (SELECT * FROM audit_damage ORDER BY position LIMIT 1) AS d ON true
