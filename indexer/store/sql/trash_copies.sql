-- name: plan_copies
-- Puts on record that manifests $3 of the repository $1 are copied to $2 and kept until $4; returns those that may be copied
-- now: nobody deletes their copies.
INSERT INTO trash_copy AS c (repository, trash, digest, kept_until)
SELECT $1, $2, digest, $4 FROM unnest($3::bytea[]) AS m (digest) ORDER BY digest
ON CONFLICT (trash, digest) DO UPDATE SET kept_until = greatest(c.kept_until, excluded.kept_until)
WHERE c.lease_until <= now()
RETURNING c.digest

-- name: note_put
-- The repository $1 has the copy of the manifest $2 at $3.
UPDATE trash_copy SET put_at = $3 WHERE trash = $1 AND digest = $2

-- name: copies_of
-- Where copies of the manifests $2 of the repository $1 are.
SELECT DISTINCT trash FROM trash_copy
WHERE repository = $1 AND digest = ANY($2::bytea[]) AND put_at IS NOT NULL ORDER BY trash

-- name: expired_repositories
-- At most $2 repositories with copies that were kept until before $1, and that nobody deletes now.
SELECT repository FROM trash_copy WHERE kept_until < $1 AND lease_until <= now()
GROUP BY repository ORDER BY min(kept_until), repository LIMIT $2

-- name: take_expired
-- At most $2 copies that were kept until before $1, of the repositories $4 (null: all); nobody else deletes them, and nothing is
-- copied there, for $3 seconds.
UPDATE trash_copy AS c SET lease_until = now() + make_interval(secs => $3)
FROM (
    SELECT trash, digest FROM trash_copy
    WHERE kept_until < $1 AND lease_until <= now() AND ($4::text[] IS NULL OR repository = ANY($4))
    ORDER BY kept_until LIMIT $2 FOR UPDATE SKIP LOCKED
) AS due
WHERE c.trash = due.trash AND c.digest = due.digest
RETURNING c.repository, c.trash, c.digest

-- name: forget_copy
-- The repository $1 does not have the copy of the manifest $2 any more, or it is not ours to delete.
DELETE FROM trash_copy WHERE trash = $1 AND digest = $2
