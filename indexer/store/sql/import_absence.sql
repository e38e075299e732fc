-- name: find_reconciled
-- When the repositories $1 (ids) were last compared completely, or were missing in the catalog of a complete full
-- reconcile; null: never. A reconcile of a pull-through cache compares nothing.
SELECT r.id, greatest(r.last_reconciled_at, (
    SELECT d.started_at FROM reconcile_run AS d
    WHERE d.outcome = 'complete' AND d.scope IS NULL AND d.mode <> 'plan'
    ORDER BY d.finished_at DESC LIMIT 1)) AS last_reconciled_at
FROM repository AS r
WHERE r.id = ANY ($1::integer[])
  AND NOT EXISTS (SELECT FROM registry_trait AS t WHERE t.trait = 'is_cache' AND t.holds)

-- name: find_known
-- Which of the events $1 (keys), of the repositories $2 (names) at $3, were applied or are in the log.
SELECT n.event_key
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS n (event_key, repository, occurred_at)
WHERE EXISTS (SELECT FROM applied_event AS s WHERE s.event_key = n.event_key)
   OR EXISTS (
    SELECT FROM repository AS r JOIN audit_entry AS e ON e.repository_id = r.id
    WHERE r.name = n.repository AND e.occurred_at = n.occurred_at AND e.event_key = n.event_key)

-- name: log_bounds
-- When the log began, and up to when months have left it; null: none has.
SELECT min(opened_at) AS began_at, max(closed_at) FILTER (WHERE dropped_at IS NOT NULL) AS left_until FROM audit_part
