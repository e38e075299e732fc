-- name: cursor_secret
-- What cursors are sealed with.
SELECT secret FROM shared_secret
