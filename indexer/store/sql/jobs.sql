-- name: lock_jobs
-- Lets one transaction at a time ask for jobs, take them or end them ($1: the lock's key): what conflicts is seen. The
-- server ends one whose process is stopped in it after 10 s: nobody else could ask for a job, or take one, until then.
SELECT set_config('idle_in_transaction_session_timeout', '10s', true), pg_advisory_xact_lock($1::bigint)

-- name: database_clock
SELECT clock_timestamp()

-- name: find_replayed
-- The job that owner $1 asked for with the idempotency key $2, and whether the request was the same (hash $3).
SELECT *, request_hash = $3 AS is_same FROM job WHERE idempotency_owner = $1 AND idempotency_key = $2

-- name: find_conflict
-- The oldest unended job that keeps a new one of repositories $1 (null: the whole registry) from acting. A single one
-- is kept by its like and by every registry-wide one, a registry-wide one only by another: it waits for single ones.
SELECT * FROM job
WHERE ended_at IS NULL AND acts
  AND (repositories IS NULL OR ($1::text[] IS NOT NULL AND repositories && $1::text[]))
ORDER BY number LIMIT 1

-- name: add_job
-- Adds a job: id $1, kind $2, acts $3, params $4, repositories $5, asked by $6, from $7, with $8, by a policy $9,
-- reason $10, bounds $11, at $12; idempotency owner $13, key $14, hash of the request $15. Returns it.
INSERT INTO job (id, kind, acts, params, repositories, asked_by, asked_from, asked_with, by_policy, reason, bounds,
                 created_at, idempotency_owner, idempotency_key, request_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) RETURNING *

-- name: find_job
SELECT * FROM job WHERE id = $1

-- name: list_unended
-- Jobs that have not ended, oldest first, at most $1.
SELECT * FROM job WHERE ended_at IS NULL ORDER BY number LIMIT $1

-- name: list_acting
-- Jobs that change the registry and that a process has whose lease has not run out.
SELECT * FROM job WHERE ended_at IS NULL AND acts AND state = 'running' AND leased_until > clock_timestamp() ORDER BY number

-- name: newest_jobs
-- The jobs that were asked for last, newest first, at most $1; of the states $2 and kinds $3 (null: any).
SELECT * FROM job
WHERE ($2::text[] IS NULL OR state = ANY ($2::text[])) AND ($3::text[] IS NULL OR kind = ANY ($3::text[]))
ORDER BY number DESC LIMIT $1

-- name: unpause_jobs
-- Lets every paused job go on.
UPDATE job SET state = 'waiting', note = NULL WHERE state = 'paused' RETURNING id

-- name: take_job
-- Takes the oldest job that may run now, of the kinds $1, for worker $2, under lease $3, for $4 (interval). $5: only
-- the job of this id (null: any); $6: acting is paused. Jobs that act exclude each other where they share a repository,
-- others only their like: whichever was asked for first goes first. Returns it; died: its last process disappeared.
WITH next AS (
    SELECT j.number, j.state = 'running' AS died
    FROM job AS j
    WHERE j.ended_at IS NULL AND j.kind = ANY ($1::text[]) AND ($5::uuid IS NULL OR j.id = $5::uuid)
      AND CASE WHEN j.state = 'running' THEN j.leased_until <= clock_timestamp()
               ELSE j.not_before IS NULL OR j.not_before <= clock_timestamp() OR j.cancel_asked_at IS NOT NULL END
      AND NOT (j.acts AND $6::boolean)
      AND NOT EXISTS (
          SELECT FROM job AS o
          WHERE o.ended_at IS NULL AND o.number <> j.number AND (o.number < j.number OR o.state = 'running')
            AND CASE WHEN j.acts
                     THEN o.acts AND (o.repositories IS NULL OR j.repositories IS NULL OR o.repositories && j.repositories)
                     ELSE o.kind = j.kind AND o.repositories IS NOT DISTINCT FROM j.repositories END)
    ORDER BY j.number LIMIT 1
)
UPDATE job AS j
SET state = 'running', lease = $3, leased_until = clock_timestamp() + $4::interval, worker = $2, not_before = NULL,
    note = NULL, started_at = coalesce(j.started_at, clock_timestamp()), deaths = j.deaths + next.died::integer
FROM next WHERE j.number = next.number RETURNING j.*

-- name: extend_lease
-- Extends lease $2 of job $1 by $3 (interval) from now, unless it has run out.
UPDATE job SET leased_until = clock_timestamp() + $3::interval
WHERE id = $1 AND lease = $2 AND state = 'running' AND leased_until > clock_timestamp()
RETURNING cancel_asked_at IS NOT NULL AS cancelled

-- name: check_lease
-- Whether lease $2 of job $1 holds, by the database's clock, and whether the job is to be cancelled.
SELECT cancel_asked_at IS NOT NULL AS cancelled FROM job
WHERE id = $1 AND lease = $2 AND state = 'running' AND leased_until > clock_timestamp()

-- name: report_progress
-- Records the progress $3 of job $1, under lease $2.
UPDATE job SET progress = $3 WHERE id = $1 AND lease = $2 AND state = 'running' RETURNING id

-- name: save_checkpoint
-- Records from where job $1 goes on, $3, under lease $2, unless that has run out.
UPDATE job SET checkpoint = $3, deaths = 0, tries = 0
WHERE id = $1 AND lease = $2 AND state = 'running' AND leased_until > clock_timestamp() RETURNING id

-- name: release_job
-- Gives job $1 back, under lease $2: state $3, note $4, not before $5 (interval from now; null: at once), tries $6.
UPDATE job SET state = $3, note = $4, not_before = clock_timestamp() + $5::interval, tries = $6, lease = NULL,
               leased_until = NULL, worker = NULL
WHERE id = $1 AND lease = $2 RETURNING id

-- name: end_job
-- Ends job $1, under lease $2 (null: it has none): state $3, result $4, error $5. Returns it.
UPDATE job SET state = $3, result = $4, error = $5, ended_at = clock_timestamp(), note = NULL, not_before = NULL,
               lease = NULL, leased_until = NULL
WHERE id = $1 AND lease IS NOT DISTINCT FROM $2 AND ended_at IS NULL RETURNING *

-- name: ask_to_cancel
-- Records that $2 wants job $1 cancelled.
UPDATE job SET cancel_asked_at = coalesce(cancel_asked_at, clock_timestamp()), cancelled_by = coalesce(cancelled_by, $2)
WHERE id = $1 AND ended_at IS NULL RETURNING *

-- name: stage_job_entry
-- Stages an entry of the log about a job: at $1, action $2, source $3, actor $4, client $5, repository's name $6 (null:
-- several), tag $7, detail $8.
INSERT INTO audit_staged (occurred_at, recorded_at, action, source, actor_id, client_id, repository_id, tag, detail)
SELECT $1, $1, $2::text::audit_action, $3::text::audit_source, $4, $5,
       (SELECT id FROM repository WHERE name = $6::text), $7, $8

-- name: trim_jobs
-- Removes at most $2 jobs that ended before $1.
DELETE FROM job WHERE number IN (
    SELECT number FROM job WHERE ended_at < $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED)

-- name: count_jobs
-- The jobs on record by kind and state; of the waiting ones since when the oldest waits.
SELECT kind, state, count(*) AS jobs, min(created_at) AS since FROM job GROUP BY kind, state ORDER BY kind, state
