-- name: lock_planning
-- Lets one transaction at a time store plans; key $1.
SELECT pg_advisory_xact_lock($1)

-- name: add_plan
-- Adds plan $1, made at $2 at position $3 of the log by engine $4, under bytes with hash $5; hash of what it deletes $6;
-- asked for by $7.
INSERT INTO cleanup_plan (id, made_at, confirmed_at, position, engine, policies_sha256, content_sha256, asked_by,
                          freed_bytes)
VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8)

-- name: equal_plan
-- The newest plan under bytes $1 by engine $2 for policies $3, if it deletes what has hash $4 and was not rejected.
SELECT id FROM (
    SELECT p.id, p.content_sha256, p.rejected_at
    FROM cleanup_plan AS p
    WHERE p.policies_sha256 = $1 AND p.engine = $2 AND p.made_at >= $5
      AND (SELECT array_agg(w.policy ORDER BY w.position) FROM cleanup_plan_policy AS w WHERE w.plan_id = p.id) = $3
    ORDER BY p.made_at DESC, p.id LIMIT 1
) AS newest
WHERE content_sha256 = $4 AND rejected_at IS NULL

-- name: confirm_plan
-- Records that an evaluation at $2 came to plan $1 again, which frees $3 bytes.
UPDATE cleanup_plan SET confirmed_at = greatest(confirmed_at, $2), freed_bytes = $3 WHERE id = $1

