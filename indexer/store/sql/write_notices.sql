-- name: put_notice
-- Notes the write $1 (method $4) of the reference $3 in the repository $2 by the address $5; returns its number, null if $6 writes
-- of this address or $7 of the repository are noted.
INSERT INTO write_notice (id, repository, reference, method, noticed_at, address)
SELECT $1::text, $2::text, $3::text, $4::text, clock_timestamp(), $5::bytea
WHERE (SELECT count(*) FROM (SELECT FROM write_notice WHERE repository = $2 AND address = $5 LIMIT $6) AS own) < $6
  AND (SELECT count(*) FROM (SELECT FROM write_notice WHERE repository = $2 LIMIT $7) AS open) < $7
ON CONFLICT DO NOTHING
RETURNING number

-- name: has_overflow
-- Whether it was noted within $2 that more is written in the repository $1 than is noted one by one.
SELECT EXISTS (
    SELECT FROM write_notice
    WHERE repository = $1 AND reference = '*' AND id = '' AND noticed_at > clock_timestamp() - $2::interval
)

-- name: put_overflow
-- Notes that more is written in the repository $1 than is noted one by one.
INSERT INTO write_notice AS n (id, repository, reference, method, noticed_at)
VALUES ('', $1, '*', '', clock_timestamp())
ON CONFLICT (id, repository, reference) DO UPDATE SET noticed_at = excluded.noticed_at

-- name: lock_judgements
-- Holds back other judgements about the repository $2 until this transaction ends; $1 is the class of the locks.
SELECT pg_advisory_xact_lock($1::integer, hashtext($2::text))

-- name: count_rivals
-- How many other writes may be under way because of which the write $1 may not push the tag $3 of the repository $2: other pushes
-- of it, and deletions of digests that were noted in the last $4 seconds.
SELECT count(*) FROM write_notice
WHERE repository = $2 AND id <> $1
  AND ((method = 'PUT' AND reference = $3)
    OR (method = 'DELETE' AND position(':' IN reference) > 0 AND noticed_at > clock_timestamp() - make_interval(secs => $4)))

-- name: put_push
-- Notes the push $1 of the tag $3 in the repository $2 by the address $6, $5 seconds ahead of now, unless $4 writes of the repository
-- are noted; returns its number.
INSERT INTO write_notice (id, repository, reference, method, noticed_at, address)
SELECT $1::text, $2::text, $3::text, 'PUT', clock_timestamp() + make_interval(secs => $5), $6::bytea
WHERE (SELECT count(*) FROM (SELECT FROM write_notice WHERE repository = $2 LIMIT $4) AS open) < $4
ON CONFLICT DO NOTHING
RETURNING number

-- name: want_checked
-- Has the notice $1 of the reference $3 in the repository $2 verified; returns the number of the question.
UPDATE write_notice SET wanted = nextval('write_question') WHERE id = $1 AND repository = $2 AND reference = $3
RETURNING wanted

-- name: is_checked
-- Whether it was verified for the question $4.
SELECT verified >= $4 FROM write_notice WHERE id = $1 AND repository = $2 AND reference = $3

-- name: has_tag
-- Whether the repository $1 has the tag $2 on record.
SELECT EXISTS (SELECT FROM repository AS r JOIN tag AS t ON t.repository_id = r.id WHERE r.name = $1 AND t.name = $2)

-- name: list_pushes
-- The tags of the repository $1 of which a push may be under way.
SELECT DISTINCT reference AS name FROM write_notice
WHERE repository = $1 AND method = 'PUT' AND position(':' IN reference) = 0

-- name: list_kept_by
-- The tags of the repository $1 that need the manifest $2 (digest): those that point to it, or to an index that leads to it, five
-- levels up. Where $3, also those that one of GitLab's dummies, or a manifest that was not read yet, deleted on record, but not
-- yet in the registry.
WITH RECURSIVE above (id, level) AS (
    SELECT id, 0 FROM manifest WHERE digest = $2
    UNION
    SELECT c.manifest_id, a.level + 1 FROM above AS a JOIN manifest_child AS c ON c.child_id = a.id WHERE a.level < 5
)
SELECT t.name, false AS by_dummy
FROM above AS a JOIN tag AS t ON t.manifest_id = a.id JOIN repository AS r ON r.id = t.repository_id WHERE r.name = $1
UNION
SELECT d.name, true
FROM repository AS r JOIN tag_tombstone AS d ON d.repository_id = r.id AND d.by_dummy
WHERE r.name = $1 AND ($3
    OR EXISTS (SELECT FROM dummy_manifest WHERE digest = $2)
    OR NOT EXISTS (SELECT FROM manifest WHERE digest = $2 AND content <> 'announced'))

