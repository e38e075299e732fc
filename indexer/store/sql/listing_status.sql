-- name: ingest
-- What waits in the inbox, since when, how much of it failed before, and why the last of that did; what is quarantined
-- and what is not sealed.
SELECT clock_timestamp() AS now,
       (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS waiting,
       (SELECT received_at FROM inbox WHERE done_at IS NULL ORDER BY id LIMIT 1) AS waiting_since,
       (SELECT count(*) FROM inbox WHERE done_at IS NULL AND last_error IS NOT NULL) AS failing,
       (SELECT last_error FROM inbox WHERE done_at IS NULL AND last_error IS NOT NULL ORDER BY id DESC LIMIT 1) AS failure,
       (SELECT count(*) FROM quarantine) AS quarantined,
       (SELECT count(*) FROM audit_staged) AS unsealed,
       (SELECT min(recorded_at) FROM audit_staged) AS unsealed_since,
       (SELECT position FROM audit_log_head) AS position

-- name: backlog
-- Per kind of work item: how many wait, how many are due now, since when the oldest waits, how many failed before.
SELECT kind, count(*) AS waiting, count(*) FILTER (WHERE due_at <= clock_timestamp()) AS due,
       count(*) FILTER (WHERE attempts > 0) AS failing, min(waiting_since) AS since
FROM work_item GROUP BY kind

-- name: instances
-- The registry instances that sent events, the latest first. One without events is known from imported history only.
SELECT id, instance, address, first_seen_at, last_seen_at, first_event_at, last_event_at, events
FROM registry_instance WHERE events > 0 ORDER BY last_seen_at DESC, id DESC LIMIT $1

-- name: last_walk
-- The newest complete full reconcile.
SELECT id, started_at, finished_at, counts FROM reconcile_run
WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan' ORDER BY finished_at DESC LIMIT 1

-- name: trend
-- What the newest $1 full reconciles that ended found, the latest first.
SELECT id, started_at, finished_at, outcome, counts, undecided FROM reconcile_run
WHERE outcome IN ('complete', 'incomplete', 'braked') AND scope IS NULL AND mode <> 'plan' ORDER BY id DESC LIMIT $1

-- name: totals
-- How much is on record, by maintained counters.
SELECT count(*) AS repositories, coalesce(sum(tag_count), 0)::bigint AS tags,
       coalesce(sum(manifest_count), 0)::bigint AS manifests
FROM repository

-- name: verified
-- Of all tags: how many were ever verified, how many since $1 and since $2, how many are broken.
SELECT count(*) AS tags, count(verified_at) AS verified, count(*) FILTER (WHERE verified_at >= $1) AS recently,
       count(*) FILTER (WHERE verified_at >= $2) AS lately, count(*) FILTER (WHERE broken_reason IS NOT NULL) AS broken
FROM tag

-- name: verified_sample
-- The same of about $3 per cent of the tags.
SELECT count(*) AS tags, count(verified_at) AS verified, count(*) FILTER (WHERE verified_at >= $1) AS recently,
       count(*) FILTER (WHERE verified_at >= $2) AS lately, count(*) FILTER (WHERE broken_reason IS NOT NULL) AS broken
FROM tag TABLESAMPLE SYSTEM ($3)
