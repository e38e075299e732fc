-- name: secret
-- The secret that keys are derived from.
SELECT secret FROM shared_secret

-- name: use_values
-- Records that requests with the numbers $1 made the events $2 (the last parts of their ids), received on day $3; returns
-- those numbers that are new.
INSERT INTO own_request (number, event, received_on)
SELECT number, event, $3 FROM unnest($1::bigint[], $2::integer[]) AS new (number, event) ORDER BY number
ON CONFLICT DO NOTHING
RETURNING number

-- name: find_uses
-- Which events had the numbers $1.
SELECT number, event FROM own_request WHERE number = ANY ($1::bigint[]) AND event IS NOT NULL

-- name: trim_values
-- Removes at most $2 of those received before day $1: no event of that age is applied any more.
DELETE FROM own_request WHERE number IN (SELECT number FROM own_request WHERE received_on < $1 LIMIT $2)
