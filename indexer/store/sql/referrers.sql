-- name: referrers_of
-- Referrers of the digest $2 that repository $1 (name) holds, by digest after $6, of artifact type $7 ('': any), at most
-- $8, and no more once the annotations of those before come to $9 bytes. From three sources: manifests that name it as
-- their subject; the children of the index tagged $3; what is tagged $4, of the artifact types $5. The last two count
-- only where the manifest names no subject itself. A repository's hold is needed to have been taken, or, of what a tag
-- leads to, not to have been given up.
WITH asked AS (SELECT id FROM repository WHERE name = $1),
candidate (digest, manifest_id, told_type) AS (
    (SELECT m.digest, m.id, ''
     FROM asked
     JOIN manifest AS m ON m.subject_digest = $2 AND m.digest > $6
     JOIN facet AS f ON f.id = m.facet_id
     LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
     WHERE ($7 = '' OR coalesce(nullif(f.artifact_type, ''), c.name, '') = $7)
       AND EXISTS (SELECT FROM repository_manifest AS h
                   WHERE h.repository_id = asked.id AND h.manifest_id = m.id AND h.deleted_at IS NULL)
     ORDER BY m.digest LIMIT $8)
    UNION ALL
    SELECT m.digest, m.id, tagged.told_type
    FROM asked
    CROSS JOIN LATERAL (
        SELECT k.child_id, '' FROM tag AS t JOIN manifest_child AS k ON k.manifest_id = t.manifest_id
        WHERE t.repository_id = asked.id AND t.name = $3
        UNION ALL
        SELECT t.manifest_id, named.told_type FROM unnest($4::text[], $5::text[]) AS named (name, told_type)
        JOIN tag AS t ON t.repository_id = asked.id AND t.name = named.name
    ) AS tagged (manifest_id, told_type)
    JOIN manifest AS m ON m.id = tagged.manifest_id AND m.digest > $6
    JOIN facet AS f ON f.id = m.facet_id
    LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
    WHERE m.subject_digest IS NULL AND m.size_bytes > 0 AND f.media_type <> ''
      AND ($7 = '' OR coalesce(nullif(f.artifact_type, ''), nullif(tagged.told_type, ''), c.name, '') = $7)
      AND NOT EXISTS (SELECT FROM repository_manifest AS h
                      WHERE h.repository_id = asked.id AND h.manifest_id = m.id AND h.deleted_at IS NOT NULL)
), merged AS (
    SELECT digest, manifest_id, max(told_type) AS told_type FROM candidate
    GROUP BY digest, manifest_id ORDER BY digest LIMIT $8
), weighed AS (
    SELECT w.digest, w.manifest_id, w.told_type, m.size_bytes, m.facet_id, m.config_media_type_id, m.annotations,
           coalesce(sum(octet_length(m.annotations::text)) OVER (
               ORDER BY w.digest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM merged AS w JOIN manifest AS m ON m.id = w.manifest_id
)
SELECT w.digest, w.size_bytes, w.annotations, f.media_type,
       coalesce(nullif(f.artifact_type, ''), nullif(w.told_type, ''), c.name, '') AS artifact_type
FROM weighed AS w
JOIN facet AS f ON f.id = w.facet_id
LEFT JOIN media_type AS c ON c.id = w.config_media_type_id
WHERE w.bytes_before < $9
ORDER BY w.digest
