-- name: find_checks
-- What waits of each of $1, the newest $2 tags of each, where anything does.
SELECT c.asking, c.name, c.oldest_at, c.newest_at, c.checks
FROM unnest($1::uuid[]) AS wanted (asking)
CROSS JOIN LATERAL (
    SELECT * FROM pull_check AS w WHERE w.asking = wanted.asking ORDER BY w.newest_at DESC, w.name LIMIT $2
) AS c

-- name: put_checks
-- What waits now: $1, tags $2, oldest at $3, newest at $4, how many $5, stored at $6.
INSERT INTO pull_check (asking, name, oldest_at, newest_at, checks, stored_at)
SELECT asking, name, oldest_at, newest_at, checks, $6
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::integer[])
    AS new (asking, name, oldest_at, newest_at, checks)
ORDER BY asking, name
ON CONFLICT (asking, name) DO UPDATE
SET oldest_at = excluded.oldest_at, newest_at = excluded.newest_at, checks = excluded.checks, stored_at = excluded.stored_at

-- name: drop_checks
-- Nothing waits any more of $1 and tags $2.
DELETE FROM pull_check AS c USING unnest($1::uuid[], $2::text[]) AS gone (asking, name)
WHERE c.asking = gone.asking AND c.name = gone.name

-- name: trim_checks
-- Forgets at most $2 that were stored before $1.
DELETE FROM pull_check WHERE (asking, name) IN (SELECT asking, name FROM pull_check WHERE stored_at < $1 LIMIT $2)
