-- name: lock
-- Lets one transaction at a time change what is in force.
SELECT pg_advisory_xact_lock($1)

-- name: in_force
-- What is in force.
SELECT since, sha256, content FROM policies_in_force ORDER BY id DESC LIMIT 1

-- name: put_in_force
-- Puts bytes $3 with hash $2 in force at $1.
INSERT INTO policies_in_force (since, sha256, content) VALUES ($1, $2, $3)

-- name: note_reading
-- Records what process $1 read at $2 from file $3: hash $4, and why it is not in force $5.
INSERT INTO policies_reading (process, read_at, file, sha256, error) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (process) DO UPDATE
SET read_at = excluded.read_at, file = excluded.file, sha256 = excluded.sha256, error = excluded.error

-- name: forget_reading
-- Forgets what process $1 read: it ends.
DELETE FROM policies_reading WHERE process = $1

-- name: forget_ended
-- Forgets processes that have not read since $1.
DELETE FROM policies_reading WHERE read_at < $1

-- name: readings
-- What every process read that has read since $1.
SELECT process, read_at, file, sha256, error FROM policies_reading WHERE read_at >= $1 ORDER BY process
