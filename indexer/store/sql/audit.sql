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

-- name: stage_pulls
-- Keeps pulls as single entries: occurred at $1, recorded at $2, manifests $3, events $4, requests $5, repositories $6,
-- actors $7, clients $8, instances $9, ports $10, tags $11, details $12.
INSERT INTO pull_detail (occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id,
                         client_id, instance_id, client_port, tag, detail)
SELECT occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id, client_id,
       instance_id, client_port, tag, detail
FROM unnest($1::timestamptz[], $2::timestamptz[], $3::bigint[], $4::uuid[], $5::uuid[], $6::integer[], $7::integer[],
            $8::integer[], $9::integer[], $10::integer[], $11::text[], $12::jsonb[]) WITH ORDINALITY
    AS new (occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id, client_id,
            instance_id, client_port, tag, detail, place)
ORDER BY place

-- name: coalesce_pulls
-- Moves at most $2 of the oldest pulls of one hour, which ended before $1, into the staged entries, recorded at $3:
-- one entry per repository, tag, manifest, actor and client, with the exact count; a lone pull stays as it is.
-- Returns how many pulls were moved.
WITH oldest AS (
    SELECT date_bin('1 hour', occurred_at, 'epoch') AS begins FROM pull_detail ORDER BY occurred_at, id LIMIT 1
), taken AS (
    DELETE FROM pull_detail WHERE id IN (
        SELECT p.id FROM pull_detail AS p, oldest
        WHERE p.occurred_at < oldest.begins + interval '1 hour' AND oldest.begins + interval '1 hour' <= $1
        ORDER BY p.occurred_at, p.id LIMIT $2 FOR UPDATE OF p SKIP LOCKED
    ) RETURNING *
), together AS (
    SELECT repository_id, tag, manifest_id, actor_id, client_id, count(*) AS pulls,
           min(occurred_at) AS first_at, max(occurred_at) AS last_at, min(id) AS id,
           CASE WHEN min(instance_id) = max(instance_id) THEN min(instance_id) END AS instance_id
    FROM taken GROUP BY repository_id, tag, manifest_id, actor_id, client_id
), staged AS (
    INSERT INTO audit_staged (occurred_at, recorded_at, not_before, content_id, event_key, request_key, repository_id,
                              actor_id, client_id, instance_id, client_port, action, source, tag, detail)
    SELECT g.last_at, $3, CASE WHEN g.pulls > 1 THEN g.first_at END, g.manifest_id, alone.event_key, alone.request_key,
           g.repository_id, g.actor_id, g.client_id, g.instance_id, alone.client_port, 'manifest.pulled',
           'notification', g.tag,
           CASE WHEN g.pulls > 1 THEN jsonb_build_object('pulls', g.pulls) ELSE alone.detail END
    FROM together AS g LEFT JOIN taken AS alone ON g.pulls = 1 AND alone.id = g.id
    ORDER BY g.last_at, g.id
)
SELECT count(*) FROM taken