-- name: put_plan_policy
-- What policy $2 has in plan $1: number in the file $3, mode $4, brake $5, bytes freed $6, weak share $7, kept $8,
-- deleted $9, held $10, notes $11.
INSERT INTO cleanup_plan_policy (plan_id, policy, position, mode, brake, freed_bytes, weak_share, kept, deleted, held, notes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (plan_id, policy) DO UPDATE
SET brake = excluded.brake, freed_bytes = excluded.freed_bytes, weak_share = excluded.weak_share, kept = excluded.kept,
    deleted = excluded.deleted, held = excluded.held, notes = excluded.notes

-- name: add_verdicts
-- Adds verdicts of plan $1: numbers $2, policies $3, repositories $4, tags $5, digests $6, decisions $7, as shown $8.
INSERT INTO cleanup_verdict (plan_id, number, policy, repository_id, tag, digest, decision, shown)
SELECT $1, v.number, v.policy, r.id, v.tag, v.digest, v.decision, v.shown
FROM unnest($2::integer[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], $8::jsonb[])
    AS v (number, policy, repository, tag, digest, decision, shown)
JOIN repository AS r ON r.name = v.repository

-- name: find_plan
-- Plan $1.
SELECT id, made_at, confirmed_at, position, engine, policies_sha256, rejected_at, rejected_by, rejected_because, asked_by,
       freed_bytes
FROM cleanup_plan WHERE id = $1

-- name: list_plans
-- The newest $1 plans.
SELECT id, made_at, confirmed_at, position, engine, policies_sha256, rejected_at, rejected_by, rejected_because, asked_by,
       freed_bytes
FROM cleanup_plan ORDER BY made_at DESC, id LIMIT $1

-- name: plans_under
-- Plans that were made under bytes $1 since $2 by engine $3, rejected ones too, what an evaluation came to last first.
SELECT id, made_at, confirmed_at, position, engine, policies_sha256, rejected_at, rejected_by, rejected_because, asked_by,
       freed_bytes
FROM cleanup_plan
WHERE policies_sha256 = $1 AND made_at >= $2 AND engine = $3
ORDER BY confirmed_at DESC, made_at DESC, id LIMIT 1000

-- name: newest_under
-- The plan that an evaluation came to last, made under bytes $1 since $2 by engine $3, and not rejected.
SELECT id FROM cleanup_plan
WHERE policies_sha256 = $1 AND made_at >= $2 AND engine = $3 AND rejected_at IS NULL
ORDER BY confirmed_at DESC, made_at DESC, id LIMIT 1

-- name: plan_policies
-- What policies have in plans $1, in the order of the file.
SELECT plan_id, policy, mode, brake, freed_bytes, weak_share, kept, deleted, held, notes
FROM cleanup_plan_policy WHERE plan_id = ANY($1::text[]) ORDER BY plan_id, position, policy

-- name: list_verdicts
-- At most $3 verdicts of plan $1 after number $2.
SELECT number, shown FROM cleanup_verdict WHERE plan_id = $1 AND number > $2 ORDER BY number LIMIT $3

-- name: approve
-- Records that $4 approved plan $1 at $2, made under bytes $3, because $5.
INSERT INTO cleanup_approval (plan_id, at, policies_sha256, by, reason) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (plan_id, at) DO NOTHING

-- name: reject
-- Records that $3 rejected plan $1 at $2, because $4.
UPDATE cleanup_plan SET rejected_at = $2, rejected_by = $3, rejected_because = $4 WHERE id = $1

-- name: approvals
-- Approvals of plans that were made under bytes $1 and not rejected since.
SELECT a.plan_id, a.at, a.policies_sha256, a.by, a.reason
FROM cleanup_approval AS a JOIN cleanup_plan AS p ON p.id = a.plan_id
WHERE a.policies_sha256 = $1 AND p.rejected_at IS NULL
ORDER BY a.at

-- name: approvals_of
-- Approvals of plans $1.
SELECT plan_id, at, policies_sha256, by, reason FROM cleanup_approval WHERE plan_id = ANY($1::text[]) ORDER BY at

-- name: open_planned
-- What policies $1 planned and is open.
SELECT p.id, p.first_at, p.due_at, r.name AS repository, p.policy, p.tag, p.digest, p.rule, p.reason
FROM cleanup_planned AS p JOIN repository AS r ON r.id = p.repository_id
WHERE p.ended_at IS NULL AND p.policy = ANY($1::text[]) ORDER BY p.id

-- name: put_planned
-- Notes what is planned: policy $1, at $2; repositories $3, tags $4 ('': a manifest), digests $5, rules $6, reasons $7;
-- pending $8 for each (null: due at once). What is open already keeps its beginning.
INSERT INTO cleanup_planned (policy, first_at, due_at, named_at, repository_id, tag, digest, rule, reason)
SELECT $1, $2::timestamptz, $2::timestamptz + coalesce(v.pending, interval '0'), $2::timestamptz, r.id, v.tag, v.digest, v.rule, v.reason
FROM unnest($3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[], $8::interval[])
    AS v (repository, tag, digest, rule, reason, pending)
JOIN repository AS r ON r.name = v.repository
ORDER BY r.id, v.tag, v.digest
ON CONFLICT (repository_id, tag, digest) WHERE ended_at IS NULL DO UPDATE
SET named_at = excluded.named_at, policy = excluded.policy, rule = excluded.rule, reason = excluded.reason,
    first_at = CASE WHEN cleanup_planned.policy = excluded.policy THEN cleanup_planned.first_at ELSE excluded.first_at END,
    due_at = CASE WHEN cleanup_planned.policy = excluded.policy THEN cleanup_planned.first_at ELSE excluded.first_at END
             + (excluded.due_at - excluded.first_at)
RETURNING (xmax = 0) AS added

-- name: end_planned
-- Ends planned rows $1 at $2: outcomes $3, reasons $4. Returns those that were open.
UPDATE cleanup_planned AS p SET ended_at = $2, outcome = v.outcome, because = v.because
FROM unnest($1::bigint[], $3::text[], $4::text[]) AS v (id, outcome, because)
WHERE p.id = v.id AND p.ended_at IS NULL
RETURNING p.id

-- name: end_planned_of_others
-- Ends what policies planned that are not among $1, at $2: they are gone, or do not act any more.
UPDATE cleanup_planned SET ended_at = $2, outcome = 'cancelled', because = 'its policy does not act any more'
WHERE ended_at IS NULL AND policy <> ALL($1::text[])
RETURNING id

-- name: due
-- What is open, due at $2, and deleted by plans $1 (of each: policy $3, and when it was evaluated last $5, which must
-- have come to the same), at most $4, tags first, then the longest due; where $6 only tags, none of $7 (ids), and of
-- the repositories $8 (null: all), of the ids $9 (null: all).
SELECT DISTINCT ON (p.tag = '', p.due_at, p.id)
       p.id, p.first_at, p.due_at, r.name AS repository, p.policy, p.tag, p.digest, p.rule, p.reason, v.plan_id,
       v.shown ->> 'text' AS text
FROM unnest($1::text[], $3::text[], $5::timestamptz[]) AS ok (plan_id, policy, evaluated_at)
JOIN cleanup_planned AS p ON p.policy = ok.policy AND p.ended_at IS NULL AND p.due_at <= $2
     AND p.named_at >= ok.evaluated_at
JOIN cleanup_verdict AS v ON v.plan_id = ok.plan_id AND v.policy = p.policy AND v.repository_id = p.repository_id
     AND v.tag IS NOT DISTINCT FROM nullif(p.tag, '') AND v.digest = p.digest AND v.decision = 'delete'
JOIN repository AS r ON r.id = p.repository_id
WHERE (p.tag <> '' OR NOT $6) AND p.id <> ALL($7::bigint[]) AND ($8::text[] IS NULL OR r.name = ANY($8))
  AND ($9::bigint[] IS NULL OR p.id = ANY($9))
ORDER BY p.tag = '', p.due_at, p.id, v.plan_id LIMIT $4

-- name: last_runs
-- The newest job that was asked for by each policy itself.
SELECT DISTINCT ON (asked_by) asked_by AS policy, id AS job, state, created_at, ended_at, result, error
FROM job WHERE kind = 'cleanup' AND by_policy ORDER BY asked_by, number DESC

-- name: due_counts
-- How many tags and manifests statement due has at most $4 of; with its first five parameters.
SELECT count(*) FILTER (WHERE tag <> '') AS tags, count(*) FILTER (WHERE tag = '') AS manifests
FROM (
    SELECT DISTINCT p.id, p.tag
    FROM unnest($1::text[], $3::text[], $5::timestamptz[]) AS ok (plan_id, policy, evaluated_at)
    JOIN cleanup_planned AS p ON p.policy = ok.policy AND p.ended_at IS NULL AND p.due_at <= $2
         AND p.named_at >= ok.evaluated_at
    JOIN cleanup_verdict AS v ON v.plan_id = ok.plan_id AND v.policy = p.policy AND v.repository_id = p.repository_id
         AND v.tag IS NOT DISTINCT FROM nullif(p.tag, '') AND v.digest = p.digest AND v.decision = 'delete'
    LIMIT $4
) AS due

-- name: record_ended
-- Stages an entry for each of planned rows $1, which were cancelled.
INSERT INTO audit_staged (occurred_at, recorded_at, action, source, repository_id, tag, content_id, detail)
SELECT p.ended_at, p.ended_at,
       CASE p.outcome WHEN 'near_miss' THEN 'cleanup.near_miss'::audit_action ELSE 'cleanup.cancelled'::audit_action END,
       'policy', p.repository_id, nullif(p.tag, ''), m.id,
       jsonb_strip_nulls(jsonb_build_object(
           'policy', p.policy, 'rule', p.rule, 'because', p.because,
           'first_at', to_char(p.first_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')))
FROM cleanup_planned AS p LEFT JOIN manifest AS m ON m.digest = p.digest
WHERE p.id = ANY($1::bigint[]) AND p.outcome IN ('cancelled', 'near_miss') ORDER BY p.id

-- name: has_tags
-- Whether a tag of repository $1 points to manifest $2.
SELECT EXISTS (
    SELECT FROM repository AS r JOIN manifest AS m ON m.digest = $2
    JOIN tag AS t ON t.repository_id = r.id AND t.manifest_id = m.id WHERE r.name = $1
)

-- name: planned_counts
-- How much is planned and open, how much of it is due at $1, and when the next is.
SELECT count(*) FILTER (WHERE tag <> '') AS tags, count(*) FILTER (WHERE tag = '') AS manifests,
       count(*) FILTER (WHERE due_at <= $1) AS due, min(due_at) AS next_due_at
FROM cleanup_planned WHERE ended_at IS NULL

-- name: plan_counts
-- How many plans wait for a decision, were approved, and were rejected.
SELECT count(*) FILTER (WHERE rejected_at IS NULL AND a.plan_id IS NULL) AS waiting,
       count(*) FILTER (WHERE rejected_at IS NULL AND a.plan_id IS NOT NULL) AS approved,
       count(*) FILTER (WHERE rejected_at IS NOT NULL) AS rejected
FROM cleanup_plan AS p LEFT JOIN (SELECT DISTINCT plan_id FROM cleanup_approval) AS a ON a.plan_id = p.id

-- name: outcome_counts
-- How many planned rows had each outcome, in all.
SELECT outcome, count(*) AS number FROM cleanup_planned WHERE ended_at IS NOT NULL GROUP BY outcome

-- name: used_since
-- Whether repository $1 saw manifest $2 pushed since $3, or it or its tag $4 ('': none) pulled or checked since $5.
SELECT EXISTS (
    SELECT FROM repository AS r
    JOIN manifest AS m ON m.digest = $2
    JOIN repository_manifest AS h ON h.repository_id = r.id AND h.manifest_id = m.id
    WHERE r.name = $1 AND (h.last_pulled_at > $5 OR h.last_checked_at > $5 OR h.pushed_at > $3 OR h.pushed_again_at > $3)
) OR EXISTS (
    SELECT FROM repository AS r JOIN tag_pull AS t ON t.repository_id = r.id
    WHERE r.name = $1 AND t.name = $4 AND t.last_pulled_at > $5
) OR EXISTS (
    SELECT FROM repository AS r JOIN tag_check AS t ON t.repository_id = r.id
    WHERE r.name = $1 AND t.name = $4 AND t.last_checked_at > $5
)

-- name: tag_points_to
-- Which digest tag $2 of repository $1 has on record.
SELECT m.digest FROM repository AS r JOIN tag AS t ON t.repository_id = r.id JOIN manifest AS m ON m.id = t.manifest_id
WHERE r.name = $1 AND t.name = $2

-- name: trim_plans
-- Forgets plans that were last confirmed before $1, in portions.
DELETE FROM cleanup_plan WHERE id IN (SELECT id FROM cleanup_plan WHERE confirmed_at < $1 ORDER BY made_at LIMIT 100)

-- name: trim_planned
-- Forgets what ended before $1, in portions; what was done is kept as long as its manifest is here.
DELETE FROM cleanup_planned WHERE id IN (
    SELECT p.id FROM cleanup_planned AS p
    WHERE p.ended_at < $1 AND NOT (p.outcome = 'done' AND EXISTS (
        SELECT FROM manifest AS m JOIN repository_manifest AS h ON h.manifest_id = m.id
        WHERE m.digest = p.digest AND h.repository_id = p.repository_id AND h.deleted_at IS NULL
    ))
    ORDER BY p.ended_at LIMIT 10000
)
