-- name: lock_signing
-- Becomes the only one who signs until the transaction ends ($1: the lock's number); false where another is.
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
