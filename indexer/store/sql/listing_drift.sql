-- name: latest_runs
-- The newest $1 reconcile runs. One without a live worker ($2: class of their locks) was interrupted.
SELECT r.id, r.started_at, r.finished_at, r.mode,
       CASE WHEN r.outcome IS NULL AND NOT EXISTS (
    SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.classid = $2::integer::oid AND l.objid = r.id::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) THEN 'interrupted' ELSE r.outcome END AS outcome,
       r.scope, r.counts, r.undecided, r.cause, r.note,
       (SELECT count(*) FROM drift_finding AS f WHERE f.run_id = r.id) AS findings
FROM reconcile_run AS r ORDER BY r.id DESC LIMIT $1
