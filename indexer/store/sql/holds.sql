-- name: add_hold
-- Adds hold $1 at $2, until $3, of owner $4, because $5, on repository $6, tag $7, digest $8; asked for by $9.
INSERT INTO cleanup_hold (id, created_at, until, owner, reason, repository, tag, digest, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: remove_hold
-- Removes hold $1.
DELETE FROM cleanup_hold WHERE id = $1
RETURNING id, created_at, until, owner, reason, repository, tag, digest, created_by

-- name: find_hold
-- Hold $1.
SELECT id, created_at, until, owner, reason, repository, tag, digest, created_by FROM cleanup_hold WHERE id = $1

-- name: list_holds
-- Every hold that is not over at $1.
SELECT id, created_at, until, owner, reason, repository, tag, digest, created_by
FROM cleanup_hold WHERE until IS NULL OR until > $1 ORDER BY created_at, id

-- name: holds_any
-- Whether a hold since $4 is on repository $1, its tag $2 or its digest $3, and not over.
SELECT EXISTS (
    SELECT FROM cleanup_hold
    WHERE (repository IS NULL OR repository = $1) AND (tag IS NULL OR tag = $2) AND (digest IS NULL OR digest = $3)
      AND created_at >= $4 AND (until IS NULL OR until > now())
)

-- name: trim_holds
-- Forgets holds that were over before $1.
DELETE FROM cleanup_hold WHERE until < $1
