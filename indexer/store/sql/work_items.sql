-- name: enqueue
-- Makes work work_item: kinds $1, repositories $2, keys $3, work_item at $5; now is $4. What is work_item already keeps the earlier time,
-- but observations at one key stay $6 apart (by a clock that was not set back); what is running runs once more.
INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)
SELECT new.kind, new.repository_id, new.key, new.due_at, $4
FROM unnest($1::text[], $2::integer[], $3::text[], $5::timestamptz[]) AS new (kind, repository_id, key, due_at)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO UPDATE
SET generation = work_item.generation + 1,
    observations = 0, confirmations = 0, attempts = 0,
    due_at = greatest(least(work_item.due_at, excluded.due_at), least(work_item.last_observed_at, $4) + $6::interval)

-- name: enqueue_once
-- Makes work work_item at $4 that is not work_item yet: kinds $1, repositories $2, keys $3. What is work_item stays as it is.
INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)
SELECT new.kind, new.repository_id, new.key, $4, $4
FROM unnest($1::text[], $2::integer[], $3::text[]) AS new (kind, repository_id, key)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO NOTHING

-- name: lease_work
-- Leases at most $2 rows of kind $1 that are work_item at $3 until $4, the longest work_item first.
UPDATE work_item SET lease_until = $4
FROM (
    SELECT kind, repository_id, key FROM work_item
    WHERE kind = $1 AND due_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
    ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS next, repository AS r
WHERE work_item.kind = next.kind AND work_item.repository_id = next.repository_id AND work_item.key = next.key
  AND r.id = work_item.repository_id
RETURNING work_item.repository_id, r.name AS repository, work_item.key, work_item.generation, work_item.attempts, work_item.observations, work_item.confirmations,
          work_item.last_observation, work_item.waiting_since

-- name: lease_work_of
-- Leases rows of kind $1 of the repositories $5 (names) until $4, whether work_item at $3 or later; at most $2.
UPDATE work_item SET lease_until = $4
FROM (
    SELECT d.kind, d.repository_id, d.key FROM work_item AS d JOIN repository AS r ON r.id = d.repository_id
    WHERE d.kind = $1 AND r.name = ANY ($5::text[]) AND d.due_at <= $3
      AND (d.lease_until IS NULL OR d.lease_until <= $3)
    ORDER BY d.due_at LIMIT $2
    FOR UPDATE OF d SKIP LOCKED
) AS next, repository AS r
WHERE work_item.kind = next.kind AND work_item.repository_id = next.repository_id AND work_item.key = next.key
  AND r.id = work_item.repository_id
RETURNING work_item.repository_id, r.name AS repository, work_item.key, work_item.generation, work_item.attempts, work_item.observations, work_item.confirmations,
          work_item.last_observation, work_item.waiting_since

-- name: complete
-- Work done: kinds $1, repositories $2, keys $3, generations $4. Rows made work_item again meanwhile stay.
DELETE FROM work_item USING unnest($1::text[], $2::integer[], $3::text[], $4::integer[])
    AS done (kind, repository_id, key, generation)
WHERE work_item.kind = done.kind AND work_item.repository_id = done.repository_id AND work_item.key = done.key
  AND work_item.generation = done.generation

-- name: release_due
-- Rows that were made work_item again while they ran: kinds $1, repositories $2, keys $3; looked at at $4.
UPDATE work_item SET lease_until = NULL, last_observed_at = $4::timestamptz, due_at = greatest(work_item.due_at, $4::timestamptz + $5::interval)
FROM unnest($1::text[], $2::integer[], $3::text[]) AS done (kind, repository_id, key)
WHERE work_item.kind = done.kind AND work_item.repository_id = done.repository_id AND work_item.key = done.key
  AND work_item.lease_until IS NOT NULL

-- name: reschedule
-- Work to be repeated: kinds $1, repositories $2, keys $3, generations $4, at $5, attempts $6, observations $7, confirmations $8,
-- last seen $9; looked at at $10. Rows made work_item again meanwhile only lose their lease.
UPDATE work_item
SET lease_until = NULL,
    last_observed_at = $10::timestamptz,
    due_at = CASE WHEN work_item.generation = later.generation THEN later.due_at ELSE greatest(work_item.due_at, $10::timestamptz + $11::interval) END,
    attempts = CASE WHEN work_item.generation = later.generation THEN later.attempts ELSE work_item.attempts END,
    observations = CASE WHEN work_item.generation = later.generation THEN later.observations ELSE work_item.observations END,
    confirmations = CASE WHEN work_item.generation = later.generation THEN later.confirmations ELSE work_item.confirmations END,
    last_observation = CASE WHEN work_item.generation = later.generation THEN later.last_observation ELSE work_item.last_observation END
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::integer[], $7::integer[],
            $8::integer[], $9::text[])
    AS later (kind, repository_id, key, generation, due_at, attempts, observations, confirmations, last_observation)
WHERE work_item.kind = later.kind AND work_item.repository_id = later.repository_id AND work_item.key = later.key

-- name: next_due_at
-- When the next row of kind $1 is work_item; null if none waits.
SELECT min(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END) FROM work_item WHERE kind = $1

-- name: backlog
-- Per kind: how many rows wait, since when the oldest, and how many failed before.
SELECT kind, count(*) AS waiting, min(waiting_since) AS waiting_since, count(*) FILTER (WHERE attempts > 0) AS failing
FROM work_item GROUP BY kind

-- name: waiting
-- Per kind: how many rows wait, of the repositories $1 (names; null: all), that have not failed repeatedly.
SELECT d.kind, count(*) AS waiting FROM work_item AS d JOIN repository AS r ON r.id = d.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND d.attempts < 3
GROUP BY d.kind

-- name: list_failing
-- The first $2 rows of kind $3, of the repositories $1 (names; null: all), that failed repeatedly, and how many those are.
SELECT r.name AS repository, d.key, d.attempts, count(*) OVER () AS all_of_them
FROM work_item AS d JOIN repository AS r ON r.id = d.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND d.attempts >= 3 AND d.kind = $3
ORDER BY r.name, d.key LIMIT $2

-- name: trim_work
-- Gives up at most $2 rows that have been work_item since before $1 and failed again and again: a walk brings back what matters.
DELETE FROM work_item WHERE (kind, repository_id, key) IN (
    SELECT kind, repository_id, key FROM work_item WHERE waiting_since < $1 AND attempts > 0 LIMIT $2
)
