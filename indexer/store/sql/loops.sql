-- name: report
-- Records a run of loop $1 of process $2 at $3: outcome $4, error $5.
INSERT INTO loop_state (loop, process, started_at, last_run_at, last_good_at, outcome, last_error)
VALUES ($1, $2, $3::timestamptz, $3::timestamptz, CASE WHEN $4::text = 'good' THEN $3::timestamptz END, $4, $5)
ON CONFLICT (loop, process) DO UPDATE
SET last_run_at = excluded.last_run_at,
    last_good_at = coalesce(excluded.last_good_at, loop_state.last_good_at),
    outcome = excluded.outcome,
    last_error = coalesce(excluded.last_error, loop_state.last_error)

-- name: trim_loops
-- Removes loops that last ran before $1.
DELETE FROM loop_state WHERE last_run_at < $1

-- name: end_process
-- Records that process $1 ended: its loops did not fail.
UPDATE loop_state SET outcome = 'ended' WHERE process = $1

-- name: forget_ended
-- Removes the ended processes of the same program as $1, except $1.
DELETE FROM loop_state
WHERE process <> $1 AND outcome = 'ended' AND regexp_replace(process, '\s\S+$', '') = regexp_replace($1, '\s\S+$', '')

-- name: list_loops
-- The loops of all running processes, and of the last process of each program, so that it shows if none runs. A process
-- runs if it has not ended and reported within two minutes of the newest report of any. Its name is "program
-- host:number".
WITH reported AS (
    SELECT process, regexp_replace(process, '\s\S+$', '') AS program, max(last_run_at) AS at, bool_and(outcome = 'ended') AS ended
    FROM loop_state GROUP BY process
), shown AS (
    SELECT process FROM (
        SELECT process, NOT coalesce(ended, false) AND at > max(at) OVER () - interval '2 minutes' AS lives,
               row_number() OVER (PARTITION BY program ORDER BY at DESC, process) = 1 AS last
        FROM reported
    ) AS h WHERE lives OR last
)
SELECT loop, process, started_at, last_run_at, last_good_at, last_error, outcome
FROM loop_state JOIN shown USING (process) ORDER BY loop, process
