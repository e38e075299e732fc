-- name: stage_entries
-- Stages entries: occurred at $1, recorded at $2, not before $3, content $4, previous $5, events $6, requests $7,
-- repositories $8, actors $9, clients $10, instances $11, ports $12, actions $13, sources $14, tags $15, details $16.
INSERT INTO audit_staged (occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key,
                          repository_id, actor_id, client_id, instance_id, client_port, action, source, tag, detail)
SELECT occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, repository_id,
       actor_id, client_id, instance_id, client_port, action::audit_action, source::audit_source, tag, detail
FROM unnest($1::timestamptz[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::uuid[],
            $7::uuid[], $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::integer[], $13::text[],
            $14::text[], $15::text[], $16::jsonb[]) WITH ORDINALITY
    AS new (occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, repository_id,
            actor_id, client_id, instance_id, client_port, action, source, tag, detail, place)
ORDER BY place

-- name: lock_head
-- Locks the head of the log: whoever has this lock is the sealer. No row if another process is.
SELECT position, erasures FROM audit_log_head FOR UPDATE SKIP LOCKED

-- name: seal
-- Moves the staged entries $1 (ids, in order) into the log after position $5, with their facets $2, actors' salts $3
-- and clients' salts $4. An actor whose name was erased while the entry waited is left out. A media type in the detail
-- that the facet says, which stays with the entry, is not stored twice.
WITH sealed AS (
    SELECT * FROM unnest($1::bigint[], $2::integer[], $3::integer[], $4::integer[]) WITH ORDINALITY
        AS s (id, facet_id, actor_salt_id, client_salt_id, place)
), taken AS (
    DELETE FROM audit_staged WHERE id = ANY ($1::bigint[]) RETURNING *
)
INSERT INTO audit_entry (position, id, occurred_at, recorded_at, not_before, content_id, previous_id, event_key,
                         request_key, repository_id, actor_id, client_id, instance_id, client_port, facet_id,
                         actor_salt_id, client_salt_id, action, source, tag, detail)
SELECT $5::bigint + s.place, t.id, t.occurred_at, t.recorded_at, t.not_before, t.content_id, t.previous_id, t.event_key,
       t.request_key, t.repository_id, CASE WHEN s.actor_salt_id IS NOT NULL THEN t.actor_id END, t.client_id,
       t.instance_id, t.client_port, s.facet_id, s.actor_salt_id, s.client_salt_id, t.action, t.source, t.tag,
       CASE WHEN t.detail ->> 'media_type' = f.media_type THEN nullif(t.detail - 'media_type', '{}') ELSE t.detail END
FROM taken AS t JOIN sealed AS s USING (id) LEFT JOIN facet AS f ON f.id = s.facet_id ORDER BY s.place

-- name: move_head
-- Records that the log ends at position $1.
UPDATE audit_log_head SET position = $1

-- name: staged
-- How many entries wait for their position, and since when.
SELECT count(*) AS entries, min(recorded_at) AS since FROM audit_staged

-- name: stage_pulls
-- Stores pulls as single entries: occurred at $1, recorded at $2, manifests $3, events $4, requests $5, repositories
-- $6, actors $7, clients $8, instances $9, ports $10, tags $11, details $12, whether by HEAD $13.
INSERT INTO pull_detail (occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id,
                         client_id, instance_id, client_port, tag, detail, checked)
SELECT occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id, client_id,
       instance_id, client_port, tag, detail, checked
FROM unnest($1::timestamptz[], $2::timestamptz[], $3::bigint[], $4::uuid[], $5::uuid[], $6::integer[], $7::integer[],
            $8::integer[], $9::integer[], $10::integer[], $11::text[], $12::jsonb[], $13::boolean[]) WITH ORDINALITY
    AS new (occurred_at, recorded_at, manifest_id, event_key, request_key, repository_id, actor_id, client_id,
            instance_id, client_port, tag, detail, checked, place)
ORDER BY place

-- name: coalesce_pulls
-- Moves at most $2 of the oldest pulls of one hour, which ended before $1, into the staged entries, recorded at $3: one
-- entry per repository, tag, manifest, actor and client, with the exact count; a single pull stays as it is. Those by
-- HEAD are counted apart. Returns how many pulls were moved.
WITH oldest AS (
    SELECT date_bin('1 hour', occurred_at, 'epoch') AS begins FROM pull_detail ORDER BY occurred_at, id LIMIT 1
), taken AS (
    DELETE FROM pull_detail WHERE id IN (
        SELECT p.id FROM pull_detail AS p, oldest
        WHERE p.occurred_at < oldest.begins + interval '1 hour' AND oldest.begins + interval '1 hour' <= $1
        ORDER BY p.occurred_at, p.id LIMIT $2 FOR UPDATE OF p SKIP LOCKED
    ) RETURNING *
), together AS (
    SELECT repository_id, tag, manifest_id, actor_id, client_id, checked, count(*) AS pulls,
           min(occurred_at) AS first_at, max(occurred_at) AS last_at, min(id) AS id,
           CASE WHEN min(instance_id) = max(instance_id) THEN min(instance_id) END AS instance_id
    FROM taken GROUP BY repository_id, tag, manifest_id, actor_id, client_id, checked
), staged AS (
    INSERT INTO audit_staged (occurred_at, recorded_at, not_before, content_id, event_key, request_key, repository_id,
                              actor_id, client_id, instance_id, client_port, action, source, tag, detail)
    SELECT g.last_at, $3, CASE WHEN g.pulls > 1 THEN g.first_at END, g.manifest_id, alone.event_key, alone.request_key,
           g.repository_id, g.actor_id, g.client_id, g.instance_id, alone.client_port,
           CASE WHEN g.checked THEN 'manifest.checked'::audit_action ELSE 'manifest.pulled'::audit_action END,
           'notification', g.tag,
           CASE WHEN g.pulls = 1 THEN alone.detail
                WHEN g.checked THEN jsonb_build_object('checks', g.pulls) ELSE jsonb_build_object('pulls', g.pulls) END
    FROM together AS g LEFT JOIN taken AS alone ON g.pulls = 1 AND alone.id = g.id
    ORDER BY g.last_at, g.id
)
SELECT count(*) FROM taken
