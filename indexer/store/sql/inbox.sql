-- name: put_deliveries
-- Stores deliveries: received at $1, content types $2, content encodings $3, bodies $4, whether they can wait $5, their
-- keys in the spool $6, whether they are imported $7, partitions $8. One that came from the spool before is not stored
-- again.
INSERT INTO inbox (received_at, content_type, content_encoding, body, can_wait, spool_key, imported, partition)
SELECT received_at, content_type, content_encoding, body, can_wait, spool_key, imported, partition
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bytea[], $5::boolean[], $6::uuid[], $7::boolean[],
            $8::smallint[])
    WITH ORDINALITY
    AS new (received_at, content_type, content_encoding, body, can_wait, spool_key, imported, partition, place)
ORDER BY place
ON CONFLICT (spool_key) WHERE spool_key IS NOT NULL DO NOTHING

-- name: lock_partitions
-- Locks partitions with waiting deliveries that can wait or not ($1) until the transaction ends: all that are free if
-- less than $2 wait, else the one with the oldest. $3 is the class of the locks, $4 the number of partitions.
WITH waiting AS MATERIALIZED (
    SELECT partition.number, oldest.id FROM generate_series(0, $4::integer - 1) AS partition (number)
    CROSS JOIN LATERAL (
        SELECT id FROM inbox WHERE done_at IS NULL AND can_wait = $1 AND inbox.partition = partition.number
            AND (retry_at IS NULL OR retry_at <= clock_timestamp())
        ORDER BY id LIMIT 1
    ) AS oldest
    ORDER BY oldest.id
)
SELECT number FROM waiting WHERE pg_try_advisory_xact_lock($3, number)
LIMIT CASE WHEN (
    SELECT count(*) FROM (SELECT FROM inbox WHERE done_at IS NULL AND can_wait = $1
        AND (retry_at IS NULL OR retry_at <= clock_timestamp()) LIMIT $2) AS counted
) < $2 THEN $4 ELSE 1 END

-- name: take_deliveries
-- Locks the oldest waiting deliveries of the partitions $4 that can wait or not ($1), at most $2, without delayed ones;
-- returns as many as make $3 bytes, at least one.
WITH taken AS (
    SELECT next.* FROM unnest($4::smallint[]) AS mine (partition) CROSS JOIN LATERAL (
        SELECT id, received_at, content_type, content_encoding, body, can_wait, imported, attempts FROM inbox
        WHERE done_at IS NULL AND can_wait = $1 AND inbox.partition = mine.partition
            AND (retry_at IS NULL OR retry_at <= clock_timestamp())
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    ) AS next
), sized AS (
    SELECT *, sum(octet_length(body)) OVER (ORDER BY id) - octet_length(body) AS before FROM taken
)
SELECT id, received_at, content_type, content_encoding, body, can_wait, imported, attempts FROM sized
WHERE before < $3 ORDER BY id LIMIT $2

-- name: take_delivery
-- Locks the delivery $1 if it still waits and no other worker has it.
SELECT id, received_at, content_type, content_encoding, body, can_wait, imported, attempts FROM inbox
WHERE id = $1 AND done_at IS NULL FOR UPDATE SKIP LOCKED

-- name: finish_deliveries
-- The deliveries $1 are done at $2.
UPDATE inbox SET done_at = $2 WHERE id = ANY ($1::bigint[])

-- name: delay_deliveries
-- Lets the deliveries $1 wait for $2 because of $3; if $4, each failed when applied alone, which is counted.
UPDATE inbox SET retry_at = clock_timestamp() + $2::interval, last_error = $3,
                 attempts = attempts + CASE WHEN $4 THEN 1 ELSE 0 END
WHERE id = ANY ($1::bigint[]) AND done_at IS NULL

-- name: quarantine
-- Quarantines deliveries: $1, received at $2, now $3, content types $4, encodings $5, reasons $6, bodies $7, whether
-- imported $8.
INSERT INTO quarantine (inbox_id, received_at, quarantined_at, content_type, content_encoding, reason, body, imported)
SELECT inbox_id, received_at, $3, content_type, content_encoding, reason, body, imported
FROM unnest($1::bigint[], $2::timestamptz[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::boolean[])
    AS new (inbox_id, received_at, content_type, content_encoding, reason, body, imported)

-- name: list_quarantine
-- The quarantine, oldest first, after id $1, at most $2.
SELECT id, received_at, quarantined_at, content_type, content_encoding, reason, body
FROM quarantine WHERE id > $1 ORDER BY id LIMIT $2

-- name: retry_quarantine
-- Puts the quarantined deliveries $1 (null: all) back into the inbox, with the time of their receipt; returns which.
WITH back AS (
    DELETE FROM quarantine WHERE $1::bigint[] IS NULL OR id = ANY ($1::bigint[]) RETURNING *
), again AS (
    INSERT INTO inbox (received_at, content_type, content_encoding, body, imported, can_wait)
    SELECT received_at, content_type, content_encoding, body, imported, imported FROM back ORDER BY id
    RETURNING 1
)
SELECT id FROM back ORDER BY id

-- name: discard_quarantine
-- Removes the quarantined deliveries $1 (null: all); returns which.
WITH gone AS (
    DELETE FROM quarantine WHERE $1::bigint[] IS NULL OR id = ANY ($1::bigint[]) RETURNING id
)
SELECT id FROM gone ORDER BY id

-- name: inbox_backlog
-- How many deliveries wait, the arrival of the oldest, how many of them failed before, and how many are quarantined.
SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS waiting,
       (SELECT min(received_at) FROM inbox WHERE done_at IS NULL) AS since,
       (SELECT count(*) FROM inbox WHERE done_at IS NULL AND last_error IS NOT NULL) AS failing,
       (SELECT count(*) FROM quarantine) AS quarantined

-- name: has_waiting
-- Whether a delivery waits that was received before $1, has more than pulls and never failed.
SELECT EXISTS (
    SELECT FROM inbox WHERE done_at IS NULL AND NOT can_wait AND last_error IS NULL AND received_at < $1
)

-- name: trim_inbox
-- Removes at most $2 deliveries done before $1.
DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE done_at < $1 LIMIT $2)
