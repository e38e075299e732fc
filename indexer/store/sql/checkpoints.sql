-- name: lock_signing
-- Becomes the only process that signs until the transaction ends ($1: the lock's key); false if another is.
SELECT pg_try_advisory_xact_lock($1)

-- name: newest_checkpoint
-- The checkpoint that was signed last.
SELECT size, signed_at, verifier, note FROM audit_checkpoint ORDER BY id DESC LIMIT 1

-- name: checkpoint_of
-- The newest checkpoint of $1 entries.
SELECT size, signed_at, verifier, note FROM audit_checkpoint WHERE size = $1 ORDER BY id DESC LIMIT 1

-- name: add_checkpoint
-- Adds a checkpoint: size $1, signed at $2, by key $3, note $4.
INSERT INTO audit_checkpoint (size, signed_at, verifier, note) VALUES ($1, $2, $3, $4)

-- name: last_push
-- The checkpoint that was last pushed to repository $1.
SELECT repository, size, digest, pushed_at, observed_at FROM audit_checkpoint_push WHERE repository = $1

-- name: newest_push
-- The checkpoint that was last pushed, to any repository.
SELECT repository, size, digest, pushed_at, observed_at FROM audit_checkpoint_push ORDER BY pushed_at DESC LIMIT 1

-- name: record_push
-- Records that the checkpoint of $2 entries, digest $3, was pushed to repository $1 at $4.
INSERT INTO audit_checkpoint_push (repository, size, digest, pushed_at, observed_at) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (repository) DO UPDATE
SET size = excluded.size, digest = excluded.digest, pushed_at = excluded.pushed_at, observed_at = excluded.observed_at

-- name: record_push_observed
-- Records that the registry served the checkpoint in repository $1 at $2.
UPDATE audit_checkpoint_push SET observed_at = $2 WHERE repository = $1

-- name: has_other_entries
-- Whether the log has entries in ($1, $2] that are not about repository $3.
SELECT EXISTS (
    SELECT FROM audit_entry AS e LEFT JOIN repository AS r ON r.id = e.repository_id
    WHERE e.position > $1 AND e.position <= $2 AND r.name IS DISTINCT FROM $3
)

-- name: put_conflict
-- Records that place $1 has a checkpoint that this log does not continue: in a sentence $2, found at $3.
INSERT INTO audit_conflict (place, found_at, last_found_at, what) VALUES ($1, $3, $3, $2)
ON CONFLICT (place) DO UPDATE SET last_found_at = excluded.last_found_at, what = excluded.what

-- name: forget_conflict
-- Removes the conflict of place $1: its checkpoint is of this log, or it has none.
DELETE FROM audit_conflict WHERE place = $1

-- name: list_conflicts
-- Places with checkpoints that this log does not continue: those found again within $1, at most 20.
SELECT place, found_at, what FROM audit_conflict WHERE last_found_at > now() - $1::interval ORDER BY place LIMIT 20
