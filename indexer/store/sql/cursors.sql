-- name: cursor_secret
-- The secret that the key of cursors is derived from.
SELECT secret FROM shared_secret
