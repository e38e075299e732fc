-- name: freshness
-- How far the inbox has been applied, and the end of the last complete full reconcile.
SELECT coalesce((SELECT received_at FROM inbox WHERE done_at IS NULL ORDER BY id LIMIT 1), clock_timestamp()) AS as_of,
       (SELECT finished_at FROM reconcile_run
        WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan'
        ORDER BY finished_at DESC LIMIT 1) AS last_reconciled_at,
       coalesce((SELECT holds FROM registry_trait WHERE trait = 'announces_pulls'), false) AS pulls_known

-- name: freshness_of
-- The repository $1 (name), and how far the inbox has been applied.
SELECT coalesce((SELECT received_at FROM inbox WHERE done_at IS NULL ORDER BY id LIMIT 1), clock_timestamp()) AS as_of,
       r.last_reconciled_at, r.id, r.tag_count, r.large,
       coalesce((SELECT holds FROM registry_trait WHERE trait = 'announces_pulls'), false) AS pulls_known
FROM repository AS r WHERE r.name = $1
