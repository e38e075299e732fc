-- name: find_uncertain
-- What is uncertain in the repository $1 (null: in any), of the tag $2 and the digest $3 (null: of any), or of the id $4; the oldest first.
SELECT id FROM tag_action
WHERE state = 'uncertain' AND ($1::text IS NULL OR repository = $1) AND ($2::text IS NULL OR tag = $2)
  AND ($3::bytea IS NULL OR digest = $3) AND ($4::uuid IS NULL OR id = $4)
ORDER BY asked_at, id

-- name: confirm
-- A person confirmed at $2 that the action $1 lost no push. It is decided on once more, at once: an event may be noted that is
-- not weighed yet. No row: it is not uncertain any more, or a request without an answer may still be on its way.
UPDATE tag_action AS a
SET state = 'checked', outcome = 'confirmed', ended_at = $2, due_at = $2,
    note = 'a person confirmed that no push was lost. Before: ' || coalesce(a.note, 'not known')
FROM (SELECT id, note FROM tag_action WHERE id = $1 FOR UPDATE) AS before
WHERE a.id = before.id AND a.state = 'uncertain'
  AND (a.done_at IS NOT NULL OR a.requested_at < $2::timestamptz - interval '2 minutes')
RETURNING before.note
