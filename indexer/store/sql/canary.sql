-- name: find_server
-- The version of the server, and its clock.
SELECT current_setting('server_version_num')::integer AS version_number,
       current_setting('server_version') AS version, clock_timestamp() AS now

-- name: inbox_position
-- The id of the newest delivery. A later one has a greater id, except for a commit or two under way.
SELECT coalesce(max(id), 0) FROM inbox

-- name: find_deliveries
-- Deliveries after id $1 whose body contains the bytes $2, and why they are in quarantine, if they are; at most $3.
SELECT i.id, i.received_at, i.done_at, i.body, q.reason
FROM inbox AS i LEFT JOIN quarantine AS q ON q.inbox_id = i.id
WHERE i.id > $1 AND position($2::bytea IN i.body) > 0 ORDER BY i.id LIMIT $3

-- name: find_state
-- What is on record of tag $2 of repository $1, and the work item to verify it.
SELECT t.name IS NOT NULL AS live, m.digest, t.evidence, t.verified_at, t.broken_reason IS NOT NULL AS broken,
       coalesce(m.content, '') AS content, v.last_observation, coalesce(v.attempts, 0) AS attempts
FROM repository AS r
LEFT JOIN tag AS t ON t.repository_id = r.id AND t.name = $2
LEFT JOIN manifest AS m ON m.id = t.manifest_id
LEFT JOIN work_item AS v ON v.kind = 'verify' AND v.repository_id = r.id AND v.key = $2
WHERE r.name = $1
