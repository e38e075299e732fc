-- name: secret
-- The secret that keys are derived from.
SELECT secret FROM shared_secret

-- name: use_values
-- Records that requests with the nonces $1 made events, received at $2; returns those that are new.
INSERT INTO own_request (nonce, received_at)
SELECT nonce, $2 FROM unnest($1::uuid[]) AS new (nonce) ORDER BY nonce
ON CONFLICT DO NOTHING
RETURNING nonce

-- name: trim_values
-- Removes at most $2 of those received before $1: no event of that age is applied any more.
DELETE FROM own_request WHERE nonce IN (SELECT nonce FROM own_request WHERE received_at < $1 LIMIT $2)
