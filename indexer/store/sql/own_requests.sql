-- name: secret
-- The secret that keys are derived from.
SELECT secret FROM shared_secret

-- name: use_values
-- Records that requests with the numbers $1, issued in the minutes $4, made the events $2 (the last parts of their ids),
-- received on day $3; returns those numbers that are new, or packed.
INSERT INTO own_request (number, event, received_on, issued)
SELECT number, event, $3, issued
FROM unnest($1::bigint[], $2::integer[], $4::integer[]) AS new (number, event, issued) ORDER BY number
ON CONFLICT DO NOTHING
RETURNING number

-- name: find_packed
-- Which events had those of the numbers $1, issued in the minutes $2, that are packed.
SELECT new.number, p.events[array_position(p.numbers, new.number)] AS event
FROM unnest($1::bigint[], $2::integer[]) AS new (number, issued)
JOIN own_request_pack AS p ON p.issued = new.issued AND new.number = ANY (p.numbers)

-- name: drop_values
-- Removes the numbers $1: they are packed.
DELETE FROM own_request WHERE number = ANY ($1::bigint[])

-- name: pack_values
-- Packs at most $2 of those issued before the minute $1; returns how many.
WITH moved AS (
    DELETE FROM own_request WHERE number IN (
        SELECT number FROM own_request WHERE issued < $1 AND event IS NOT NULL
        ORDER BY issued LIMIT $2 FOR UPDATE SKIP LOCKED
    ) RETURNING issued, received_on, number, event
), packed AS (
    INSERT INTO own_request_pack (first, issued, received_on, numbers, events)
    SELECT min(number), issued, received_on, array_agg(number ORDER BY number), array_agg(event ORDER BY number)
    FROM moved GROUP BY issued, received_on
)
SELECT count(*) FROM moved

-- name: find_uses
-- Which events had the numbers $1.
SELECT number, event FROM own_request WHERE number = ANY ($1::bigint[]) AND event IS NOT NULL

-- name: trim_values
-- Removes at most $2 of those received before day $1: no event of that age is applied any more.
DELETE FROM own_request WHERE number IN (SELECT number FROM own_request WHERE received_on < $1 LIMIT $2)

-- name: trim_packs
-- Removes at most $2 packs of those received before day $1.
DELETE FROM own_request_pack WHERE (issued, first) IN (
    SELECT issued, first FROM own_request_pack WHERE received_on < $1 LIMIT $2
)
