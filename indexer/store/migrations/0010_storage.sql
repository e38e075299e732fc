-- the registry's storage --------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'storage.damaged';

-- The newest check that came to its end, and what it found. What a check does not find any more is deleted.
CREATE TABLE storage_check (
    checked_at    timestamptz NOT NULL,
    begun_at      timestamptz NOT NULL,
    job_id        uuid,
    singleton     boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    content       boolean NOT NULL,             -- the bytes of all blobs were compared with their digests
    proven_by     text NOT NULL,                -- how the storage was known to be the registry's
    proof         text NOT NULL,
    repositories  bigint NOT NULL,
    blobs         bigint NOT NULL,
    compared      bigint NOT NULL,              -- blobs whose bytes were compared
    damaged       bigint NOT NULL,
    harmless      bigint NOT NULL
);

CREATE TABLE storage_finding (
    first_seen_at timestamptz NOT NULL,
    last_seen_at  timestamptz NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    is_damaged    boolean NOT NULL,             -- something cannot be pulled; else nothing is lost
    repairable    boolean NOT NULL,
    code          text COLLATE "C" NOT NULL,
    repository    text COLLATE "C" NOT NULL,    -- '': a blob that no repository needs
    path          text COLLATE "C" NOT NULL,    -- below docker/registry/v2
    tag           text COLLATE "C",
    digest        text COLLATE "C",
    tags          text[] COLLATE "C" NOT NULL,  -- that cannot be pulled for it; at most 100
    tags_count    integer NOT NULL,
    text          text NOT NULL,
    advice        text NOT NULL
);

CREATE UNIQUE INDEX storage_finding_key ON storage_finding (repository, path, code);
CREATE INDEX storage_finding_wrong ON storage_finding (digest) WHERE code LIKE '%.wrong_content';

-- What bytes belong to, by the last pass of each day, UTC.
CREATE TABLE storage_sample (
    taken_at         timestamptz NOT NULL,
    taken_on         date PRIMARY KEY,
    stored_bytes     bigint NOT NULL,
    stored_blobs     bigint NOT NULL,
    referenced_bytes bigint NOT NULL,
    referenced_blobs bigint NOT NULL,
    tagged_bytes     bigint NOT NULL,           -- these five add up to referenced_bytes
    children_bytes   bigint NOT NULL,
    referrers_bytes  bigint NOT NULL,
    old_bytes        bigint NOT NULL,
    untagged_bytes   bigint NOT NULL,
    upload_bytes     bigint NOT NULL,
    link_bytes       bigint NOT NULL,
    unknown_bytes    bigint NOT NULL,
    repositories     bigint NOT NULL,
    tags             bigint NOT NULL,
    manifests        bigint NOT NULL
);

-- The same of the newest pass, for each repository, and each prefix of names with several.
CREATE TABLE storage_share (
    referenced_bytes bigint NOT NULL,
    exclusive_bytes  bigint NOT NULL,
    attributed_bytes bigint NOT NULL,
    tags             bigint NOT NULL,
    manifests        bigint NOT NULL,
    repositories     bigint NOT NULL,
    is_prefix        boolean NOT NULL,
    name             text COLLATE "C" NOT NULL,
    PRIMARY KEY (is_prefix, name)
);
