-- name: report
-- How loop $1 of process $2 fared at $3: outcome $4, error $5.
INSERT INTO loop_state (loop, process, started_at, last_run_at, last_good_at, outcome, last_error)
VALUES ($1, $2, $3::timestamptz, $3::timestamptz, CASE WHEN $4::text = 'good' THEN $3::timestamptz END, $4, $5)
ON CONFLICT (loop, process) DO UPDATE
SET last_run_at = excluded.last_run_at,
    last_good_at = coalesce(excluded.last_good_at, loop_state.last_good_at),
    outcome = excluded.outcome,
    last_error = coalesce(excluded.last_error, loop_state.last_error)

-- name: trim_loops
-- Forgets loops of processes that last ran before $1.
DELETE FROM loop_state WHERE last_run_at < $1

-- name: list_loops
-- How every loop fares.
SELECT loop, process, last_good_at FROM loop_state ORDER BY loop, process
