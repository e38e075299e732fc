-- name: count_pending
-- How many deletions of run $1 wait: of manifests and of tags, and whether the registry knows the repository.
SELECT is_manifest, repository_vanished, count(*) AS deletions FROM pending_deletion
WHERE run_id = $1 GROUP BY is_manifest, repository_vanished

-- name: list_pending
-- Deletions of run $1 that wait: of manifests, or of tags ($2), at most $3, by repository and key.
SELECT repository, key, revision, observed_at, as_of, expected FROM pending_deletion
WHERE run_id = $1 AND is_manifest = $2 ORDER BY repository, key LIMIT $3

-- name: drop_pending
-- Removes pending deletions of run $1: repositories $2, keys $3, of manifests or of tags $4.
DELETE FROM pending_deletion AS h USING unnest($2::text[], $3::text[]) AS done (repository, key)
WHERE h.run_id = $1 AND h.is_manifest = $4 AND h.repository = done.repository AND h.key = done.key

-- name: record_brake_decision
-- Records what the brake decided on run $1: whether its deletions are allowed $2, and why not $3.
UPDATE reconcile_run SET deletions_allowed = $2, brake_reason = $3 WHERE id = $1

-- name: list_unrepaired
-- The first $2 tags that run $1 reported and did not repair, and how many those are.
SELECT r.name AS repository, f.tag, f.expected, f.detected_at, count(*) OVER () AS all_of_them
FROM drift_finding AS f JOIN repository AS r ON r.id = f.repository_id
WHERE f.run_id = $1 AND f.repaired_at IS NULL AND f.tag IS NOT NULL ORDER BY r.name, f.tag LIMIT $2

-- name: count_unrepaired
-- The $2 repositories with the most tags that run $1 reported and did not repair, and how many of each.
SELECT r.name AS repository, count(*) AS tags
FROM drift_finding AS f JOIN repository AS r ON r.id = f.repository_id
WHERE f.run_id = $1 AND f.repaired_at IS NULL AND f.tag IS NOT NULL
GROUP BY r.name ORDER BY count(*) DESC, r.name LIMIT $2
