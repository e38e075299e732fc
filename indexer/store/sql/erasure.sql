-- name: actor_to_erase
-- The actor named $1.
SELECT id FROM actor WHERE name = $1

-- name: days_to_erase
-- The days with entries to erase: of actor $1 (null: of everybody), before day $2 (null: all).
SELECT DISTINCT day FROM audit_salt
WHERE salt IS NOT NULL AND ($1::integer IS NULL OR actor_id = $1) AND ($2::date IS NULL OR day < $2) ORDER BY day

-- name: entries_to_erase
-- How many sealed entries have people to erase: actor $1 (null: everybody), before day $2 (null: all).
SELECT count(*) FROM audit_entry AS e
WHERE ($1::integer IS NULL OR e.actor_id = $1) AND ($2::date IS NULL OR e.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND EXISTS (SELECT FROM audit_salt AS s WHERE s.id IN (e.actor_salt_id, e.client_salt_id) AND s.salt IS NOT NULL)

-- name: begin_erasure
-- Keeps the sealer out until the transaction ends, and invalidates what every process has cached of people.
UPDATE audit_log_head SET erasures = erasures + 1

-- name: add_nobody
-- Adds, for every host and method, the client without address and user agent that replaces all others.
INSERT INTO client (key, address, host, method, user_agent)
SELECT DISTINCT substr(sha256('\x00' || convert_to(host, 'UTF8') || '\x00' || convert_to(method, 'UTF8') || '\x00'), 1, 16),
       '', host, method, ''
FROM client ON CONFLICT (key) DO NOTHING

-- name: erase_entries
-- Erases people from the sealed entries of [$2, $3): actor $1 (null: everybody).
UPDATE audit_entry AS e SET actor_id = NULL, client_id = n.id
FROM audit_entry AS old
LEFT JOIN client AS c ON c.id = old.client_id
LEFT JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE old.position = e.position AND old.occurred_at >= $2 AND old.occurred_at < $3
  AND ($1::integer IS NULL OR old.actor_id = $1) AND (old.actor_id IS NOT NULL OR c.address <> '' OR c.user_agent <> '')

-- name: drop_salts
-- Removes the salts of day $2, so that the commitments cannot be opened: of actor $1 (null: of everybody). Returns the
-- clients they were of.
WITH gone AS (
    SELECT id, client_id FROM audit_salt
    WHERE day = $2 AND salt IS NOT NULL AND ($1::integer IS NULL OR actor_id = $1)
), dropped AS (
    UPDATE audit_salt AS s SET salt = NULL, actor_id = 0, client_id = 0 FROM gone WHERE s.id = gone.id
)
SELECT DISTINCT client_id FROM gone WHERE client_id <> 0

-- name: erase_staged
-- Erases people from the entries that wait for their position: actor $1 (null: everybody), before day $2 (null: all).
UPDATE audit_staged AS e SET actor_id = NULL, client_id = n.id
FROM audit_staged AS old
LEFT JOIN client AS c ON c.id = old.client_id
LEFT JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE old.id = e.id AND ($2::date IS NULL OR old.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND ($1::integer IS NULL OR old.actor_id = $1) AND (old.actor_id IS NOT NULL OR c.address <> '' OR c.user_agent <> '')

-- name: erase_pulls
-- Erases people from the pulls beside the log: actor $1 (null: everybody), before day $2 (null: all).
UPDATE pull_detail AS e SET actor_id = NULL, client_id = n.id
FROM client AS c JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE c.id = e.client_id AND ($2::date IS NULL OR e.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND ($1::integer IS NULL OR e.actor_id = $1)

-- name: repositories_to_erase
-- Repositories whose tags, manifests or history name actor $1 (null: anybody), before day $2 (null: all).
SELECT DISTINCT repository_id FROM tag_history
WHERE actor_id IS NOT NULL AND ($1::integer IS NULL OR actor_id = $1)
  AND ($2::date IS NULL OR valid_from < $2::timestamp AT TIME ZONE 'UTC')
UNION SELECT DISTINCT repository_id FROM tag
WHERE pushed_by IS NOT NULL AND ($1::integer IS NULL OR pushed_by = $1)
  AND ($2::date IS NULL OR published_at < $2::timestamp AT TIME ZONE 'UTC')
UNION SELECT DISTINCT repository_id FROM repository_manifest
WHERE pushed_by IS NOT NULL AND ($1::integer IS NULL OR pushed_by = $1)
  AND ($2::date IS NULL OR pushed_at < $2::timestamp AT TIME ZONE 'UTC')

-- name: lock_repository
-- Locks repository $1 (id).
SELECT FROM repository WHERE id = $1 FOR NO KEY UPDATE

-- name: erase_history
-- Erases actor $2 (null: everybody) from the history of repository $1, before day $3 (null: all).
UPDATE tag_history SET actor_id = NULL
WHERE repository_id = $1 AND actor_id IS NOT NULL AND ($2::integer IS NULL OR actor_id = $2)
  AND ($3::date IS NULL OR valid_from < $3::timestamp AT TIME ZONE 'UTC')

-- name: erase_tags
-- Erases actor $2 (null: everybody) from the tags of repository $1, published before day $3 (null: all).
UPDATE tag SET pushed_by = NULL
WHERE repository_id = $1 AND pushed_by IS NOT NULL AND ($2::integer IS NULL OR pushed_by = $2)
  AND ($3::date IS NULL OR published_at < $3::timestamp AT TIME ZONE 'UTC')

-- name: erase_manifests
-- Erases actor $2 (null: everybody) from the manifests of repository $1, pushed before day $3 (null: all).
UPDATE repository_manifest SET pushed_by = NULL
WHERE repository_id = $1 AND pushed_by IS NOT NULL AND ($2::integer IS NULL OR pushed_by = $2)
  AND ($3::date IS NULL OR pushed_at < $3::timestamp AT TIME ZONE 'UTC')

-- name: erase_tag_actions
-- Erases from what we did to tags who asked for it and who had pushed: actor $1 (null: everybody), before day $2 (null: all).
UPDATE tag_action AS a
SET actor = CASE WHEN w.name IS NULL OR a.actor = w.name THEN NULL ELSE a.actor END,
    pushed_by = CASE WHEN w.name IS NULL OR a.pushed_by = w.name THEN NULL ELSE a.pushed_by END
FROM (SELECT (SELECT name FROM actor WHERE id = $1) AS name) AS w
WHERE (w.name IS NOT NULL OR $1::integer IS NULL) AND num_nonnulls(a.actor, a.pushed_by) > 0
  AND (w.name IS NULL OR w.name IN (a.actor, a.pushed_by))
  AND ($2::date IS NULL OR a.asked_at < $2::timestamp AT TIME ZONE 'UTC')

-- name: erase_tag_action_events
-- The same of the events that were noted of them.
UPDATE tag_action_event AS e SET actor = NULL
FROM (SELECT (SELECT name FROM actor WHERE id = $1) AS name) AS w
WHERE e.actor IS NOT NULL AND ($1::integer IS NULL OR e.actor = w.name)
  AND ($2::date IS NULL OR e.occurred_at < $2::timestamp AT TIME ZONE 'UTC')

-- name: forget_name
-- Removes the name of actor $1.
UPDATE actor SET name = NULL WHERE id = $1

-- name: transaction_id
-- The id of this transaction.
SELECT pg_current_xact_id()::text

-- name: older_transactions
-- Other transactions of this database that may write and began up to id $1: of which process, which program (null: we
-- may not see it) and since when. A transaction without an id has written nothing and locked nothing.
SELECT pid, application_name AS program, xact_start AS since FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
  AND age(backend_xid) >= age($1::text::xid8::xid)
ORDER BY xact_start

-- name: retire_clients
-- Changes the key of those of the clients $1 that no sealed entry refers to any more, so that no request finds them
-- again; except those without address and user agent.
UPDATE client AS c SET key = uuid_send(gen_random_uuid())
WHERE c.id = ANY ($1::integer[]) AND (c.address <> '' OR c.user_agent <> '')
  AND NOT EXISTS (SELECT FROM audit_salt AS s WHERE s.client_id = c.id AND s.salt IS NOT NULL)

-- name: forget_clients
-- Removes the clients that were retired, by this erasure or by one that was interrupted, and that nothing refers to any
-- more. A retired client's key is not the hash of its columns. Those without address and user agent stay.
DELETE FROM client AS c
WHERE (c.address <> '' OR c.user_agent <> '')
  AND c.key <> substr(sha256(convert_to(c.address, 'UTF8') || '\x00' || convert_to(c.host, 'UTF8') || '\x00'
                             || convert_to(c.method, 'UTF8') || '\x00' || convert_to(c.user_agent, 'UTF8')), 1, 16)
  AND NOT EXISTS (SELECT FROM audit_salt AS s WHERE s.client_id = c.id AND s.salt IS NOT NULL)
  AND NOT EXISTS (SELECT FROM audit_staged AS e WHERE e.client_id = c.id)
  AND NOT EXISTS (SELECT FROM pull_detail AS p WHERE p.client_id = c.id)
