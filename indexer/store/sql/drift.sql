-- name: add_findings
-- Records findings: runs $1, detected at $2, repaired at $3, repositories $4, kinds $5, causes $6, tags $7, expected
-- $8, found $9, notes $10, not before $11. Of repaired ones the causes $12 may still be replaced.
INSERT INTO drift_finding
    (run_id, detected_at, repaired_at, repository_id, kind, cause, tag, expected, found, note, not_before, explained_at)
SELECT new.*, CASE WHEN repaired IS NULL OR cause <> ALL ($12::text[]) THEN detected END
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::text[], $6::text[],
            $7::text[], $8::bytea[], $9::bytea[], $10::text[], $11::timestamptz[])
    AS new (run, detected, repaired, repository, kind, cause, tag, expected, found, note, not_before)

-- name: last_complete_run
-- The newest full reconcile that ended complete.
SELECT id, started_at, finished_at, counts FROM reconcile_run
WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan' ORDER BY finished_at DESC LIMIT 1
