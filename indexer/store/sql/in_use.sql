-- name: lock_source
-- Lets one report of a source be taken at a time: key $1, source $2.
SELECT pg_advisory_xact_lock($1, hashtext($2))

-- name: sources
-- What every source reported last.
SELECT source, reported_at, counted_at, valid_until, suspected_at, images, suspected_images
FROM in_use_source ORDER BY source

-- name: source
-- What source $1 reported last.
SELECT source, reported_at, counted_at, valid_until, suspected_at, images, suspected_images
FROM in_use_source WHERE source = $1

-- name: put_source
-- Records a report of source $1 at $2 that counts: valid until $3, with $4 images.
INSERT INTO in_use_source (source, reported_at, counted_at, valid_until, images) VALUES ($1, $2, $2, $3, $4)
ON CONFLICT (source) DO UPDATE
SET reported_at = excluded.reported_at, counted_at = excluded.counted_at, valid_until = excluded.valid_until,
    images = excluded.images, suspected_at = NULL, suspected_images = NULL

-- name: suspect_source
-- Records a report of source $1 at $2 that is too small to count: valid until $3, with $4 images.
UPDATE in_use_source
SET reported_at = $2, valid_until = $3, suspected_at = coalesce(suspected_at, $2), suspected_images = $4 WHERE source = $1

-- name: drop_images
-- Removes the images of source $1: those of the set that counts ($2 false), of the suspected one (true).
DELETE FROM in_use_image WHERE source = $1 AND suspected = $2

-- name: add_images
-- Adds images of source $1 to the set $2: repositories $3, tags or digests $4.
INSERT INTO in_use_image (source, suspected, repository, reference)
SELECT $1, $2, v.repository, v.reference FROM unnest($3::text[], $4::text[]) AS v (repository, reference)
ON CONFLICT DO NOTHING

-- name: images
-- Every image that a source reported, the suspected ones, too.
SELECT DISTINCT source, repository, reference FROM in_use_image

-- name: images_of
-- The images of the set of source $1 that counts.
SELECT repository, reference FROM in_use_image WHERE source = $1 AND NOT suspected ORDER BY repository, reference

-- name: names
-- Whether a source named any of the references $2 in repository $1 or in any.
SELECT EXISTS (SELECT FROM in_use_image WHERE repository IN ('', $1) AND reference = ANY($2::text[]))
