-- name: find_salts
-- The commitments for actors $1 (0: none), clients $2 (0: none) and days $3, in their order; null: there is none yet.
SELECT s.id, s.commitment
FROM unnest($1::integer[], $2::integer[], $3::date[]) WITH ORDINALITY AS wanted (actor_id, client_id, day, place)
LEFT JOIN audit_salt AS s ON s.actor_id = wanted.actor_id AND s.client_id = wanted.client_id
    AND s.day = wanted.day AND s.salt IS NOT NULL
ORDER BY wanted.place

-- name: add_salts
-- Adds commitments: actors $1, clients $2, days $3, salts $4, commitments $5; returns their ids, in order.
INSERT INTO audit_salt (actor_id, client_id, day, salt, commitment)
SELECT actor_id, client_id, day, salt, commitment
FROM unnest($1::integer[], $2::integer[], $3::date[], $4::bytea[], $5::bytea[]) WITH ORDINALITY
    AS new (actor_id, client_id, day, salt, commitment, place)
ORDER BY place
RETURNING id
