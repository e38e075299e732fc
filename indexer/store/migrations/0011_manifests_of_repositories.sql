-- manifests of repositories ------------------------------------------------------------------------------------

-- Two indexes had the same two columns, in either order. The one by repository first was half empty, since the manifests of
-- many repositories come in turns; by manifest first, they are added at its end. What a repository has is found by
-- repository_manifest_by_pushed, and what it had by the new index, which has the deleted ones alone.
ALTER TABLE repository_manifest DROP CONSTRAINT repository_manifest_pkey, ADD PRIMARY KEY (manifest_id, repository_id);
DROP INDEX repository_manifest_by_manifest;
CREATE INDEX repository_manifest_deleted ON repository_manifest (repository_id, deleted_at) WHERE deleted_at IS NOT NULL;
