-- name: plan_action
-- Puts an action on record before its first request: id $1, kind $2, repository $3, tag $4 ('': the manifest), digest $5, source $6, actor $7,
-- reason $8, job $9, undone action $10, asked at $11, watched until $12, kept until $13, a lease of $14 seconds for $15; of the tag as it was:
-- published at $16 by $17, first seen at $18, pushed by $19. No row: something is under way for the tag.
INSERT INTO tag_action
    (id, kind, repository, tag, digest, source, actor, reason, job_id, of_action, asked_at, watched_until, kept_until,
     lease_until, holder, due_at, published_at, published_source, first_seen_at, pushed_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
        now() + make_interval(secs => $14), $15, now() + make_interval(secs => $14), $16, $17, $18, $19)
ON CONFLICT DO NOTHING
RETURNING id

-- name: note_request
-- The actions $1 are about to send the request $3 (method $4, path $5); they were last looked at at $2 each (null: as before);
-- now is $6, and the manifest in the tag's place is $7.
WITH noted AS (
    INSERT INTO tag_action_request (action_id, nonce, method, path)
    SELECT id, $3, $4, $5 FROM unnest($1::uuid[]) AS of (id)
)
UPDATE tag_action AS a
SET looked_at = coalesce(l.looked_at, a.looked_at), requested_at = coalesce(a.requested_at, $6),
    state = CASE WHEN a.state = 'planned' THEN 'requested' ELSE a.state END, dummy = coalesce($7, a.dummy)
FROM unnest($1::uuid[], $2::timestamptz[]) AS l (id, looked_at)
WHERE a.id = l.id

-- name: mark_done
-- The registry answered for the actions $1 at $2; they are checked from $3 on.
UPDATE tag_action SET state = 'done', done_at = $2, due_at = $3, lease_until = '-infinity'
WHERE id = ANY($1::uuid[]) AND state IN ('requested', 'done')

-- name: end_action
-- The action $1 ended at $2 in the state $3 with the outcome $4, in words $5; it is checked again at $6, or at once if not $7
-- events are noted of it by now (null: however many are).
UPDATE tag_action
SET state = $3, outcome = $4, note = $5, ended_at = $2::timestamptz, lease_until = '-infinity',
    due_at = CASE WHEN events = coalesce($7::integer, events) THEN $6::timestamptz ELSE $2::timestamptz END
WHERE id = $1

-- name: leave_uncertain
-- The action $1 is uncertain at $2, because $3, and checked again at $4; or at once if not $5 events are noted of it by now. What
-- a person confirmed stays so, and is checked again when another event comes.
UPDATE tag_action
SET state = CASE WHEN outcome = 'confirmed' THEN state ELSE 'uncertain' END,
    note = CASE WHEN outcome = 'confirmed' THEN note ELSE $3 END,
    ended_at = CASE WHEN outcome = 'confirmed' THEN ended_at ELSE $2::timestamptz END,
    outcome = CASE WHEN outcome = 'confirmed' THEN outcome ELSE 'uncertain' END,
    lease_until = '-infinity',
    due_at = CASE WHEN events <> $5 THEN $2::timestamptz WHEN outcome = 'confirmed' THEN 'infinity' ELSE $4::timestamptz END
WHERE id = $1

-- name: drop_planned
-- Ends at $2 what the holder $1 had planned and sent no request for.
UPDATE tag_action
SET state = 'skipped', outcome = 'not_begun', note = 'nothing was sent', ended_at = $2, due_at = 'infinity', watched_until = $2
WHERE holder = $1 AND state = 'planned'

-- name: put_off
-- The actions $1 are checked again at $2, and their leases end.
UPDATE tag_action SET due_at = $2, lease_until = '-infinity' WHERE id = ANY($1::uuid[])

-- name: extend_leases
-- The holder $2 goes on with the actions $1 for $3 seconds; returns those that are still its own.
UPDATE tag_action SET lease_until = now() + make_interval(secs => $3) WHERE id = ANY($1::uuid[]) AND holder = $2 AND lease_until > now() RETURNING id

-- name: take_due
-- At most $1 actions that are due, those with a dummy manifest first; the holder $3 has them for $2 seconds. Of the actions $4 only,
-- if any are named. In the repository $5 only, unless null.
UPDATE tag_action AS a SET lease_until = now() + make_interval(secs => $2), holder = $3
FROM (
    SELECT id FROM tag_action
    WHERE due_at <= now() AND lease_until <= now() AND (cardinality($4::uuid[]) = 0 OR id = ANY($4::uuid[]))
      AND ($5::text IS NULL OR repository = $5)
    ORDER BY dummy IS NULL OR ended_at IS NOT NULL, due_at LIMIT $1 FOR UPDATE SKIP LOCKED
) AS due
WHERE a.id = due.id
RETURNING a.id

