-- name: try_walk_lock
-- Takes the lock of the one process that walks, for as long as the connection holds it; false if another has it.
SELECT pg_try_advisory_lock($1)

-- name: release_walk_lock
SELECT pg_advisory_unlock($1)

-- name: take_part
-- Shows that this connection works at run $2, for as long as it lasts or until it lets go; $1 is the lock's class.
SELECT pg_advisory_lock_shared($1::integer, $2::integer)

-- name: leave_run
SELECT pg_advisory_unlock_shared($1::integer, $2::integer)

-- name: close_interrupted
-- Closes at $1 the runs that nobody works at any more ($2: the lock's class) and that have not ended.
UPDATE drift_run AS r SET outcome = 'interrupted', finished_at = $1
WHERE r.outcome IS NULL AND NOT EXISTS (
    SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.classid = $2::integer::oid AND l.objid = r.id::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))

-- name: begin_run
-- Opens a drift run: started at $1, mode $2, scope $3 (null: everything), cause $4. Returns its id.
INSERT INTO drift_run (started_at, mode, scope, cause) VALUES ($1, $2, $3, $4) RETURNING id

-- name: progress_run
-- What run $1 counted so far.
UPDATE drift_run SET counts = $2 WHERE id = $1

-- name: finish_run
-- Closes run $1: finished at $2, outcome $3, counts $4, note $5.
UPDATE drift_run SET finished_at = $2, outcome = $3, counts = $4, note = $5 WHERE id = $1

-- name: add_findings
-- Reports differences: runs $1, detected at $2, repaired at $3, repositories $4, kinds $5, causes $6, tags $7,
-- expected $8, found $9, notes $10, not before $11. Of those repaired the causes $12 may still become better known.
INSERT INTO drift_finding
    (run_id, detected_at, repaired_at, repository_id, kind, cause, tag, expected, found, note, not_before, explained_at)
SELECT new.*, CASE WHEN repaired IS NULL OR cause <> ALL ($12::text[]) THEN detected END
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::text[], $6::text[],
            $7::text[], $8::bytea[], $9::bytea[], $10::text[], $11::timestamptz[])
    AS new (run, detected, repaired, repository, kind, cause, tag, expected, found, note, not_before)

-- name: last_complete_run
-- The newest walk of everything that ended complete.
SELECT id, started_at, finished_at, counts FROM drift_run
WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan' ORDER BY finished_at DESC LIMIT 1
