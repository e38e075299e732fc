-- copies of deleted manifests -----------------------------------------------------------------------------------

-- A manifest that is copied, with its blobs, to another repository before it is deleted, so that no collection takes it.
-- On record before the first request; put_at null: it may not be there yet.
CREATE TABLE trash_copy (
    kept_until    timestamptz NOT NULL,
    put_at        timestamptz,
    lease_until   timestamptz NOT NULL DEFAULT '-infinity',  -- somebody deletes it until then
    repository    text COLLATE "C" NOT NULL,    -- whose manifest it is
    trash         text COLLATE "C" NOT NULL,    -- the repository that has the copy
    digest        bytea NOT NULL,
    PRIMARY KEY (trash, digest)
);

CREATE INDEX trash_copy_kept_until ON trash_copy (kept_until);
CREATE INDEX trash_copy_of ON trash_copy (repository, digest);
