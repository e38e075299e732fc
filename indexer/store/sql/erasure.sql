-- name: actor_to_erase
-- The actor named $1.
SELECT id FROM actor WHERE name = $1

-- name: days_to_erase
-- The days of what is to be erased: of actor $1, null: of everybody; before day $2, null: ever.
SELECT DISTINCT day FROM audit_salt
WHERE salt IS NOT NULL AND ($1::integer IS NULL OR actor_id = $1) AND ($2::date IS NULL OR day < $2) ORDER BY day

-- name: entries_to_erase
-- How many sealed entries hold people of actor $1, null: of everybody, before day $2, null: ever.
SELECT count(*) FROM audit_entry AS e
WHERE ($1::integer IS NULL OR e.actor_id = $1) AND ($2::date IS NULL OR e.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND EXISTS (SELECT FROM audit_salt AS s WHERE s.id IN (e.actor_salt_id, e.client_salt_id) AND s.salt IS NOT NULL)

-- name: begin_erasure
-- Keeps the sealer away until the transaction ends, and lets nobody use what he has cached of people.
UPDATE audit_log_head SET erasures = erasures + 1

-- name: add_nobody
-- Adds the clients without address and user agent that take the place of all others, by host and method.
INSERT INTO client (key, address, host, method, user_agent)
SELECT DISTINCT substr(sha256('\x00' || convert_to(host, 'UTF8') || '\x00' || convert_to(method, 'UTF8') || '\x00'), 1, 16),
       '', host, method, ''
FROM client ON CONFLICT (key) DO NOTHING

-- name: erase_entries
-- Takes people out of the sealed entries from $2 to before $3: of actor $1, null: of everybody.
UPDATE audit_entry AS e SET actor_id = NULL, client_id = n.id
FROM audit_entry AS held
LEFT JOIN client AS c ON c.id = held.client_id
LEFT JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE held.position = e.position AND held.occurred_at >= $2 AND held.occurred_at < $3
  AND ($1::integer IS NULL OR held.actor_id = $1) AND (held.actor_id IS NOT NULL OR c.address <> '' OR c.user_agent <> '')

-- name: drop_salts
-- Drops what opens the commitments of day $2: of actor $1, null: of everybody. Returns whose clients they were.
WITH gone AS (
    SELECT id, client_id FROM audit_salt
    WHERE day = $2 AND salt IS NOT NULL AND ($1::integer IS NULL OR actor_id = $1)
), dropped AS (
    UPDATE audit_salt AS s SET salt = NULL, actor_id = 0, client_id = 0 FROM gone WHERE s.id = gone.id
)
SELECT DISTINCT client_id FROM gone WHERE client_id <> 0

-- name: erase_staged
-- Takes people out of the entries that wait for their position, like erase_entries: actor $1, before $2 (null: ever).
UPDATE audit_staged AS e SET actor_id = NULL, client_id = n.id
FROM audit_staged AS held
LEFT JOIN client AS c ON c.id = held.client_id
LEFT JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE held.id = e.id AND ($2::date IS NULL OR held.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND ($1::integer IS NULL OR held.actor_id = $1) AND (held.actor_id IS NOT NULL OR c.address <> '' OR c.user_agent <> '')

-- name: erase_pulls
-- Takes people out of the pulls beside the log: actor $1, before $2 (null: ever).
UPDATE pull_detail AS e SET actor_id = NULL, client_id = n.id
FROM client AS c JOIN client AS n
    ON n.key = substr(sha256('\x00' || convert_to(c.host, 'UTF8') || '\x00' || convert_to(c.method, 'UTF8') || '\x00'), 1, 16)
WHERE c.id = e.client_id AND ($2::date IS NULL OR e.occurred_at < $2::timestamp AT TIME ZONE 'UTC')
  AND ($1::integer IS NULL OR e.actor_id = $1)

-- name: repositories_to_erase
-- Repositories whose tags, manifests and history name actor $1, null: anybody, before $2 (null: ever).
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
-- Takes actor $2, null: everybody, out of the history of repository $1 before $3 (null: ever).
UPDATE tag_history SET actor_id = NULL
WHERE repository_id = $1 AND actor_id IS NOT NULL AND ($2::integer IS NULL OR actor_id = $2)
  AND ($3::date IS NULL OR valid_from < $3::timestamp AT TIME ZONE 'UTC')

-- name: erase_tags
-- Takes actor $2, null: everybody, out of the tags of repository $1 published before $3 (null: ever).
UPDATE tag SET pushed_by = NULL
WHERE repository_id = $1 AND pushed_by IS NOT NULL AND ($2::integer IS NULL OR pushed_by = $2)
  AND ($3::date IS NULL OR published_at < $3::timestamp AT TIME ZONE 'UTC')

-- name: erase_manifests
-- Takes actor $2, null: everybody, out of the manifests of repository $1 pushed before $3 (null: ever).
UPDATE repository_manifest SET pushed_by = NULL
WHERE repository_id = $1 AND pushed_by IS NOT NULL AND ($2::integer IS NULL OR pushed_by = $2)
  AND ($3::date IS NULL OR pushed_at < $3::timestamp AT TIME ZONE 'UTC')

-- name: forget_name
-- Forgets the name of actor $1.
UPDATE actor SET name = NULL WHERE id = $1

-- name: transaction_id
-- The number of this transaction.
SELECT pg_current_xact_id()::text

-- name: older_transactions
-- Transactions of this database, but this one, that may write and began up to number $1: of which process, of what
-- program (null: not ours to know) and since when. A transaction without a number has written nothing and locked nothing.
SELECT pid, application_name AS program, xact_start AS since FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xid IS NOT NULL
  AND age(backend_xid) >= age($1::text::xid8::xid)
ORDER BY xact_start

-- name: retire_clients
-- Lets nobody find again those of the clients $1 that no sealed entry refers to any more, by whoever looks for them
-- from now on; but those that have no address and no user agent.
UPDATE client AS c SET key = uuid_send(gen_random_uuid())
WHERE c.id = ANY ($1::integer[]) AND (c.address <> '' OR c.user_agent <> '')
  AND NOT EXISTS (SELECT FROM audit_salt AS s WHERE s.client_id = c.id AND s.salt IS NOT NULL)

-- name: forget_clients
-- Forgets the clients that were retired, by this erasure or by one that was cut, and that nothing refers to any more: those
-- whose key is no longer that of their words, but those that have no address and no user agent.
DELETE FROM client AS c
WHERE (c.address <> '' OR c.user_agent <> '')
  AND c.key <> substr(sha256(convert_to(c.address, 'UTF8') || '\x00' || convert_to(c.host, 'UTF8') || '\x00'
                             || convert_to(c.method, 'UTF8') || '\x00' || convert_to(c.user_agent, 'UTF8')), 1, 16)
  AND NOT EXISTS (SELECT FROM audit_salt AS s WHERE s.client_id = c.id AND s.salt IS NOT NULL)
  AND NOT EXISTS (SELECT FROM audit_staged AS e WHERE e.client_id = c.id)
  AND NOT EXISTS (SELECT FROM pull_detail AS p WHERE p.client_id = c.id)
