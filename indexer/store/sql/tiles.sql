-- name: find_tiles
-- The tiles of levels $1 and indexes $2.
SELECT t.level, t.index, t.hashes
FROM unnest($1::smallint[], $2::bigint[]) AS wanted (level, index)
JOIN audit_tile AS t ON t.level = wanted.level AND t.index = wanted.index

-- name: put_tiles
-- Writes tiles: levels $1, indexes $2, hashes $3.
INSERT INTO audit_tile (level, index, hashes)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes
