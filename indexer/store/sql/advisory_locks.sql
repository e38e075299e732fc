-- name: try_alone
-- Takes the lock $1 until this connection lets go of it or ends; false where another holds it.
SELECT pg_try_advisory_lock($1)

-- name: leave
-- Gives the lock $1 back.
SELECT pg_advisory_unlock($1)
