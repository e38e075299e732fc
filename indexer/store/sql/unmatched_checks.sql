-- name: find_checks
-- The checks that wait, of each of the keys $1 for the newest $2 tags.
SELECT match_key, name, oldest_at, newest_at, checks
FROM (
    SELECT *, row_number() OVER (PARTITION BY match_key ORDER BY newest_at DESC, name) AS place
    FROM unmatched_check WHERE match_key = ANY ($1::uuid[]) AND checks > 0
) AS w
WHERE place <= $2

-- name: put_checks
-- Writes what waits now: keys $1, tags $2, oldest at $3, newest at $4, how many $5 (0: nothing), stored at $6.
INSERT INTO unmatched_check (match_key, name, oldest_at, newest_at, checks, stored_at)
SELECT match_key, name, oldest_at, newest_at, checks, $6
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::integer[])
    AS new (match_key, name, oldest_at, newest_at, checks)
ORDER BY match_key, name
ON CONFLICT (match_key, name) DO UPDATE
SET oldest_at = excluded.oldest_at, newest_at = excluded.newest_at, checks = excluded.checks, stored_at = excluded.stored_at

-- name: trim_checks
-- Removes at most $2 that were stored before $1.
DELETE FROM unmatched_check
WHERE (match_key, name) IN (SELECT match_key, name FROM unmatched_check WHERE stored_at < $1 LIMIT $2)