-- name: was_reconciled
-- Whether the registry was compared with the inventory completely at least once: then the tags on record are its tags.
SELECT EXISTS (SELECT FROM reconcile_run WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan')

-- name: drop_notice
-- Ends the notice $1 of the repository $2: its write did not take place.
DELETE FROM write_notice WHERE id = $1 AND repository = $2

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

-- name: lock_notices
-- Locks the notices of the repositories $1, references $2 (each pair once), in the order in which every statement locks them.
SELECT n.id, n.repository, n.reference
FROM unnest($1::text[], $2::text[]) AS named (repository, reference)
JOIN write_notice AS n ON n.repository = named.repository AND n.reference = named.reference
WHERE EXISTS (SELECT FROM write_notice)
ORDER BY n.id, n.repository, n.reference FOR UPDATE OF n

-- name: touch_notices
-- Takes back what was verified of the notices $1 (ids), $2 (repositories), $3 (references): an event of theirs is applied.
UPDATE write_notice AS n SET touched = n.touched + 1, verified = 0
FROM unnest($1::text[], $2::text[], $3::text[]) AS named (id, repository, reference)
WHERE n.id = named.id AND n.repository = named.repository AND n.reference = named.reference

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
-- A new question's number, the newest notice that it waits for (null: none), how many there are, for how many seconds the oldest is
-- noted, and whether there are more than are kept: of the repository $1, and where $2 those below it. Pushes by digest, which
-- change no tag, only where $3.
SELECT nextval('write_question') AS number, max(n.number) AS newest, count(n.number) AS open,
       coalesce(extract(epoch FROM clock_timestamp() - min(n.noticed_at)), 0)::float8 AS oldest,
       coalesce(bool_or(n.reference = '*'), false) AS overflow
FROM write_notice AS n
WHERE (n.repository = $1 OR ($2 AND starts_with(n.repository, $1 || '/'))) AND n.reference <> '**'
  AND ($3 OR n.method <> 'PUT' OR position(':' IN n.reference) = 0)

-- name: count_open
-- Of the notices up to $5 (those that begin_question finds with $1 to $3): how many are neither ended nor verified for the
-- question $4, how many are not ended, and what changes with each event of theirs that is applied. A comparison of the repository
-- for this question ($6: the kinds that suffice) verifies them all.
SELECT count(*) FILTER (WHERE n.reference <> '**' AND n.verified < $4 AND NOT EXISTS (
           SELECT FROM write_notice AS c
           WHERE c.repository = n.repository AND c.reference = '**' AND c.id = ANY ($6::text[]) AND c.verified >= $4
       )) AS open,
       count(*) FILTER (WHERE n.reference <> '**') AS left,
       coalesce(sum(hashtextextended(n.id || ' ' || n.reference, n.touched)), 0)::text AS state
FROM write_notice AS n
WHERE (n.repository = $1 OR ($2 AND starts_with(n.repository, $1 || '/')))
  AND ($3 OR n.method <> 'PUT' OR position(':' IN n.reference) = 0)
  AND (n.number <= $5 OR n.reference = '**')

-- name: want_compared
-- Has the repository $1, and where $2 those below it with notices up to $4, compared for the question $3 as the kind $5 says.
INSERT INTO write_notice AS n (id, repository, reference, method, noticed_at, wanted)
SELECT $5, wanted.repository, '**', '', clock_timestamp(), $3
FROM (
    SELECT $1::text AS repository
    UNION
    SELECT repository FROM write_notice
    WHERE $2 AND starts_with(repository, $1 || '/') AND reference <> '**' AND number <= $4
) AS wanted
ORDER BY wanted.repository
ON CONFLICT (id, repository, reference) DO UPDATE
SET wanted = greatest(n.wanted, excluded.wanted), noticed_at = excluded.noticed_at

-- name: is_compared
-- Whether the repository $1 was compared completely for the question $2.
SELECT EXISTS (
    SELECT FROM write_notice WHERE id = 'compare' AND repository = $1 AND reference = '**' AND verified >= $2
)

-- name: want_verified
-- Has those notices up to $4 verified for the question $3 that it waits for, if they are noted for $5 or longer; $1, $2 as in
-- begin_question, where $6 pushes by digest, too.
UPDATE write_notice AS n SET wanted = $3
FROM (
    SELECT id, repository, reference FROM write_notice
    WHERE (repository = $1 OR ($2 AND starts_with(repository, $1 || '/')))
      AND ($6 OR method <> 'PUT' OR position(':' IN reference) = 0)
      AND reference NOT IN ('*', '**') AND number <= $4 AND verified < $3 AND wanted < $3
      AND noticed_at <= clock_timestamp() - $5::interval
    ORDER BY id, repository, reference FOR UPDATE SKIP LOCKED
) AS open
WHERE n.id = open.id AND n.repository = open.repository AND n.reference = open.reference

-- name: list_wanted
-- At most $1 notices that are to be verified, by repository; its id is null if it is not on record. $2: comparisons of all tags
-- instead.
SELECT n.id, n.repository, n.reference, n.method, n.wanted, n.touched, r.id AS repository_id
FROM write_notice AS n LEFT JOIN repository AS r ON r.name = n.repository
WHERE n.wanted > n.verified AND (n.id = 'compare') = $2
ORDER BY n.repository, n.number LIMIT $1

-- name: list_pointing
-- The tags of the repository $1 (id) on record that point to the digest $2.
SELECT t.name FROM manifest AS m JOIN tag AS t ON t.repository_id = $1 AND t.manifest_id = m.id WHERE m.digest = $2

-- name: mark_verified
-- The notices $1 (ids), $2 (repositories), $3 (references) were verified for the questions $4, unless an event of theirs was applied
-- after they had been touched $5 times.
UPDATE write_notice AS n SET verified = greatest(n.verified, open.question)
FROM (
    SELECT n.id, n.repository, n.reference, done.question, done.touched
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[])
        AS done (id, repository, reference, question, touched)
    JOIN write_notice AS n ON n.id = done.id AND n.repository = done.repository AND n.reference = done.reference
    ORDER BY n.id, n.repository, n.reference FOR UPDATE OF n
) AS open
WHERE n.id = open.id AND n.repository = open.repository AND n.reference = open.reference AND n.touched = open.touched

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

