-- name: enqueue
-- Enqueues work: kinds $1, repositories $2, keys $3, due at $5; now is $4. What waits already keeps the earlier time,
-- but observations of one key stay $6 apart (by a clock that was not set back). What is leased is done once more.
INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)
SELECT new.kind, new.repository_id, new.key, new.due_at, $4
FROM unnest($1::text[], $2::integer[], $3::text[], $5::timestamptz[]) AS new (kind, repository_id, key, due_at)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO UPDATE
SET generation = work_item.generation + 1,
    observations = 0, confirmations = 0, attempts = 0,
    due_at = greatest(least(work_item.due_at, excluded.due_at), least(work_item.last_observed_at, $4) + $6::interval)

-- name: enqueue_once
-- Enqueues work that does not wait yet, due at $4: kinds $1, repositories $2, keys $3. What waits stays as it is.
INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)
SELECT new.kind, new.repository_id, new.key, $4, $4
FROM unnest($1::text[], $2::integer[], $3::text[]) AS new (kind, repository_id, key)
ORDER BY new.kind, new.repository_id, new.key
ON CONFLICT (kind, repository_id, key) DO NOTHING

-- name: lease_work
-- Leases at most $2 items of kind $1 that are due at $3 until $4, the longest due first.
UPDATE work_item AS i SET lease_until = $4
FROM (
    SELECT kind, repository_id, key FROM work_item
    WHERE kind = $1 AND due_at <= $3 AND (lease_until IS NULL OR lease_until <= $3)
    ORDER BY due_at LIMIT $2
    FOR UPDATE SKIP LOCKED
) AS next, repository AS r
WHERE i.kind = next.kind AND i.repository_id = next.repository_id AND i.key = next.key AND r.id = i.repository_id
RETURNING i.repository_id, r.name AS repository, i.key, i.generation, i.attempts, i.observations, i.confirmations,
          i.last_observation, i.waiting_since

-- name: lease_work_of
-- Leases at most $2 items of kind $1 of the repositories $5 (names) that are due at $3 until $4.
UPDATE work_item AS i SET lease_until = $4
FROM (
    SELECT w.kind, w.repository_id, w.key FROM work_item AS w JOIN repository AS r ON r.id = w.repository_id
    WHERE w.kind = $1 AND r.name = ANY ($5::text[]) AND w.due_at <= $3
      AND (w.lease_until IS NULL OR w.lease_until <= $3)
    ORDER BY w.due_at LIMIT $2
    FOR UPDATE OF w SKIP LOCKED
) AS next, repository AS r
WHERE i.kind = next.kind AND i.repository_id = next.repository_id AND i.key = next.key AND r.id = i.repository_id
RETURNING i.repository_id, r.name AS repository, i.key, i.generation, i.attempts, i.observations, i.confirmations,
          i.last_observation, i.waiting_since

-- name: lease_wanted
-- Leases at most $1 manifests that a question waits for (write_notices: want_read), at $2 until $3.
UPDATE work_item AS i SET lease_until = $3
FROM (
    SELECT kind, repository_id, key FROM work_item
    WHERE kind = 'resolve' AND due_at = 'epoch' AND (lease_until IS NULL OR lease_until <= $2)
    LIMIT $1
    FOR UPDATE SKIP LOCKED
) AS next, repository AS r
WHERE i.kind = next.kind AND i.repository_id = next.repository_id AND i.key = next.key AND r.id = i.repository_id
RETURNING i.repository_id, r.name AS repository, i.key, i.generation, i.attempts, i.observations, i.confirmations,
          i.last_observation, i.waiting_since

-- name: complete
-- Removes items that are done: kinds $1, repositories $2, keys $3, generations $4. Those enqueued again meanwhile stay.
DELETE FROM work_item AS i USING unnest($1::text[], $2::integer[], $3::text[], $4::integer[])
    AS done (kind, repository_id, key, generation)
WHERE i.kind = done.kind AND i.repository_id = done.repository_id AND i.key = done.key
  AND i.generation = done.generation

-- name: release_due
-- Releases items that were enqueued again while they were leased: kinds $1, repositories $2, keys $3; observed at $4.
-- Observations stay $5 apart.
UPDATE work_item AS i
SET lease_until = NULL, last_observed_at = $4::timestamptz,
    due_at = greatest(i.due_at, $4::timestamptz + $5::interval)
FROM unnest($1::text[], $2::integer[], $3::text[]) AS done (kind, repository_id, key)
WHERE i.kind = done.kind AND i.repository_id = done.repository_id AND i.key = done.key AND i.lease_until IS NOT NULL

-- name: reschedule
-- Reschedules items: kinds $1, repositories $2, keys $3, generations $4, due at $5, attempts $6, observations $7,
-- confirmations $8, last observation $9; observed at $10. Those enqueued again meanwhile only lose their lease, and
-- stay $11 apart.
UPDATE work_item AS i
SET lease_until = NULL,
    last_observed_at = $10::timestamptz,
    due_at = CASE WHEN i.generation = later.generation THEN later.due_at
                  ELSE greatest(i.due_at, $10::timestamptz + $11::interval) END,
    attempts = CASE WHEN i.generation = later.generation THEN later.attempts ELSE i.attempts END,
    observations = CASE WHEN i.generation = later.generation THEN later.observations ELSE i.observations END,
    confirmations = CASE WHEN i.generation = later.generation THEN later.confirmations ELSE i.confirmations END,
    last_observation = CASE WHEN i.generation = later.generation THEN later.last_observation ELSE i.last_observation END
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::timestamptz[], $6::integer[], $7::integer[],
            $8::integer[], $9::text[])
    AS later (kind, repository_id, key, generation, due_at, attempts, observations, confirmations, last_observation)
WHERE i.kind = later.kind AND i.repository_id = later.repository_id AND i.key = later.key

-- name: next_due_at
-- When the next item of kind $1 can be leased; null: none waits.
SELECT min(CASE WHEN lease_until > due_at THEN lease_until ELSE due_at END) FROM work_item WHERE kind = $1

-- name: backlog
-- Per kind: how many items wait, since when the oldest, and how many failed before.
SELECT kind, count(*) AS waiting, min(waiting_since) AS waiting_since, count(*) FILTER (WHERE attempts > 0) AS failing
FROM work_item GROUP BY kind

-- name: waiting
-- Per kind: how many items wait, of the repositories $1 (names; null: all), that have not failed repeatedly.
SELECT i.kind, count(*) AS waiting FROM work_item AS i JOIN repository AS r ON r.id = i.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND i.attempts < 3
GROUP BY i.kind

-- name: list_failing
-- The first $2 items of kind $3, of the repositories $1 (names; null: all), that failed repeatedly, and how many those
-- are.
SELECT r.name AS repository, i.key, i.attempts, count(*) OVER () AS all_of_them
FROM work_item AS i JOIN repository AS r ON r.id = i.repository_id
WHERE ($1::text[] IS NULL OR r.name = ANY ($1::text[])) AND i.attempts >= 3 AND i.kind = $3
ORDER BY r.name, i.key LIMIT $2

-- name: trim_work
-- Gives up at most $2 items that have waited since before $1 and kept failing: a reconcile finds again what matters.
DELETE FROM work_item WHERE (kind, repository_id, key) IN (
    SELECT kind, repository_id, key FROM work_item WHERE waiting_since < $1 AND attempts > 0 LIMIT $2
)