-- name: find_actions
-- The actions $1.
SELECT * FROM tag_action WHERE id = ANY($1::uuid[]) ORDER BY repository, tag

-- name: of_job
-- What was done for the job $1.
SELECT * FROM tag_action WHERE job_id = $1 ORDER BY repository, tag

-- name: find_watched
-- The actions that watch the tags $2 of the repositories $1 at $3.
SELECT a.id, a.repository, a.tag
FROM unnest($1::text[], $2::text[]) AS named (repository, tag)
JOIN tag_action AS a ON a.repository = named.repository AND a.tag = named.tag AND a.watched_until > $3

-- name: find_watched_manifests
-- The actions on the manifests $2 of the repositories $1 that watch them at $3.
SELECT a.id, a.repository, a.digest
FROM unnest($1::text[], $2::bytea[]) AS named (repository, digest)
JOIN tag_action AS a ON a.repository = named.repository AND a.digest = named.digest AND a.tag = '' AND a.watched_until > $3

-- name: note_events
-- Notes events $2 of the actions $1: at $3, of the instances $4, whether ours $5, what was pushed $6,
-- by whom $7, whether of the action itself $8, to which tag $9 (of an action on a manifest).
INSERT INTO tag_action_event (action_id, event_key, occurred_at, instance_id, ours, digest, actor, announces, tag)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::integer[], $5::boolean[], $6::bytea[], $7::text[],
                     $8::boolean[], $9::text[])
ON CONFLICT DO NOTHING

-- name: wake_actions
-- The actions $1 have another event, and are checked at $2, unless they are earlier, or are not done yet.
UPDATE tag_action
SET events = events + 1, due_at = CASE WHEN state IN ('done', 'checked', 'uncertain') THEN least(due_at, $2::timestamptz) ELSE due_at END
WHERE id = ANY($1::uuid[])

-- name: find_requests
-- The requests with the nonces $1, and the actions they were sent for.
SELECT r.nonce, r.request_key, r.method, r.path, a.*
FROM tag_action_request AS r JOIN tag_action AS a ON a.id = r.action_id
WHERE r.nonce = ANY($1::uuid[])

-- name: bind_requests
-- The registry's ids $2 of the requests with the nonces $1.
UPDATE tag_action_request AS r SET request_key = b.request_key
FROM unnest($1::uuid[], $2::uuid[]) AS b (nonce, request_key)
WHERE r.nonce = b.nonce AND r.request_key IS NULL

-- name: events_of
-- The events of the action $1.
SELECT e.occurred_at, e.ours, e.announces, e.digest, e.actor, e.instance_id, i.first_event_at, e.tag
FROM tag_action_event AS e JOIN registry_instance AS i ON i.id = e.instance_id
WHERE e.action_id = $1 ORDER BY e.occurred_at

-- name: other_instances
-- Registry processes heard of since $1: their events, by their clocks, and how far a process with counters is accounted for.
SELECT i.id, i.address, i.first_event_at, i.last_event_at, p.began_at, p.accounted_until, p.ended_at
FROM registry_instance AS i
LEFT JOIN LATERAL (
    SELECT began_at, accounted_until, ended_at FROM registry_process WHERE instance_id = i.id ORDER BY began_at DESC LIMIT 1
) AS p ON true
WHERE i.events > 0 AND i.last_seen_at > $1

-- name: put_back_until
-- Of each tag ('': the manifest by its digest) when the newest push was made that was put back for the action $1.
SELECT tag, max(published_at) AS published_at FROM tag_action
WHERE of_action = $1 AND kind = 'put_back' AND done_at IS NOT NULL GROUP BY tag

-- name: deleted_again
-- Whether the tag of the action $1, or its manifest where it has no tag, was looked at since in order to delete it: that request
-- may have been sent.
SELECT EXISTS (
    SELECT FROM tag_action AS a JOIN tag_action AS b ON b.repository = a.repository AND b.tag = a.tag
    WHERE a.id = $1 AND b.kind IN ('delete', 'unlink') AND (a.tag <> '' OR b.digest = a.digest) AND b.looked_at > a.looked_at
)

-- name: tag_deleted_since
-- Whether the tag $2 of the repository $1 was looked at after $3 in order to delete it.
SELECT EXISTS (SELECT FROM tag_action WHERE repository = $1 AND tag = $2 AND kind = 'delete' AND looked_at > $3)

-- name: find_recorded
-- The tags $2 of the repository $1, as they are on record.
SELECT t.name, m.digest, t.verified_at IS NOT NULL AS verified, t.published_at, t.published_source, t.first_seen_at,
       a.name AS pushed_by
