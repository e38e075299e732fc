-- name: stage_entries
-- Stages entries: occurred at $1, recorded at $2, not before $3, content $4, previous $5, events $6, requests $7,
-- repositories $8, actors $9, clients $10, instances $11, ports $12, actions $13, sources $14, tags $15, details $16.
INSERT INTO audit_staged (occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key,
                          repository_id, actor_id, client_id, instance_id, client_port, action, source, tag, detail)
SELECT occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, repository_id,
       actor_id, client_id, instance_id, client_port, action, source, tag, detail
FROM unnest($1::timestamptz[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::uuid[],
            $7::uuid[], $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::integer[], $13::text[],
            $14::text[], $15::text[], $16::jsonb[]) WITH ORDINALITY
    AS new (occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, repository_id,
            actor_id, client_id, instance_id, client_port, action, source, tag, detail, place)
ORDER BY place

-- name: lock_head
-- Locks the head of the log: whoever holds it is the sealer. Null where another is.
SELECT position FROM log_head FOR UPDATE SKIP LOCKED

-- name: seal
-- Moves at most $2 staged entries into the log behind position $1; returns how many.
WITH taken AS (
    DELETE FROM audit_staged WHERE id IN (SELECT id FROM audit_staged ORDER BY id LIMIT $2) RETURNING *
), sealed AS (
    INSERT INTO audit_entry (position, id, occurred_at, recorded_at, not_before, content_id, previous_id, event_key,
                             request_key, repository_id, actor_id, client_id, instance_id, client_port, action,
                             source, tag, detail)
    SELECT $1 + row_number() OVER (ORDER BY id), id, occurred_at, recorded_at, not_before, content_id, previous_id,
           event_key, request_key, repository_id, actor_id, client_id, instance_id, client_port, action, source, tag,
           detail
    FROM taken ORDER BY id
    RETURNING 1
)
SELECT count(*) FROM sealed

-- name: move_head
-- The log now ends at position $1.
UPDATE log_head SET position = $1

-- name: staged
-- How many entries wait for their position, and since when.
SELECT count(*) AS entries, min(recorded_at) AS since FROM audit_staged
