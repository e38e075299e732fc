-- name: find_history
-- Of each tag $2 of repository $1, the interval that contains the instant $3, and all that follow.
SELECT wanted.repository_id, wanted.name, h.valid_from, h.valid_to, h.not_before, h.to_not_before, m.digest, h.event_key,
       h.from_source, h.to_source, a.name AS actor
FROM unnest($1::integer[], $2::text[], $3::timestamptz[]) AS wanted (repository_id, name, at)
CROSS JOIN LATERAL (
    SELECT coalesce(max(valid_from), '-infinity') AS valid_from FROM tag_history AS first
    WHERE first.repository_id = wanted.repository_id AND first.name = wanted.name AND first.valid_from <= wanted.at
) AS start
JOIN tag_history AS h
  ON h.repository_id = wanted.repository_id AND h.name = wanted.name AND h.valid_from >= start.valid_from
JOIN manifest AS m ON m.id = h.manifest_id
LEFT JOIN actor AS a ON a.id = h.actor_id
ORDER BY wanted.repository_id, wanted.name, h.valid_from

-- name: drop_intervals
-- Removes intervals that were moved: repositories $1, names $2, starts $3.
DELETE FROM tag_history AS h
USING unnest($1::integer[], $2::text[], $3::timestamptz[]) AS gone (repository_id, name, valid_from)
WHERE h.repository_id = gone.repository_id AND h.name = gone.name AND h.valid_from = gone.valid_from

-- name: put_intervals
-- Writes intervals: repositories $1, names $2, from $3, to $4, not before $5, manifests $6, events $7, actors $8,
-- sources $9, sources of the end $10, the end not before $11.
INSERT INTO tag_history (repository_id, name, valid_from, valid_to, not_before, manifest_id, event_key, actor_id,
                         from_source, to_source, to_not_before)
SELECT * FROM unnest($1::integer[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[],
                     $6::bigint[], $7::uuid[], $8::integer[], $9::text[], $10::text[], $11::timestamptz[])
ON CONFLICT (repository_id, name, valid_from) DO UPDATE
SET valid_to = excluded.valid_to, not_before = excluded.not_before, manifest_id = excluded.manifest_id,
    event_key = excluded.event_key, actor_id = excluded.actor_id, from_source = excluded.from_source,
    to_source = excluded.to_source, to_not_before = excluded.to_not_before

-- name: mark_replacements
-- Marks, of each tag $2 of repository $1, the intervals from $3 on whose predecessor has another manifest.
UPDATE tag_history AS h
SET is_replacement = NOT h.is_replacement
FROM unnest($1::integer[], $2::text[], $3::timestamptz[]) AS changed (repository_id, name, since)
WHERE h.repository_id = changed.repository_id AND h.name = changed.name AND h.valid_from >= changed.since
  AND h.is_replacement <> coalesce((
      SELECT before.manifest_id FROM tag_history AS before
      WHERE before.repository_id = h.repository_id AND before.name = h.name AND before.valid_from < h.valid_from
      ORDER BY before.valid_from DESC LIMIT 1
  ) <> h.manifest_id, false)
