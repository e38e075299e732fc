-- name: worth_emptying
-- Which of the tables that hold what waits are empty and take more than $1 bytes, and may be truncated by us.
SELECT name FROM (
    SELECT 'inbox' AS name, EXISTS (SELECT FROM inbox) AS filled
    UNION ALL SELECT 'work_item', EXISTS (SELECT FROM work_item)
    UNION ALL SELECT 'audit_staged', EXISTS (SELECT FROM audit_staged)
    UNION ALL SELECT 'own_request', EXISTS (SELECT FROM own_request)
) AS waiting
WHERE NOT filled AND pg_total_relation_size(name::regclass) > $1 AND has_table_privilege(name, 'TRUNCATE')

-- name: empty_inbox
-- Gives back the space of the inbox, unless somebody uses it or something is in it. Ids go on.
DO $$ BEGIN
    LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM inbox) THEN TRUNCATE inbox; END IF;
END $$

-- name: empty_work_item
-- The same of work items.
DO $$ BEGIN
    LOCK TABLE work_item IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM work_item) THEN TRUNCATE work_item; END IF;
END $$

-- name: empty_audit_staged
-- The same of staged entries.
DO $$ BEGIN
    LOCK TABLE audit_staged IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM audit_staged) THEN TRUNCATE audit_staged; END IF;
END $$

-- name: empty_own_request
-- The same of our own requests: those that are not packed.
DO $$ BEGIN
    LOCK TABLE own_request IN ACCESS EXCLUSIVE MODE NOWAIT;
    IF NOT EXISTS (SELECT FROM own_request) THEN TRUNCATE own_request; END IF;
END $$
