-- name: forget_resolved
-- Removes challenges that were followed by another request, by handshakes $1.
DELETE FROM access_log_pending WHERE handshake = ANY ($1::uuid[])

-- name: put_pending
-- Adds requests: keys $1, handshakes $2, actions $3, first at $4, last at $5, times $6, lines $7, received at $8; at
-- most $9 different ones in all. Returns the keys that were stored.
WITH capacity AS (
    SELECT greatest($9::bigint - count(*), 0) AS free FROM access_log_pending
), new AS (
    SELECT n.*, EXISTS (SELECT FROM access_log_pending AS p WHERE p.key = n.key) AS known
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::integer[], $7::jsonb[])
        AS n (key, handshake, action, first_at, last_at, times, line)
), numbered AS (
    SELECT new.*, row_number() OVER (PARTITION BY known ORDER BY key) AS number FROM new
)
INSERT INTO access_log_pending (key, handshake, action, first_at, last_at, times, line, received_at)
SELECT key, handshake, action, first_at, last_at, times, line, $8 FROM numbered, capacity
WHERE known OR number <= capacity.free ORDER BY key
ON CONFLICT (key) DO UPDATE SET
    first_at = least(access_log_pending.first_at, excluded.first_at),
    last_at = greatest(access_log_pending.last_at, excluded.last_at),
    times = access_log_pending.times + excluded.times,
    line = excluded.line
RETURNING key

-- name: take_pending
-- Removes and returns at most $2 that were first received before $1, oldest first.
WITH taken AS (
    DELETE FROM access_log_pending WHERE key IN (
        SELECT key FROM access_log_pending WHERE received_at < $1 ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING key, handshake, action, first_at, last_at, times, line
)
SELECT * FROM taken ORDER BY first_at, key

-- name: stage_requests
-- Stages entries of requests: occurred at $1, not before $2, requests $3, repositories' names $4, actors $5, clients $6,
-- ports $7, actions $8, tags $9, details $10; recorded at $11, source $12.
INSERT INTO audit_staged (occurred_at, recorded_at, not_before, request_key, repository_id, actor_id, client_id,
                          client_port, action, source, tag, detail)
SELECT n.occurred_at, $11, n.not_before, n.request_key, r.id, n.actor_id, n.client_id, n.client_port,
       n.action::audit_action, $12::text::audit_source, n.tag,
       CASE WHEN r.id IS NULL THEN n.detail ELSE n.detail - 'named_repository' END
FROM unnest($1::timestamptz[], $2::timestamptz[], $3::uuid[], $4::text[], $5::integer[], $6::integer[], $7::integer[],
            $8::text[], $9::text[], $10::jsonb[]) WITH ORDINALITY
    AS n (occurred_at, not_before, request_key, repository, actor_id, client_id, client_port, action, tag, detail, place)
LEFT JOIN repository AS r ON r.name = n.repository
ORDER BY n.place

-- name: file_positions
-- How far files under path $1 were read, the one read longest ago first.
SELECT device, inode, read_to, head FROM access_log_file WHERE path = $1 ORDER BY read_at

-- name: put_file_position
-- Of path $1 the file of device $2 and inode $3, which begins with $6, was read up to $4, at $5.
INSERT INTO access_log_file (path, device, inode, read_to, read_at, head) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (path, device, inode) DO UPDATE SET
    read_to = excluded.read_to, read_at = excluded.read_at, head = excluded.head

-- name: forget_file
-- Forgets the file of path $1, device $2 and inode $3.
DELETE FROM access_log_file WHERE path = $1 AND device = $2 AND inode = $3
