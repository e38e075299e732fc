-- name: find_actors
-- Ids of the actors $1 names.
SELECT name, id FROM actor WHERE name = ANY ($1::text[])

-- name: add_actors
-- Adds the actors $1 names.
INSERT INTO actor (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING

-- name: find_clients
-- Ids of the clients with the keys $1.
SELECT key, id FROM client WHERE key = ANY ($1::bytea[])

-- name: add_clients
-- Adds clients: keys $1, addresses $2, hosts $3, methods $4, user agents $5.
INSERT INTO client (key, address, host, method, user_agent)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT DO NOTHING

-- name: find_instances
-- Ids of the registry instances with the keys $1.
SELECT key, id FROM registry_instance WHERE key = ANY ($1::bytea[])

-- name: add_instances
-- Adds registry instances: keys $1, instance ids $2, addresses $3; first seen at $4.
INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at, last_event_at)
SELECT key, instance, address, $4, $4, 'infinity', '-infinity'
FROM unnest($1::bytea[], $2::text[], $3::text[]) AS new (key, instance, address)
ON CONFLICT DO NOTHING

-- name: find_media_types
-- Ids of the media types $1 names.
SELECT name, id FROM media_type WHERE name = ANY ($1::text[])

-- name: add_media_types
-- Adds the media types $1 names.
INSERT INTO media_type (name) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING

-- name: find_facets
-- Ids of the facets with the keys $1.
SELECT key, id FROM facet WHERE key = ANY ($1::bytea[])

-- name: add_facet
-- Adds a facet: key $1, media type $2, artifact type $3, kind $4, platforms $5.
INSERT INTO facet (key, media_type, artifact_type, kind, platforms) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING

-- name: count_instance_events
-- Adds to what each instance sent: ids $1, distinct events $2, last received at $3, first $4 and last $5 event.
WITH locked AS (SELECT id FROM registry_instance WHERE id = ANY ($1::integer[]) ORDER BY id FOR NO KEY UPDATE)
UPDATE registry_instance AS i
SET events = i.events + new.events,
    last_seen_at = greatest(i.last_seen_at, new.received_at),
    first_event_at = least(i.first_event_at, new.first_at),
    last_event_at = greatest(i.last_event_at, new.last_at)
FROM locked, unnest($1::integer[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    AS new (id, events, received_at, first_at, last_at)
WHERE i.id = new.id AND locked.id = i.id

-- name: erasures
-- How often people were erased.
SELECT erasures FROM audit_log_head
