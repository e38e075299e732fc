-- name: put_notice
-- Notes the write $1 (method $4) of the reference $3 in the repository $2, unless $5 writes of it are noted; returns its number.
INSERT INTO write_notice (id, repository, reference, method, noticed_at)
SELECT $1::text, $2::text, $3::text, $4::text, clock_timestamp()
WHERE (SELECT count(*) FROM (SELECT FROM write_notice WHERE repository = $2 LIMIT $5) AS open) < $5
ON CONFLICT DO NOTHING
RETURNING number

-- name: put_overflow
-- Notes that more is written in the repository $1 than is noted one by one.
INSERT INTO write_notice AS n (id, repository, reference, method, noticed_at)
VALUES ('', $1, '*', '', clock_timestamp())
ON CONFLICT (id, repository, reference) DO UPDATE SET noticed_at = excluded.noticed_at, number = excluded.number

-- name: spread_deletions
-- Notes the tags that point to a deleted digest: writes $1, repositories $2, digests as text $3 and as bytes $4.
INSERT INTO write_notice (number, id, repository, reference, method, noticed_at)
SELECT n.number, n.id, n.repository, t.name, n.method, n.noticed_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) AS deleted (id, repository, reference, digest)
JOIN write_notice AS n ON n.id = deleted.id AND n.repository = deleted.repository AND n.reference = deleted.reference
JOIN repository AS r ON r.name = n.repository
JOIN manifest AS m ON m.digest = deleted.digest
JOIN tag AS t ON t.repository_id = r.id AND t.manifest_id = m.id
ON CONFLICT DO NOTHING

-- name: end_notices
-- Ends the notices of the writes $1 in the repositories $2, references $3; returns one row for each.
DELETE FROM write_notice WHERE (id, repository, reference) IN (
    SELECT n.id, n.repository, n.reference
    FROM unnest($1::text[], $2::text[], $3::text[]) AS ended (id, repository, reference)
    JOIN write_notice AS n ON n.id = ended.id AND n.repository = ended.repository AND n.reference = ended.reference
    ORDER BY n.id, n.repository, n.reference FOR UPDATE OF n
)
RETURNING id

-- name: begin_question
-- A new question's number, the newest notice that it waits for (null: none), and whether there are more than are kept: of the
-- repository $1, and where $2 those below it. Pushes by digest, which change no tag, only where $3.
SELECT nextval('write_question') AS number, max(n.number) AS newest, coalesce(bool_or(n.reference = '*'), false) AS overflow
FROM write_notice AS n
WHERE (n.repository = $1 OR ($2 AND starts_with(n.repository, $1 || '/')))
  AND ($3 OR n.method <> 'PUT' OR position(':' IN n.reference) = 0)

-- name: count_open
-- How many notices up to $5 are neither ended nor verified for the question $4; $1 to $3 as in begin_question.
SELECT count(*) FROM write_notice AS n
WHERE (n.repository = $1 OR ($2 AND starts_with(n.repository, $1 || '/')))
  AND ($3 OR n.method <> 'PUT' OR position(':' IN n.reference) = 0)
  AND n.number <= $5 AND n.verified < $4

-- name: want_verified
-- Has those notices up to $4 verified for the question $3 that a tag can tell of; $1, $2 as in begin_question.
UPDATE write_notice AS n SET wanted = $3
FROM (
    SELECT id, repository, reference FROM write_notice
    WHERE (repository = $1 OR ($2 AND starts_with(repository, $1 || '/')))
      AND (method <> 'PUT' OR position(':' IN reference) = 0)
      AND reference <> '*' AND number <= $4 AND verified < $3 AND wanted < $3
    ORDER BY id, repository, reference FOR UPDATE SKIP LOCKED
) AS open
WHERE n.id = open.id AND n.repository = open.repository AND n.reference = open.reference

-- name: list_wanted
-- At most $1 notices that are to be verified, by repository; its id is null if it is not on record.
SELECT n.id, n.repository, n.reference, n.wanted, r.id AS repository_id
FROM write_notice AS n LEFT JOIN repository AS r ON r.name = n.repository
WHERE n.wanted > n.verified
ORDER BY n.repository, n.number LIMIT $1

-- name: list_pointing
-- The tags of the repository $1 (id) on record that point to the digest $2.
SELECT t.name FROM manifest AS m JOIN tag AS t ON t.repository_id = $1 AND t.manifest_id = m.id WHERE m.digest = $2

-- name: mark_verified
-- The notices $1 (ids), $2 (repositories), $3 (references) were verified for the questions $4.
UPDATE write_notice AS n SET verified = greatest(n.verified, open.question)
FROM (
    SELECT n.id, n.repository, n.reference, done.question
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS done (id, repository, reference, question)
    JOIN write_notice AS n ON n.id = done.id AND n.repository = done.repository AND n.reference = done.reference
    ORDER BY n.id, n.repository, n.reference FOR UPDATE OF n
) AS open
WHERE n.id = open.id AND n.repository = open.repository AND n.reference = open.reference

-- name: drop_wanted
-- Of the notices $1 (ids), $2 (repositories), $3 (references) nothing is known for the questions $4: whoever waits asks again.
UPDATE write_notice AS n SET wanted = n.verified
FROM (
    SELECT n.id, n.repository, n.reference
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS done (id, repository, reference, question)
    JOIN write_notice AS n ON n.id = done.id AND n.repository = done.repository AND n.reference = done.reference
    WHERE n.wanted = done.question
    ORDER BY n.id, n.repository, n.reference FOR UPDATE OF n
) AS open
WHERE n.id = open.id AND n.repository = open.repository AND n.reference = open.reference

-- name: has_unread
-- Whether a manifest of the repository $1 is still to be read; those that failed repeatedly do not count.
SELECT EXISTS (
    SELECT FROM work_item AS w JOIN repository AS r ON r.id = w.repository_id
    WHERE r.name = $1 AND w.kind = 'resolve' AND w.attempts < 3
)

-- name: count_notices
-- How many notices are open.
SELECT count(*) FROM write_notice

-- name: trim_notices
-- Forgets at most $2 notices from before $1: the proxy has ended those requests.
DELETE FROM write_notice WHERE (id, repository, reference) IN (
    SELECT id, repository, reference FROM write_notice WHERE noticed_at < $1 LIMIT $2
)