FROM repository AS r JOIN tag AS t ON t.repository_id = r.id
LEFT JOIN manifest AS m ON m.id = t.manifest_id LEFT JOIN actor AS a ON a.id = t.pushed_by
WHERE r.name = $1 AND t.name = ANY($2::text[])

-- name: unfinished_dummies
-- The actions in the repository $1 whose dummy manifest may still be in a tag's place.
SELECT id FROM tag_action
WHERE repository = $1 AND dummy IS NOT NULL AND state IN ('requested', 'done') AND ended_at IS NULL

-- name: with_dummy
-- The actions in the repository $1 that use the dummy manifest $2.
SELECT id FROM tag_action WHERE repository = $1 AND dummy = $2

-- name: was_lossy
-- Why events between $1 and $2 may have been lost; null: nothing is known to say so.
SELECT coalesce(because, state) FROM loss_interval
WHERE state <> 'nothing_lost' AND from_at < $2 AND to_at > $1 ORDER BY to_at DESC LIMIT 1

-- name: keep_manifests
-- Keeps the manifests $1 of the types $2, contents $3, at $4.
INSERT INTO kept_manifest (digest, media_type, content, kept_at)
SELECT digest, media_type, content, $4 FROM unnest($1::bytea[], $2::text[], $3::bytea[]) AS m (digest, media_type, content)
ON CONFLICT (digest) DO UPDATE SET kept_at = greatest(kept_manifest.kept_at, excluded.kept_at)

-- name: put_in_trash
-- The manifests $2 with the roles $3 belong to the deletion $1, in this order.
INSERT INTO trash_manifest (action_id, position, role, digest)
SELECT $1, position, role, digest FROM unnest($2::bytea[], $3::text[]) WITH ORDINALITY AS m (digest, role, position)
ON CONFLICT DO NOTHING

-- name: kept_of
-- The manifests of the deletion $1, in the order in which they are put back.
SELECT t.role, t.digest, k.media_type, k.content
FROM trash_manifest AS t JOIN kept_manifest AS k USING (digest) WHERE t.action_id = $1 ORDER BY t.position

-- name: find_kept
-- One kept manifest.
SELECT digest, media_type, content FROM kept_manifest WHERE digest = $1

-- name: newest_deletion
-- The newest deletion of the tag $2 of the repository $1 that was carried out.
SELECT * FROM tag_action
WHERE kind = 'delete' AND repository = $1 AND tag = $2 AND done_at IS NOT NULL AND outcome IS DISTINCT FROM 'not_done'
ORDER BY done_at DESC LIMIT 1

-- name: newest_unlinking
-- The newest deletion of the manifest $2 of the repository $1 by its digest that was carried out.
SELECT * FROM tag_action
WHERE kind = 'unlink' AND repository = $1 AND tag = '' AND digest = $2 AND done_at IS NOT NULL AND outcome IS DISTINCT FROM 'not_done'
ORDER BY done_at DESC LIMIT 1

-- name: mark_gone
-- The deletion $1 cannot be undone, because $2; null: it can.
UPDATE tag_action SET gone = $2 WHERE id = $1

-- name: count_alarming
-- What an operator must see: tags that may be left on a dummy manifest, those uncertain, and pushes put back in the last day.
SELECT count(*) FILTER (WHERE dummy IS NOT NULL AND state IN ('requested', 'done') AND requested_at < now() - interval '1 minute')
           AS on_dummy,
       count(*) FILTER (WHERE state = 'uncertain') AS uncertain,
       count(*) FILTER (WHERE kind = 'put_back' AND done_at > now() - interval '1 day') AS put_back,
       (array_agg(repository || ':' || tag ORDER BY requested_at) FILTER (WHERE dummy IS NOT NULL
           AND state IN ('requested', 'done') AND requested_at < now() - interval '1 minute'))[1:5] AS examples
FROM tag_action
WHERE state IN ('requested', 'done', 'uncertain') OR (kind = 'put_back' AND done_at > now() - interval '1 day')

-- name: trim_actions
-- Forgets at most $2 actions that are kept until before $1 and are over.
DELETE FROM tag_action WHERE id IN (
    SELECT id FROM tag_action
    WHERE kept_until < $1 AND watched_until < $1 AND state NOT IN ('planned', 'requested', 'done') LIMIT $2
)

-- name: trim_kept
-- Forgets at most $1 kept manifests that nothing in the trash needs.
DELETE FROM kept_manifest WHERE digest IN (
    SELECT k.digest FROM kept_manifest AS k
    WHERE k.kept_at < now() - interval '1 day' AND NOT EXISTS (SELECT FROM trash_manifest AS t WHERE t.digest = k.digest)
      AND NOT EXISTS (SELECT FROM tag_action AS a WHERE a.dummy = k.digest AND a.ended_at IS NULL) LIMIT $1
)
