-- name: list_accounts
-- The accounts of registry processes that have not ended.
SELECT id, address, instance_id, began_at, read_at, accounted_until, mark_at, suspected_at, events, delivered,
       accepted, pending, mark_events, mark_lost, accounted_lost, accounted_events, missing, gc_cycles,
       last_gc_nanoseconds, process_start_seconds, error
FROM registry_process WHERE ended_at IS NULL

-- name: count_received
-- Distinct events by registry instance, of those that sent events lately: an older one is not a running process.
SELECT id, events FROM registry_instance ORDER BY last_seen_at DESC LIMIT 1000

-- name: waits_since_before
-- Whether a delivery that was received before $1 may not be applied yet: it waits in the inbox, or in the spool of a
-- process that reported since $2, or no process did, and nobody empties its spool.
SELECT EXISTS (SELECT FROM inbox WHERE done_at IS NULL AND received_at < $1)
    OR EXISTS (SELECT FROM receiver_session WHERE heartbeat_at >= $2 AND spooled > 0)
    OR NOT EXISTS (SELECT FROM receiver_session WHERE heartbeat_at >= $2)

-- name: list_instances
-- The registry instances that sent events, each with the last account known to be its own: from when to when it was
-- read. One without events is known from imported history only.
SELECT i.id, i.address, i.first_seen_at, i.last_seen_at, p.began_at AS counted_from,
       coalesce(p.ended_at, p.read_at) AS counted_to
FROM registry_instance AS i LEFT JOIN LATERAL (
    SELECT began_at, read_at, ended_at FROM registry_process WHERE instance_id = i.id ORDER BY id DESC LIMIT 1
) AS p ON true
WHERE i.events > 0
ORDER BY i.last_seen_at DESC LIMIT 1000

-- name: decided_until
-- The end of the last downtime of ours for which the loss is decided; null: there was none.
SELECT max(to_at) FROM receiver_downtime

-- name: add_downtime
-- Records a downtime of ours for which the loss is decided: from $1 to $2.
INSERT INTO receiver_downtime (from_at, to_at) VALUES ($1, $2)

-- name: add_account
-- Adds an account: its columns in the order of the record, without the id. Returns the id.
INSERT INTO registry_process
    (address, instance_id, began_at, read_at, accounted_until, mark_at, suspected_at, events, delivered, accepted,
     pending, mark_events, mark_lost, accounted_lost, accounted_events, missing, gc_cycles, last_gc_nanoseconds,
     process_start_seconds, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
RETURNING id

-- name: update_account
-- Writes account $1: its columns in the order of the record.
UPDATE registry_process
SET (address, instance_id, began_at, read_at, accounted_until, mark_at, suspected_at, events, delivered, accepted,
     pending, mark_events, mark_lost, accounted_lost, accounted_events, missing, gc_cycles, last_gc_nanoseconds,
     process_start_seconds, error)
    = ($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
WHERE id = $1

-- name: end_account
-- Ends the account of address $1 at $2.
UPDATE registry_process SET ended_at = $2 WHERE address = $1 AND ended_at IS NULL

-- name: record_unreadable
-- Records why the account of address $1 could not be read: $2.
UPDATE registry_process SET error = $2 WHERE address = $1 AND ended_at IS NULL

-- name: extend_statement
-- Extends to $3 the statement about process $1 up to $2, if it is that nothing was lost; true if so.
UPDATE loss_interval SET to_at = $3
WHERE id = (SELECT id FROM loss_interval WHERE process_id = $1 ORDER BY to_at DESC, id DESC LIMIT 1)
  AND state = 'nothing_lost' AND to_at = $2
RETURNING true

-- name: add_statement
-- Adds a statement about process $1 or instance $2: state $3, from $4, to $5, at most $6 lost, because $7, whether a
-- full reconcile is needed $8; $9 were queued in memory at the end.
INSERT INTO loss_interval (process_id, instance_id, state, from_at, to_at, lost, because, needs_reconcile, waiting_at_end)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)

-- name: drop_covered
-- Removes statements of instances about our downtimes that their own counters cover completely.
DELETE FROM loss_interval AS l USING registry_process AS p
WHERE l.instance_id = p.instance_id AND p.began_at <= l.from_at AND coalesce(p.ended_at, p.accounted_until) >= l.to_at

-- name: shorten_covered
-- Ends statements of instances where their own counters begin, if these cover the rest.
UPDATE loss_interval AS l SET to_at = p.began_at FROM registry_process AS p
WHERE l.instance_id = p.instance_id AND p.began_at > l.from_at AND p.began_at < l.to_at
  AND coalesce(p.ended_at, p.accounted_until) >= l.to_at

-- name: newest_suspicion
-- The newest statement that needs a full reconcile.
SELECT to_at, because FROM loss_interval WHERE needs_reconcile ORDER BY to_at DESC LIMIT 1

-- name: list_processes
-- The newest $1 registry processes.
SELECT id, address, instance_id, began_at, read_at, accounted_until, mark_at, suspected_at, events, delivered,
       accepted, pending, mark_events, mark_lost, accounted_lost, accounted_events, missing, gc_cycles,
       last_gc_nanoseconds, process_start_seconds, error,
       ended_at
FROM registry_process ORDER BY read_at DESC, id DESC LIMIT $1

-- name: list_statements
-- The newest $2 statements of each of the processes $1, the latest first.
SELECT s.process_id, s.state, s.from_at, s.to_at, s.lost, s.because, s.needs_reconcile, s.waiting_at_end
FROM unnest($1::bigint[]) AS p (id), LATERAL (
    SELECT * FROM loss_interval AS l WHERE l.process_id = p.id ORDER BY l.to_at DESC, l.id DESC LIMIT $2
) AS s
ORDER BY s.process_id, s.to_at DESC, s.id DESC

-- name: list_instance_statements
-- The newest $2 statements of each of the instances $1 without counters, the latest first.
SELECT s.instance_id, s.state, s.from_at, s.to_at, s.lost, s.because, s.needs_reconcile, s.waiting_at_end
FROM unnest($1::integer[]) AS i (id), LATERAL (
    SELECT * FROM loss_interval AS l WHERE l.instance_id = i.id ORDER BY l.to_at DESC, l.id DESC LIMIT $2
) AS s
ORDER BY s.instance_id, s.to_at DESC, s.id DESC

-- name: waiting
-- How many events wait in registries that have not ended, and how many they delivered that are missing here.
SELECT coalesce(sum(pending), 0)::bigint AS pending, coalesce(sum(missing), 0)::bigint AS missing
FROM registry_process WHERE ended_at IS NULL

-- name: count_statements
-- How many intervals are on record, by state.
SELECT state, count(*) AS intervals FROM loss_interval GROUP BY state

-- name: trim_statements
-- Removes statements about intervals that ended before $1.
DELETE FROM loss_interval WHERE to_at < $1

-- name: trim_downtimes
-- Removes downtimes that ended before $1, except the last.
DELETE FROM receiver_downtime WHERE to_at < $1 AND to_at < (SELECT max(to_at) FROM receiver_downtime)

-- name: trim_processes
-- Removes processes that ended before $1.
DELETE FROM registry_process WHERE ended_at < $1
