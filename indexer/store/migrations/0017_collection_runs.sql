-- collections of garbage that are inferred ------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'gc.overlapped';

-- When the storage was read last, and some of the blobs that nothing referred to then. Only a collection removes blobs: if
-- one of these is gone when the storage is read again, there was one meanwhile.
CREATE TABLE storage_reading (
    begun_at    timestamptz NOT NULL,
    singleton   boolean PRIMARY KEY DEFAULT true CHECK (singleton)
);
CREATE TABLE storage_unreferenced (
    digest      bytea PRIMARY KEY
);

-- Collections that were inferred so; the newest 100.
CREATE TABLE storage_collection (
    found_at       timestamptz NOT NULL,
    not_before     timestamptz NOT NULL,      -- the storage was read, and the blobs were there
    not_after      timestamptz NOT NULL,      -- it was read again, and they were gone
    first_at       timestamptz,               -- of the changes
    last_at        timestamptz,
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gone           integer NOT NULL,          -- of the blobs in storage_unreferenced
    uploads        bigint NOT NULL,           -- events that were received of that time: pushes and mounts
    deletions      bigint NOT NULL,
    in_maintenance boolean NOT NULL,          -- the time is narrowed down to maintenance that lay in it
    examples       text[] COLLATE "C" NOT NULL
);
