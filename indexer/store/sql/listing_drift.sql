-- name: latest_runs
-- The newest $1 runs of the walk.
SELECT r.id, r.started_at, r.finished_at, r.mode, r.outcome, r.scope, r.counts, r.note,
       (SELECT count(*) FROM drift_finding AS f WHERE f.run_id = r.id) AS findings
FROM drift_run AS r ORDER BY r.id DESC LIMIT $1
