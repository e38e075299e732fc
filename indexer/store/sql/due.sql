-- name: make_due
-- Makes work due: kinds $1, repositories $2, keys $3, due at $5; now is $4. What is due already keeps the earlier time,
-- but looks at one key stay $6 apart (by a clock that was not set back); what is running runs once more.
INSERT INTO due (kind, repository_id, key, due_at, since)
SELECT new.kind, new.repository_id, new.key, new.due_at, $4
FROM unnest($1::text[], $2::integer[], $3::text[], $5::timestamptz[]) AS new (kind, repository_id, key, due_at)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO UPDATE
SET generation = due.generation + 1,
    looks = 0, agreed = 0, attempts = 0,
    due_at = greatest(least(due.due_at, excluded.due_at), least(due.looked_at, $4) + $6::interval)

-- name: add_due
-- Makes work due at $4 that does not wait already: kinds $1, repositories $2, keys $3.
INSERT INTO due (kind, repository_id, key, due_at, since)
SELECT new.kind, new.repository_id, new.key, $4, $4
FROM unnest($1::text[], $2::integer[], $3::text[]) AS new (kind, repository_id, key)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO NOTHING

-- name: make_due_once
-- Makes work due at $4 that is not due yet: kinds $1, repositories $2, keys $3. What is due stays as it is.
INSERT INTO due (kind, repository_id, key, due_at, since)
SELECT new.kind, new.repository_id, new.key, $4, $4
FROM unnest($1::text[], $2::integer[], $3::text[]) AS new (kind, repository_id, key)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO NOTHING

-- name: take_due
-- Leases at most $2 rows of kind $1 that are due at $3 until $4, the longest due first.
UPDATE due SET lease_until = $4
FROM (
    SELECT kind, repository_id, key FROM due
    WHERE kind = $1 AND due_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
    ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS next, repository AS r
WHERE due.kind = next.kind AND due.repository_id = next.repository_id AND due.key = next.key
  AND r.id = due.repository_id
RETURNING due.repository_id, r.name AS repository, due.key, due.generation, due.attempts, due.looks, due.agreed,
          due.last_seen, due.since

-- name: take_due_of
-- Leases rows of kind $1 of the repositories $5 (names) until $4, whether due at $3 or later; at most $2.
UPDATE due SET lease_until = $4
FROM (
    SELECT d.kind, d.repository_id, d.key FROM due AS d JOIN repository AS r ON r.id = d.repository_id
    WHERE d.kind = $1 AND r.name = ANY ($5::text[]) AND d.due_at <= $3
      AND (d.lease_until IS NULL OR d.lease_until <= $3)
    ORDER BY d.due_at LIMIT $2
    FOR UPDATE OF d SKIP LOCKED
) AS next, repository AS r
WHERE due.kind = next.kind AND due.repository_id = next.repository_id AND due.key = next.key
  AND r.id = due.repository_id
RETURNING due.repository_id, r.name AS repository, due.key, due.generation, due.attempts, due.looks, due.agreed,
          due.last_seen, due.since

-- name: finish_due
-- Work done: kinds $1, repositories $2, keys $3, generations $4. Rows made due again meanwhile stay.
DELETE FROM due USING unnest($1::text[], $2::integer[], $3::text[], $4::integer[])
    AS done (kind, repository_id, key, generation)
WHERE due.kind = done.kind AND due.repository_id = done.repository_id AND due.key = done.key
  AND due.generation = done.generation

-- name: release_due
-- Rows that were made due again while they ran: kinds $1, repositories $2, keys $3; looked at at $4.
UPDATE due SET lease_until = NULL, looked_at = $4::timestamptz, due_at = greatest(due.due_at, $4::timestamptz + $5::interval)
FROM unnest($1::text[], $2::integer[], $3::text[]) AS done (kind, repository_id, key)
WHERE due.kind = done.kind AND due.repository_id = done.repository_id AND due.key = done.key
  AND due.lease_until IS NOT NULL

-- name: defer_due
-- Work to be repeated: kinds $1, repositories $2, keys $3, generations $4, at $5, attempts $6, looks $7, agreed $8,
-- last seen $9; looked at at $10. Rows made due again meanwhile only lose their lease.
UPDATE due
SET lease_until = NULL,
    looked_at = $10::timestamptz,
    due_at = CASE WHEN due.generation = later.generation THEN later.due_at ELSE greatest(due.due_at, $10::timestamptz + $11::interval) END,
    attempts = CASE WHEN due.generation = later.generation THEN later.attempts ELSE due.attempts END,
    looks = CASE WHEN due.generation = later.generation THEN later.looks ELSE due.looks END,
    agreed = CASE WHEN due.generation = later.generation THEN later.agreed ELSE due.agreed END,
    last_seen = CASE WHEN due.generation = later.generation THEN later.last_seen ELSE due.last_seen END
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::integer[], $7::integer[],
            $8::integer[], $9::text[])
    AS later (kind, repository_id, key, generation, due_at, attempts, looks, agreed, last_seen)
WHERE due.kind = later.kind AND due.repository_id = later.repository_id AND due.key = later.key

-- name: next_due
-- When the next row of kind $1 is due; null if none waits.
SELECT min(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END) FROM due WHERE kind = $1

-- name: backlog
-- Per kind: how many rows wait, since when the oldest, and how many failed before.
SELECT kind, count(*) AS waiting, min(since) AS since, count(*) FILTER (WHERE attempts > 0) AS failing
FROM due GROUP BY kind

-- name: waiting
-- Per kind: how many rows wait, of the repositories $1 (names; null: all), that have not failed repeatedly.
SELECT d.kind, count(*) AS waiting FROM due AS d JOIN repository AS r ON r.id = d.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND d.attempts < 3
GROUP BY d.kind

-- name: list_failing
-- The first $2 rows of kind $3, of the repositories $1 (names; null: all), that failed repeatedly, and how many those are.
SELECT r.name AS repository, d.key, d.attempts, count(*) OVER () AS all_of_them
FROM due AS d JOIN repository AS r ON r.id = d.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND d.attempts >= 3 AND d.kind = $3
ORDER BY r.name, d.key LIMIT $2

-- name: trim_due
-- Gives up at most $2 rows that have been due since before $1 and failed again and again: a walk brings back what matters.
DELETE FROM due WHERE (kind, repository_id, key) IN (
    SELECT kind, repository_id, key FROM due WHERE since < $1 AND attempts > 0 LIMIT $2
)
