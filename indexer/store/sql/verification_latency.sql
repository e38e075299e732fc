-- name: count_verified
-- Counts tags that were verified in minute $1, by length: buckets $2, tags $3.
INSERT INTO verification_latency (minute, bucket, tags)
SELECT $1, bucket, tags FROM unnest($2::smallint[], $3::bigint[]) AS new (bucket, tags) ORDER BY bucket
ON CONFLICT (minute, bucket) DO UPDATE SET tags = verification_latency.tags + excluded.tags

-- name: sum_verified
-- How many tags were verified since minute $1, by bucket.
SELECT bucket, sum(tags)::bigint AS tags FROM verification_latency WHERE minute >= $1 GROUP BY bucket

-- name: trim_verified
-- Removes the minutes before $1.
DELETE FROM verification_latency WHERE minute < $1
