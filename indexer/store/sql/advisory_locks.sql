-- name: try_alone
-- Takes the lock $1 until this connection releases it or ends; false if another connection has it.
SELECT pg_try_advisory_lock($1)

-- name: leave
-- Releases the lock $1.
SELECT pg_advisory_unlock($1)
