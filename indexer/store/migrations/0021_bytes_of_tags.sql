-- bytes of tags, and of plans ----------------------------------------------------------------------------------------

-- Of each manifest that tags pointed to when the storage was read last.
CREATE TABLE storage_root (
    referenced_bytes bigint NOT NULL,
    exclusive_bytes  bigint NOT NULL,             -- of all its tags together
    attributed_bytes bigint NOT NULL,
    manifest_id      bigint NOT NULL,
    repository_id    integer NOT NULL,
    PRIMARY KEY (repository_id, manifest_id)
);

-- What all policies of a plan free together; null: an older program made it, and their figures are added.
ALTER TABLE cleanup_plan ADD COLUMN freed_bytes bigint;
