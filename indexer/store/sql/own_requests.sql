-- name: secret
-- The secret that keys are derived from.
SELECT secret FROM shared_secret

-- name: use_values
-- Records that requests with the nonces $1 made the events $2 (half of their ids), received at $3; returns those nonces
-- that are new.
INSERT INTO own_request (nonce, event, received_at)
SELECT nonce, event, $3 FROM unnest($1::uuid[], $2::bigint[]) AS new (nonce, event) ORDER BY nonce
ON CONFLICT DO NOTHING
RETURNING nonce

-- name: find_uses
-- Which events had the nonces $1.
SELECT nonce, event FROM own_request WHERE nonce = ANY ($1::uuid[]) AND event IS NOT NULL

-- name: trim_values
-- Removes at most $2 of those received before $1: no event of that age is applied any more.
DELETE FROM own_request WHERE nonce IN (SELECT nonce FROM own_request WHERE received_at < $1 LIMIT $2)
