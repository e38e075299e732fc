-- name: referrers_of
-- Referrers of the digest $2 in repository $1 (name), by digest after $6, of artifact type $7 ('': any), at most $8,
-- and no more once the annotations of those before reach $9 bytes. From three sources: manifests with this subject; the
-- children of the index tagged $3; manifests tagged $4, of the artifact types $5. The last two count only if the
-- manifest has no subject itself. The first must be on record in the repository. The others must not be on record as
-- deleted; of a child without a record there is only what the index says.
WITH wanted AS (SELECT id FROM repository WHERE name = $1),
candidate (digest, manifest_id, tag_type, known, stated_size, stated_media_type) AS (
    (SELECT m.digest, m.id, '', true, 0::bigint, ''
     FROM wanted
     JOIN manifest AS m ON m.subject_digest = $2 AND m.digest > $6
     JOIN facet AS f ON f.id = m.facet_id
     LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
     WHERE ($7 = '' OR coalesce(nullif(f.artifact_type, ''), c.name, '') = $7)
       AND EXISTS (SELECT FROM repository_manifest AS h
                   WHERE h.repository_id = wanted.id AND h.manifest_id = m.id AND h.deleted_at IS NULL)
     ORDER BY m.digest LIMIT $8)
    UNION ALL
    SELECT m.digest, m.id, tagged.tag_type, record.known, tagged.stated_size, tagged.stated_media_type
    FROM wanted
    CROSS JOIN LATERAL (
        SELECT k.child_id, '', false, k.size_bytes, coalesce(s.name, '')
        FROM tag AS t
        JOIN manifest_child AS k ON k.manifest_id = t.manifest_id
        LEFT JOIN media_type AS s ON s.id = k.media_type_id
        WHERE t.repository_id = wanted.id AND t.name = $3
        UNION ALL
        SELECT t.manifest_id, named.tag_type, true, 0, '' FROM unnest($4::text[], $5::text[]) AS named (name, tag_type)
        JOIN tag AS t ON t.repository_id = wanted.id AND t.name = named.name
    ) AS tagged (manifest_id, tag_type, is_tag, stated_size, stated_media_type)
    JOIN manifest AS m ON m.id = tagged.manifest_id AND m.digest > $6
    JOIN facet AS f ON f.id = m.facet_id
    LEFT JOIN media_type AS c ON c.id = m.config_media_type_id
    LEFT JOIN repository_manifest AS h ON h.repository_id = wanted.id AND h.manifest_id = m.id
    CROSS JOIN LATERAL (SELECT tagged.is_tag OR h.manifest_id IS NOT NULL AS known) AS record
    WHERE h.deleted_at IS NULL
      AND CASE WHEN record.known THEN m.subject_digest IS NULL AND greatest(m.size_bytes, tagged.stated_size) > 0
                                    AND coalesce(nullif(f.media_type, ''), tagged.stated_media_type) <> ''
               ELSE tagged.stated_size > 0 AND tagged.stated_media_type <> '' END
      AND ($7 = '' OR coalesce(CASE WHEN record.known THEN nullif(f.artifact_type, '') END, nullif(tagged.tag_type, ''),
                               CASE WHEN record.known THEN c.name END, '') = $7)
), merged AS (
    SELECT digest, manifest_id, max(tag_type) AS tag_type, bool_or(known) AS known, max(stated_size) AS stated_size,
           max(stated_media_type) AS stated_media_type
    FROM candidate GROUP BY digest, manifest_id ORDER BY digest LIMIT $8
), weighed AS (
    SELECT w.*, m.facet_id, m.config_media_type_id, CASE WHEN w.known THEN m.annotations END AS annotations,
           CASE WHEN w.known AND m.size_bytes > 0 THEN m.size_bytes ELSE w.stated_size END AS size_bytes,
           coalesce(sum(octet_length(m.annotations::text)) OVER (
               ORDER BY w.digest ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM merged AS w JOIN manifest AS m ON m.id = w.manifest_id
)
SELECT w.digest, w.size_bytes, w.annotations,
       coalesce(CASE WHEN w.known THEN nullif(f.media_type, '') END, w.stated_media_type) AS media_type,
       coalesce(CASE WHEN w.known THEN nullif(f.artifact_type, '') END, nullif(w.tag_type, ''),
                CASE WHEN w.known THEN c.name END, '') AS artifact_type
FROM weighed AS w
JOIN facet AS f ON f.id = w.facet_id
LEFT JOIN media_type AS c ON c.id = w.config_media_type_id
WHERE w.bytes_before < $9
ORDER BY w.digest
