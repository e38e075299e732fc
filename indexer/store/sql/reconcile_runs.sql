-- name: hold_lock
-- Takes the lock ($1, $2) until it is released or the connection ends.
SELECT pg_advisory_lock($1::integer, $2::integer)

-- name: hold_lock_shared
SELECT pg_advisory_lock_shared($1::integer, $2::integer)

-- name: try_lock
SELECT pg_try_advisory_lock($1::integer, $2::integer)

-- name: release_lock
SELECT pg_advisory_unlock($1::integer, $2::integer)

-- name: release_locks
SELECT pg_advisory_unlock_all()

-- name: lock_beginning
-- Lets one worker at a time begin, join or close runs ($1: the lock's class); until the transaction ends. The server ends
-- one that is stopped in it after 15 s.
SELECT set_config('idle_in_transaction_session_timeout', '15s', true), pg_advisory_xact_lock($1::integer, 0)

-- name: has_others
-- Whether another connection than this one works on run $2 ($1: the lock's class).
SELECT EXISTS (
    SELECT FROM pg_locks AS l
    WHERE l.locktype = 'advisory' AND l.classid = $1::integer::oid AND l.objid = $2::integer::oid AND l.granted
      AND l.pid <> pg_backend_pid()
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))

-- name: open_runs
-- The runs that have not ended, oldest first; whether any worker is on them ($1: the lock's class), and the last sign
-- of one.
SELECT r.id, r.started_at, r.mode, r.cause, r.scope, r.thorough, r.first_reconcile,
       EXISTS (
    SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.classid = $1::integer::oid AND l.objid = r.id::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS alive,
       greatest(r.started_at, r.listed_at,
                (SELECT max(d.done_at) FROM reconcile_repository AS d WHERE d.run_id = r.id)) AS active_at
FROM reconcile_run AS r WHERE r.outcome IS NULL AND r.mode <> 'plan' ORDER BY r.id

-- name: begin_run
-- Begins a run: started at $1, mode $2, scope $3 (null: all), cause $4, thorough $5. Returns it.
INSERT INTO reconcile_run (started_at, mode, scope, cause, thorough, first_reconcile)
VALUES ($1, $2, $3, $4, $5, NOT EXISTS (
    SELECT FROM reconcile_run WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan'))
RETURNING id, started_at, mode, cause, scope, thorough, first_reconcile, true AS alive, started_at AS active_at

-- name: add_run_repositories
-- Lists the repositories $2 (names) for run $1, those compared longest ago first.
INSERT INTO reconcile_repository (run_id, name, position)
SELECT $1, n.name, row_number() OVER (ORDER BY r.last_reconciled_at NULLS FIRST, n.name)
FROM unnest($2::text[]) AS n (name) LEFT JOIN repository AS r ON r.name = n.name
ON CONFLICT DO NOTHING

-- name: mark_listed
-- Records that all repositories of run $1 are listed, at $2; undecided so far: $3.
UPDATE reconcile_run SET listed_at = $2, undecided = $3 WHERE id = $1

-- name: state_of
-- How far run $1 is.
SELECT r.listed_at, r.outcome IS NOT NULL AS ended,
       count(d.name) AS total, count(d.name) FILTER (WHERE d.done_at IS NULL) AS left
FROM reconcile_run AS r LEFT JOIN reconcile_repository AS d ON d.run_id = r.id WHERE r.id = $1 GROUP BY r.id

-- name: take_repository
-- Worker $2 takes the next repository of run $1, of the first $4 (null: of all), that no live worker has ($3: the
-- lock's class). Its pending deletions are removed: it is compared again.
WITH next AS (
    SELECT run_id, name FROM reconcile_repository
    WHERE run_id = $1 AND done_at IS NULL AND ($4::bigint IS NULL OR position <= $4)
      AND (worker IS NULL OR worker::bigint <> ALL (ARRAY(
          SELECT l.objid::bigint FROM pg_locks AS l
          WHERE l.locktype = 'advisory' AND l.classid = $3::integer::oid
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))))
    ORDER BY position LIMIT 1
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE reconcile_repository AS d SET worker = $2 FROM next
    WHERE d.run_id = next.run_id AND d.name = next.name
    RETURNING d.run_id, d.name
), forgotten AS (
    DELETE FROM pending_deletion AS h USING taken WHERE h.run_id = taken.run_id AND h.repository = taken.name
)
SELECT name FROM taken

-- name: end_repository
-- Worker $3 completes repository $2 (name) of run $1 at $4: counts $5, undecided $6.
UPDATE reconcile_repository SET done_at = $4, counts = $5, undecided = $6
WHERE run_id = $1 AND name = $2 AND worker = $3 AND done_at IS NULL

-- name: add_pending_deletions
-- Worker $10 stores deletions of repository $2 (name), which it has of run $1: keys $3, all of manifests or none $4,
-- revisions $5, observed at $6, as of $7, expected $8; whether the registry does not know the repository $9.
INSERT INTO pending_deletion
    (run_id, repository, is_manifest, repository_vanished, key, revision, observed_at, as_of, expected)
SELECT d.run_id, d.name, $4, $9, new.*
FROM reconcile_repository AS d,
     unnest($3::text[], $5::integer[], $6::timestamptz[], $7::timestamptz[], $8::bytea[]) AS new
WHERE d.run_id = $1 AND d.name = $2 AND d.worker = $10 AND d.done_at IS NULL
ON CONFLICT (run_id, is_manifest, repository, key) DO UPDATE
SET revision = excluded.revision, observed_at = excluded.observed_at, as_of = excluded.as_of,
    expected = excluded.expected, repository_vanished = excluded.repository_vanished

-- name: sum_counts
-- The sums of the counts of the repositories of run $1.
SELECT c.key, sum(c.value::bigint)::bigint AS value
FROM reconcile_repository AS d, jsonb_each_text(d.counts) AS c WHERE d.run_id = $1 GROUP BY c.key

-- name: list_undecided
-- What was inconclusive in the repositories of run $1.
SELECT undecided FROM reconcile_repository WHERE run_id = $1 AND undecided <> '{}' ORDER BY name

-- name: end_run
-- Ends run $1: finished at $2, outcome $3, counts $4, undecided $5, note $6.
UPDATE reconcile_run SET finished_at = $2, outcome = $3, counts = $4, undecided = $5, note = $6
WHERE id = $1 AND outcome IS NULL

-- name: give_up_run
-- Ends run $1 as it is: finished at $2, outcome $3, note $4.
UPDATE reconcile_run SET finished_at = $2, outcome = $3, note = coalesce($4, note) WHERE id = $1 AND outcome IS NULL

-- name: note_run
-- Records what stopped run $1 for now: $2.
UPDATE reconcile_run SET note = $2 WHERE id = $1 AND outcome IS NULL

-- name: drop_run_repositories
DELETE FROM reconcile_repository WHERE run_id = $1

-- name: drop_pending_deletions
DELETE FROM pending_deletion WHERE run_id = $1

-- name: result_of
-- The result of run $1.
SELECT outcome, counts, undecided, deletions_allowed, brake_reason FROM reconcile_run WHERE id = $1

-- name: progress_run
-- Records the counts of run $1 so far.
UPDATE reconcile_run SET counts = $2 WHERE id = $1 AND outcome IS NULL
