-- name: protecting
-- What keeps tags from cleanup, in use or on hold: repositories $1 (ids), names $2, digests $3; number is the place in
-- these lists. A digest that a source or a hold names protects its manifest, its children and the indexes that refer to
-- it; one that a source names also the manifest whose config it is, and a tag that it names, what that points to.
WITH RECURSIVE page AS (
    SELECT v.number, v.name, v.repository_id, r.name AS repository, m.id
    FROM unnest($1::integer[], $2::text[], $3::bytea[]) WITH ORDINALITY AS v (repository_id, name, digest, number)
    JOIN repository AS r ON r.id = v.repository_id
    LEFT JOIN manifest AS m ON m.digest = v.digest
    WHERE EXISTS (SELECT FROM in_use_image) OR EXISTS (SELECT FROM cleanup_hold WHERE until IS NULL OR until > now())
), down AS (
    SELECT number, id FROM page WHERE id IS NOT NULL
    UNION
    SELECT d.number, c.child_id FROM down AS d JOIN manifest_child AS c ON c.manifest_id = d.id
), up AS (
    SELECT number, id FROM page WHERE id IS NOT NULL
    UNION
    SELECT u.number, c.manifest_id FROM up AS u JOIN manifest_child AS c ON c.child_id = u.id
), family AS (
    SELECT f.number, f.id, CASE get_byte(m.digest, 0) WHEN 1 THEN 'sha256:' ELSE 'sha512:' END
           || encode(substring(m.digest FROM 2), 'hex') AS digest,
           CASE get_byte(m.config_digest, 0) WHEN 1 THEN 'sha256:' ELSE 'sha512:' END
           || encode(substring(m.config_digest FROM 2), 'hex') AS config
    FROM (SELECT * FROM down UNION SELECT * FROM up) AS f JOIN manifest AS m ON m.id = f.id
), named AS (
    SELECT number, digest AS reference FROM family
    UNION
    SELECT number, config FROM family WHERE config IS NOT NULL
    UNION
    SELECT f.number, t.name FROM family AS f JOIN page AS p ON p.number = f.number
    JOIN tag AS t ON t.repository_id = p.repository_id AND t.manifest_id = f.id
)
SELECT DISTINCT n.number, 'in_use' AS kind, i.source AS by, NULL AS until
FROM named AS n JOIN page AS p ON p.number = n.number
JOIN in_use_image AS i ON i.reference = n.reference AND i.repository IN ('', p.repository)
UNION
SELECT p.number, 'hold', h.owner, h.until::text
FROM page AS p JOIN cleanup_hold AS h
  ON (h.repository IS NULL OR h.repository = p.repository) AND (h.tag IS NULL OR h.tag = p.name)
  AND (h.digest IS NULL OR EXISTS (SELECT FROM family AS f WHERE f.number = p.number AND f.digest = h.digest))
  AND (h.until IS NULL OR h.until > now())
ORDER BY number, kind, by

-- name: in_use
-- The manifests that sources name in a repository (its id), or in any (null): themselves, by a tag or by their config, with
-- their children and the indexes that refer to them. What is named in a repository that is not on record is left out.
WITH RECURSIVE wanted AS (
    SELECT i.repository, i.reference,
           CASE WHEN i.reference ~ '^sha256:[0-9a-f]{64}$' THEN '\x01'::bytea || decode(substring(i.reference FROM 8), 'hex')
                WHEN i.reference ~ '^sha512:[0-9a-f]{128}$' THEN '\x02'::bytea || decode(substring(i.reference FROM 8), 'hex')
           END AS digest
    FROM (SELECT DISTINCT repository, reference FROM in_use_image) AS i
), named AS (
    SELECT w.repository, m.id FROM wanted AS w JOIN manifest AS m ON m.digest = w.digest
    UNION
    SELECT w.repository, m.id FROM wanted AS w JOIN manifest AS m ON m.config_digest = w.digest
    UNION
    SELECT w.repository, t.manifest_id FROM wanted AS w JOIN repository AS r ON r.name = w.repository
    JOIN tag AS t ON t.repository_id = r.id AND t.name = w.reference
    WHERE t.manifest_id IS NOT NULL
), down AS (
    SELECT repository, id FROM named
    UNION
    SELECT d.repository, c.child_id FROM down AS d JOIN manifest_child AS c ON c.manifest_id = d.id
), up AS (
    SELECT repository, id FROM named
    UNION
    SELECT u.repository, c.manifest_id FROM up AS u JOIN manifest_child AS c ON c.child_id = u.id
)
SELECT r.id AS repository_id, array_agg(f.id) AS manifests
FROM (SELECT * FROM down UNION SELECT * FROM up) AS f
LEFT JOIN repository AS r ON r.name = f.repository
WHERE f.repository = '' OR r.id IS NOT NULL
GROUP BY r.id

-- name: repository_names
-- The names of repositories $1 (ids).
SELECT id, name FROM repository WHERE id = ANY ($1::integer[])