-- name: list_live
-- The names of the tags of the repository $1 (id) on record.
SELECT name FROM tag WHERE repository_id = $1

-- name: has_unread
-- Whether a manifest of the repository $1 was not asked for since it was last announced.
SELECT EXISTS (
    SELECT FROM work_item AS w JOIN repository AS r ON r.id = w.repository_id
    WHERE r.name = $1 AND w.kind = 'resolve' AND w.attempts = 0
)

-- name: list_asked
-- At most $2 manifests of the repository $1 that are asked for again, and what the last answer was; not those that failed
-- repeatedly.
SELECT w.repository_id, w.key, w.last_observation
FROM work_item AS w JOIN repository AS r ON r.id = w.repository_id
WHERE r.name = $1 AND w.kind = 'resolve' AND w.attempts BETWEEN 1 AND 2
LIMIT $2

-- name: want_read
-- Has at most $2 manifests of the repository $1 read before all others that were not asked for since they were last announced.
UPDATE work_item AS w SET due_at = 'epoch'
FROM (
    SELECT kind, repository_id, key FROM work_item
    WHERE kind = 'resolve' AND repository_id = (SELECT id FROM repository WHERE name = $1)
      AND attempts = 0 AND due_at > 'epoch'
    LIMIT $2 FOR UPDATE SKIP LOCKED
) AS unread
WHERE w.kind = unread.kind AND w.repository_id = unread.repository_id AND w.key = unread.key

-- name: count_notices
-- How many notices are open.
SELECT count(*) FROM write_notice WHERE reference <> '**'

-- name: trim_notices
-- Forgets at most $2 notices from before $1: the proxy has ended those requests.
DELETE FROM write_notice WHERE (id, repository, reference) IN (
    SELECT id, repository, reference FROM write_notice WHERE noticed_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
)
