-- Generated from indexer/store/migrations by `python3 dev.py schema`. Do not edit: change the migration and run it.
-- The whole database in one file, to be read and to build test databases from. A real one is made by `indexer migrate`.

-- 0001_initial

-- The first schema, one section per noun, in the order of indexer/store.
--
-- Conventions
--   * Text keys are ASCII by Distribution's grammar, so they sort by byte: COLLATE "C".
--   * A digest is stored packed: one byte for the algorithm, then the hash (indexer/oci/digest.py).
--   * Sort keys of `tag` are NOT NULL with a sentinel ('-infinity', 0, ''), so that a row comparison pages
--     without NULL cases; the API shows the sentinel as null.
--   * Eight-byte columns come first: alignment padding is paid per row.
--   * Every hot table leads its primary key with the repository.

-- look-ups ------------------------------------------------------------------------------------------------

-- Who did it: the name the registry's own authentication gave; null: erased, and never given out again.
CREATE TABLE actor (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text UNIQUE
);

-- Where a request came from. Unique by a hash, since a user agent may be longer than an index row.
CREATE TABLE client (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         bytea NOT NULL UNIQUE,
    address     text NOT NULL,
    host        text NOT NULL,
    method      text NOT NULL,
    user_agent  text NOT NULL
);

CREATE INDEX client_address ON client (address text_pattern_ops);

-- One process of the registry: a new instanceID means a restart, and a restart loses queued notifications.
CREATE TABLE registry_instance (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key            bytea NOT NULL UNIQUE,
    instance       text NOT NULL,
    address        text NOT NULL,
    first_seen_at  timestamptz NOT NULL,
    last_seen_at   timestamptz NOT NULL,
    first_event_at timestamptz NOT NULL,
    last_event_at  timestamptz NOT NULL,
    events         bigint NOT NULL DEFAULT 0
);

CREATE TABLE media_type (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text COLLATE "C" NOT NULL UNIQUE
);

-- What a tag's manifest is, in one small key that rides in the tag's indexes: filters by media type,
-- artifact type, kind and platform become `facet_id = ANY (…)`.
CREATE TABLE facet (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key            bytea NOT NULL UNIQUE,
    media_type     text NOT NULL,
    artifact_type  text NOT NULL,
    kind           text NOT NULL,
    platforms      text[] NOT NULL
);

-- repositories --------------------------------------------------------------------------------------------

-- The row is also the lock: whoever changes anything of a repository takes it FOR NO KEY UPDATE first,
-- in the order of id, so writers never deadlock and never interleave within one repository.
CREATE TABLE repository (
    id                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name               text COLLATE "C" NOT NULL UNIQUE,
    created_at         timestamptz NOT NULL,
    last_published_at  timestamptz NOT NULL DEFAULT '-infinity',
    last_pulled_at     timestamptz NOT NULL DEFAULT '-infinity',
    last_checked_at    timestamptz NOT NULL DEFAULT '-infinity',
    walked_at          timestamptz,
    measured_at        timestamptz,
    size_bytes         bigint NOT NULL DEFAULT 0,
    tag_count          integer NOT NULL DEFAULT 0,
    manifest_count     integer NOT NULL DEFAULT 0,
    large              boolean NOT NULL DEFAULT false   -- has, or had, more tags than are sorted for each page
) WITH (fillfactor = 80);

CREATE INDEX repository_by_last_published ON repository (last_published_at, name);
CREATE INDEX repository_by_last_pulled ON repository (last_pulled_at, name);
CREATE INDEX repository_by_created ON repository (created_at, name);
CREATE INDEX repository_by_size ON repository (size_bytes, name);
CREATE INDEX repository_by_tag_count ON repository (tag_count, name);
CREATE INDEX repository_by_manifest_count ON repository (manifest_count, name);

-- manifests -----------------------------------------------------------------------------------------------

CREATE TABLE blob (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest      bytea NOT NULL UNIQUE,
    size_bytes  bigint NOT NULL DEFAULT 0
);

-- Content, once for the whole registry: a digest never changes. `content`: heard (not read), read, partly-read (`unread`
-- names the parts that could not be), or unreadable.
CREATE TABLE manifest (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size_bytes         bigint NOT NULL DEFAULT 0,            -- of the manifest itself
    total_bytes        bigint NOT NULL DEFAULT 0,            -- with config and layers; of an index, the sum of its children
    image_created      timestamptz NOT NULL DEFAULT '-infinity',
    read_at            timestamptz,
    facet_id           integer NOT NULL REFERENCES facet,
    config_media_type_id integer REFERENCES media_type,
    config_size_bytes  bigint,                               -- as this manifest claims
    content            text NOT NULL DEFAULT 'announced' CHECK (content IN ('announced', 'read', 'partly-read', 'unreadable')),
    digest             bytea NOT NULL UNIQUE,
    config_digest      bytea,
    subject_digest     bytea,
    annotations        jsonb,
    labels             jsonb,
    unread             text[]
);

CREATE INDEX manifest_by_subject ON manifest (subject_digest, digest) WHERE subject_digest IS NOT NULL;

-- GitLab's dummy manifests that were recognised by their content (inventory/dummies.py); known ones are in the code.
CREATE TABLE dummy_manifest (
    digest    bytea PRIMARY KEY,
    found_at  timestamptz NOT NULL
);

CREATE TABLE manifest_layer (
    manifest_id    bigint NOT NULL REFERENCES manifest,
    blob_id        bigint NOT NULL REFERENCES blob,
    position       integer NOT NULL,
    media_type_id  integer NOT NULL REFERENCES media_type,
    size_bytes     bigint NOT NULL DEFAULT 0,                -- as this manifest claims
    PRIMARY KEY (manifest_id, position)
);

CREATE INDEX manifest_layer_by_blob ON manifest_layer (blob_id, manifest_id);

CREATE TABLE manifest_child (
    manifest_id  bigint NOT NULL REFERENCES manifest,
    child_id     bigint NOT NULL REFERENCES manifest,
    size_bytes   bigint NOT NULL DEFAULT 0,                  -- what the index says of it, here and below
    media_type_id integer REFERENCES media_type,
    position     integer NOT NULL,
    platform     text,
    os_version   text,
    PRIMARY KEY (manifest_id, position)
);

CREATE INDEX manifest_child_by_child ON manifest_child (child_id, manifest_id);

-- Which manifests a repository holds. A deletion leaves a tombstone, so that late news alone cannot revive it; that it is
-- served does (docs/adr/0043). `as_of` is the newest evidence and never goes back.
CREATE TABLE repository_manifest (
    manifest_id     bigint NOT NULL REFERENCES manifest,
    pushed_at       timestamptz NOT NULL,
    as_of           timestamptz NOT NULL,
    deleted_at      timestamptz,
    last_pulled_at  timestamptz,
    last_checked_at timestamptz,
    pull_count      bigint NOT NULL DEFAULT 0,
    repository_id   integer NOT NULL REFERENCES repository,
    pushed_by       integer REFERENCES actor,
    PRIMARY KEY (repository_id, manifest_id)
) WITH (fillfactor = 90);

CREATE INDEX repository_manifest_by_pushed ON repository_manifest (repository_id, pushed_at, manifest_id)
    WHERE deleted_at IS NULL;
CREATE INDEX repository_manifest_by_manifest ON repository_manifest (manifest_id, repository_id);

-- tags ----------------------------------------------------------------------------------------------------

-- Only live tags; a deleted one is in tag_tombstone. What is sorted or filtered is denormalised here, since
-- a sort through a join reads the whole repository.
CREATE TABLE tag (
    manifest_id     bigint REFERENCES manifest,                -- null: broken, and never announced
    size_bytes      bigint NOT NULL DEFAULT 0,
    published_at    timestamptz NOT NULL,
    image_created   timestamptz NOT NULL DEFAULT '-infinity',
    first_seen_at   timestamptz NOT NULL,
    last_event_at         timestamptz NOT NULL DEFAULT '-infinity',  -- newest event, by the registry's clock
    last_observed_at         timestamptz NOT NULL DEFAULT '-infinity',  -- newest look, min(our clock, the registry's Date)
    verified_at     timestamptz,                               -- a look agreed with this record; null = only told
    read_at         timestamptz,                               -- a look that also proved the manifest readable
    alive_since     timestamptz,                               -- exists without a gap since; null: since published_at
    repository_id   integer NOT NULL REFERENCES repository,
    facet_id        integer NOT NULL REFERENCES facet,
    pushed_by       integer REFERENCES actor,
    revision        integer NOT NULL DEFAULT 1,
    published_source text NOT NULL CHECK (published_source IN ('event', 'storage', 'image-config', 'first-seen')),
    evidence        text NOT NULL CHECK (evidence IN ('event', 'observation')),
    large           boolean NOT NULL DEFAULT false,            -- the same as of its repository
    name            text COLLATE "C" NOT NULL,
    semver_key      bytea NOT NULL DEFAULT '',
    broken_reason   text CHECK (broken_reason IN ('dangling_tag', 'unreadable_tag')),  -- listed, cannot be read; null: can
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_insert_scale_factor = 0.01);

CREATE INDEX tag_by_published ON tag (repository_id, published_at, name) INCLUDE (facet_id);
-- The tags of most repositories are few enough to be sorted for each page (docs/adr/0042).
CREATE INDEX tag_by_size ON tag (repository_id, size_bytes, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_created ON tag (repository_id, image_created, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_first_seen ON tag (repository_id, first_seen_at, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_semver ON tag (repository_id, semver_key, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_manifest ON tag (manifest_id, repository_id, name);
CREATE INDEX tag_by_published_everywhere ON tag (published_at, repository_id, name);
-- Across repositories the key alone: what is tied is sorted for each page (docs/adr/0062).
CREATE INDEX tag_by_name_everywhere ON tag (name, repository_id);
CREATE INDEX tag_by_size_everywhere ON tag (size_bytes);
CREATE INDEX tag_by_created_everywhere ON tag (image_created);
CREATE INDEX tag_by_first_seen_everywhere ON tag (first_seen_at);
CREATE INDEX tag_by_semver_everywhere ON tag (semver_key);

-- Precedence needs to know what a deletion rested on; trimmed by age.
CREATE TABLE tag_tombstone (
    last_event_at        timestamptz NOT NULL DEFAULT '-infinity',
    last_observed_at        timestamptz NOT NULL DEFAULT '-infinity',
    deleted_at     timestamptz NOT NULL,
    repository_id  integer NOT NULL REFERENCES repository,
    revision       integer NOT NULL,
    evidence       text NOT NULL CHECK (evidence IN ('event', 'observation')),
    verified       boolean NOT NULL DEFAULT false,
    by_dummy       boolean NOT NULL DEFAULT false,             -- GitLab deleted it by one of its dummy manifests
    name           text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
);

-- A pull must not touch the indexes of `tag`.
CREATE TABLE tag_pull (
    last_pulled_at  timestamptz NOT NULL,
    pull_count      bigint NOT NULL,
    repository_id   integer NOT NULL REFERENCES repository,
    name            text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 80);

CREATE INDEX tag_pull_by_time ON tag_pull (repository_id, last_pulled_at, name);
CREATE INDEX tag_pull_by_time_everywhere ON tag_pull (last_pulled_at);

-- When a client last asked by HEAD what a tag is. Apart from tag_pull, whose rows say that a tag was pulled; without
-- an index by time, so that a check changes no index (docs/adr/0064).
CREATE TABLE tag_check (
    last_checked_at  timestamptz NOT NULL,
    repository_id    integer NOT NULL REFERENCES repository,
    name             text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 80);

-- Checks that wait for the GET by digest which may follow them, for minutes (docs/adr/0064). `asking` is a hash of
-- repository, digest and client. A crash of the server may empty it: then some pulls are of no tag.
CREATE UNLOGGED TABLE pull_check (
    asking     uuid NOT NULL,
    oldest_at  timestamptz NOT NULL,
    newest_at  timestamptz NOT NULL,
    stored_at  timestamptz NOT NULL,
    checks     integer NOT NULL,
    name       text COLLATE "C" NOT NULL,
    PRIMARY KEY (asking, name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- history -------------------------------------------------------------------------------------------------

-- Which manifest a tag pointed to, and when: [valid_from, valid_to). Intervals of one tag never overlap.
-- `not_before` is set where the start is only known to lie in (not_before, valid_from]; `to_not_before` is the
-- same of the end. `replaces`: the tag looks immutable, and what it pointed to before, whether it was moved or
-- deleted in between, is another manifest.
CREATE TABLE tag_history (
    valid_from     timestamptz NOT NULL,
    valid_to       timestamptz NOT NULL DEFAULT 'infinity',
    not_before     timestamptz,
    to_not_before  timestamptz,
    manifest_id    bigint NOT NULL REFERENCES manifest,
    event_key      uuid,
    repository_id  integer NOT NULL REFERENCES repository,
    actor_id       integer REFERENCES actor,
    from_source    text NOT NULL CHECK (from_source IN ('event', 'storage', 'image-config', 'first-seen')),
    to_source      text CHECK (to_source IN ('event', 'storage', 'image-config', 'first-seen')),
    replaces       boolean NOT NULL DEFAULT false,
    name           text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name, valid_from) INCLUDE (valid_to)
);

-- What holds now is found by the tags that point to a manifest (tag_by_manifest).
CREATE INDEX tag_history_by_manifest ON tag_history (manifest_id, repository_id, name, valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_by_start ON tag_history (repository_id, valid_from, name) INCLUDE (valid_to);
CREATE INDEX tag_history_by_end ON tag_history (repository_id, valid_to, name) INCLUDE (valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_by_start_everywhere ON tag_history (valid_from, repository_id, name) INCLUDE (valid_to);
CREATE INDEX tag_history_by_end_everywhere ON tag_history (valid_to, repository_id, name) INCLUDE (valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_replaced ON tag_history (repository_id, valid_from, name) WHERE replaces;
CREATE INDEX tag_history_replaced_everywhere ON tag_history (valid_from, repository_id, name) WHERE replaces;

-- audit ---------------------------------------------------------------------------------------------------

-- Entries are staged by the transaction that made the change, and moved by the one sealer into the log, which
-- gives them their gap-free position and hashes them into the tree below. The log is append-only: nothing ever
-- updates or deletes a row of it, but erasure, which takes who and from where out of it (docs/adr/0026).
-- What `content_id` points to is told by the action: `blob.…` and `content.…` → blob, everything else → manifest.

-- The words of `inventory/changes`, four bytes each (docs/adr/0039). A migration may add one, never take one away.
CREATE TYPE audit_action AS ENUM (
    'tag.created', 'tag.moved', 'tag.repushed', 'tag.deleted', 'tag.broken', 'tag.readable', 'manifest.pushed',
    'manifest.deleted', 'manifest.found', 'manifest.pulled', 'manifest.checked', 'blob.pushed', 'blob.deleted',
    'blob.mounted', 'content.deleted', 'request.denied', 'request.failed', 'log.archived', 'log.dropped',
    'operator.audit_key_replaced',
    'operator.brake_released', 'operator.feed_removed', 'operator.feed_replayed', 'operator.feed_retried',
    'operator.history_imported', 'operator.inbox_discarded', 'operator.inbox_retried', 'operator.people_erased',
    'operator.reconciled'
);
CREATE TYPE audit_source AS ENUM (
    'notification', 'walk', 'verify', 'storage', 'policy', 'operator', 'access-log'
);

CREATE TABLE audit_staged (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    not_before     timestamptz,
    content_id     bigint,
    previous_id    bigint,
    event_key      uuid,
    request_key    uuid,
    repository_id  integer,
    actor_id       integer,
    client_id      integer,
    instance_id    integer,
    client_port    integer,
    action         audit_action NOT NULL,
    source         audit_source NOT NULL,
    tag            text COLLATE "C",
    detail         jsonb
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Cut into parts by position, one a month (docs/adr/0033): what is old is the beginning of the log, and leaves it by
-- dropping a part. The last part takes whatever comes.
CREATE TABLE audit_entry (
    position       bigint PRIMARY KEY WITH (fillfactor = 100),
    id             bigint NOT NULL,
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    not_before     timestamptz,
    content_id     bigint,
    previous_id    bigint,
    event_key      uuid,
    request_key    uuid,
    repository_id  integer,
    actor_id       integer,
    client_id      integer,
    instance_id    integer,
    client_port    integer,
    facet_id       integer,                  -- of the content, as it was known when the entry was sealed
    actor_salt_id  integer,                  -- audit_salt: what was committed to in place of the actor
    client_salt_id integer,                  -- … and of the client's address and user agent
    action         audit_action NOT NULL,
    source         audit_source NOT NULL,
    tag            text COLLATE "C",
    detail         jsonb
) PARTITION BY RANGE (position);

CREATE TABLE audit_entry_1 PARTITION OF audit_entry FOR VALUES FROM (1) TO (MAXVALUE);

-- No id in the keys: of entries that occurred at one instant, as those of one event do, an index then has the key once.
-- Pages sort them (docs/adr/0039). What is said of content comes with every push and pull: such a page walks
-- audit_by_time. Whatever is built anew is full: nothing is inserted into the parts before the last.
CREATE INDEX audit_by_time ON audit_entry (occurred_at) WITH (fillfactor = 100);
CREATE INDEX audit_by_repository ON audit_entry (repository_id, occurred_at) WITH (fillfactor = 100);
CREATE INDEX audit_by_actor ON audit_entry (actor_id, occurred_at) WITH (fillfactor = 100) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_by_action ON audit_entry (action, occurred_at) WITH (fillfactor = 100)
    WHERE action NOT IN ('manifest.pushed', 'manifest.pulled', 'manifest.checked', 'blob.pushed', 'blob.mounted');

-- The parts of the log, those that left it included. Table audit_entry_N holds what begins at position N.
CREATE TABLE audit_part (
    first_position  bigint PRIMARY KEY,
    last_position   bigint,                  -- null: still open
    opened_at       timestamptz NOT NULL DEFAULT now(),
    closed_at       timestamptz,
    packed_at       timestamptz,             -- when its indexes were built anew, since nothing is inserted any more
    dropped_at      timestamptz,
    file            text,                    -- the archive's name, where it was archived
    sha256          bytea                    -- of the archive
);

INSERT INTO audit_part (first_position) VALUES (1);

-- What leaves say in place of a person: per actor and day, and per client, actor and day. 0: the actor alone, or a
-- client without one. Where the value was erased the salt is gone, and whose it was.
CREATE TABLE audit_salt (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor_id    integer NOT NULL,
    client_id   integer NOT NULL,
    day         date NOT NULL,               -- of occurred_at, UTC
    salt        bytea,
    commitment  bytea NOT NULL               -- SHA-256 over salt and value
);

CREATE UNIQUE INDEX audit_salt_of ON audit_salt (actor_id, client_id, day) WHERE salt IS NOT NULL;
CREATE INDEX audit_salt_of_client ON audit_salt (client_id) WHERE salt IS NOT NULL;

-- The Merkle tree over the entries, in tiles of at most 256 hashes (C2SP tlog-tiles). Outlives the entries.
CREATE TABLE audit_tile (
    index   bigint NOT NULL,
    level   smallint NOT NULL,
    hashes  bytea NOT NULL,
    PRIMARY KEY (level, index)
);

ALTER TABLE audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes do not compress

-- What the log was signed to be: so many entries, with this root. The newest tells whose key signs.
CREATE TABLE audit_checkpoint (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size       bigint NOT NULL,
    signed_at  timestamptz NOT NULL,
    verifier   text NOT NULL,                -- the public key: name+id+key
    note       text NOT NULL,                -- C2SP tlog-checkpoint
    UNIQUE (size, verifier)
);

-- What of it stands in the registry, by the repository it was pushed to.
CREATE TABLE audit_checkpoint_push (
    repository text PRIMARY KEY,
    size       bigint NOT NULL,
    digest     text NOT NULL,                -- of the manifest
    pushed_at  timestamptz NOT NULL,
    observed_at  timestamptz NOT NULL
);

-- One row: how far the entries were last compared with the tree. It begins again where it ends.
CREATE TABLE audit_check (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    position      bigint NOT NULL DEFAULT 0,
    pass_began_at  timestamptz,
    pass_ended_at  timestamptz
);

INSERT INTO audit_check DEFAULT VALUES;

-- What does not fit, the first thousand; gone once it fits again. Position 0: the tree and what was signed.
CREATE TABLE audit_damage (
    position  bigint PRIMARY KEY,
    found_at  timestamptz NOT NULL,
    fault     text NOT NULL,
    what      text NOT NULL
);

-- Where a checkpoint stands that this log did not grow out of: a file of a server, or a repository of the registry. The
-- log was put back, or is another. AppliedEvents again by each round that finds it; gone once a round there finds all well.
CREATE TABLE audit_conflict (
    place     text PRIMARY KEY,
    found_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    what      text NOT NULL
);

-- Pulls as single entries, until their age lets the log take them in, coalesced (docs/adr/0020). A pull is at any
-- time in one of the two: moved, never copied. One sequence gives all entries their ids.
CREATE TABLE pull_detail (
    id             bigint PRIMARY KEY DEFAULT nextval('audit_staged_id_seq'),
    occurred_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL,
    manifest_id    bigint NOT NULL,
    event_key      uuid NOT NULL,
    request_key    uuid,
    repository_id  integer NOT NULL,
    actor_id       integer,
    client_id      integer NOT NULL,
    instance_id    integer NOT NULL,
    client_port    integer,
    checked        boolean NOT NULL DEFAULT false,         -- by HEAD: manifest.checked
    tag            text COLLATE "C",
    detail         jsonb
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX pull_detail_by_time ON pull_detail (occurred_at);
CREATE INDEX pull_detail_by_repository ON pull_detail (repository_id, occurred_at);
CREATE INDEX pull_detail_by_actor ON pull_detail (actor_id, occurred_at) WHERE actor_id IS NOT NULL;

-- ingest --------------------------------------------------------------------------------------------------

-- Raw deliveries, durable before they are answered.
CREATE TABLE inbox (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at       timestamptz NOT NULL,
    done_at           timestamptz,
    spool_key         uuid,                              -- went through the spool while the database was away
    lane              smallint NOT NULL DEFAULT 0,       -- by repository; one worker at a time is in each
    can_wait          boolean NOT NULL DEFAULT false,    -- pulls only: state-changing events go first
    imported          boolean NOT NULL DEFAULT false,    -- of an older history (docs/adr/0036), not told by a registry
    attempts          integer NOT NULL DEFAULT 0,        -- how often it failed when it was taken alone
    retry_at          timestamptz,                       -- it failed, or what is like it did: not before this
    content_type      text NOT NULL DEFAULT '',
    content_encoding  text NOT NULL DEFAULT '',
    last_error        text,                              -- why it waits
    body              bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE INDEX inbox_waiting ON inbox (can_wait, lane, id) WHERE done_at IS NULL;
CREATE INDEX inbox_failing ON inbox (id) WHERE done_at IS NULL AND last_error IS NOT NULL;
CREATE UNIQUE INDEX inbox_spooled ON inbox (spool_key) WHERE spool_key IS NOT NULL;
CREATE INDEX inbox_done ON inbox (done_at) WHERE done_at IS NOT NULL;

-- What could not be decoded or is of no known action: kept raw, with the reason, until someone retries it.
CREATE TABLE quarantine (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    inbox_id     bigint NOT NULL,
    received_at  timestamptz NOT NULL,
    quarantined_at timestamptz NOT NULL,
    imported boolean NOT NULL DEFAULT false,
    content_type text NOT NULL DEFAULT '',
    content_encoding text NOT NULL DEFAULT '',
    reason       text NOT NULL,
    body         bytea NOT NULL
);

-- Event ids already applied: a redelivery keeps its id and changes nothing. 'infinity': imported, and never forgotten.
CREATE TABLE event_seen (
    event_key    uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL
);

CREATE INDEX event_seen_by_age ON event_seen USING brin (received_at);

-- Which event told that a request deleted a digest: the deletions of its tags, told after it, name it as their cause.
CREATE TABLE deletion_cause (
    repository_id  integer NOT NULL,
    request_key    uuid NOT NULL,
    event_id       text NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (repository_id, request_key)
);

CREATE INDEX deletion_cause_by_age ON deletion_cause USING brin (received_at);

-- Requests of our own that made an event: what proves one proves no other (docs/adr/0065).
CREATE TABLE own_request (
    nonce        uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL
);

CREATE INDEX own_request_by_age ON own_request USING brin (received_at);

-- When somebody received: one row per process of `indexer serve`, by its own clock. Where no row reaches, nobody did.
-- loop_state cannot tell: it knows processes by host and number, which a container has again after its restart.
CREATE TABLE receiver_session (
    opened_at  timestamptz NOT NULL,
    open_at    timestamptz NOT NULL,                     -- the last time it said so
    spooled    bigint NOT NULL,                          -- deliveries in its spool then
    process    uuid PRIMARY KEY
);

-- access logs ---------------------------------------------------------------------------------------------

-- Requests that were denied or failed, before they become entries of the log: the same ones are counted together.
CREATE TABLE access_pending (
    key          uuid PRIMARY KEY,           -- who, from where, what, how it ended
    handshake    uuid,                       -- who and where: anything else they get there forgets the row; null: nothing does
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    times        integer NOT NULL,
    action       text NOT NULL,
    line         jsonb NOT NULL
);

CREATE INDEX access_pending_by_handshake ON access_pending (handshake) WHERE handshake IS NOT NULL;
CREATE INDEX access_pending_by_age ON access_pending (received_at);

-- How far files were read. A rotated file keeps its device and inode, not its name.
CREATE TABLE access_file (
    device   bigint NOT NULL,
    inode    bigint NOT NULL,
    read_to  bigint NOT NULL,
    read_at  timestamptz NOT NULL,
    head     bytea NOT NULL,                 -- its first bytes: inodes are given again
    path     text NOT NULL,
    PRIMARY KEY (path, device, inode)
);

-- due -----------------------------------------------------------------------------------------------------

-- Work that waits. Made due again while leased, a row bumps its generation and runs exactly once more.
CREATE TABLE work_item (
    due_at         timestamptz NOT NULL,
    observed_at      timestamptz NOT NULL DEFAULT '-infinity',  -- spaces the looks of a tag that never rests
    lease_until    timestamptz,
    since          timestamptz NOT NULL,               -- when it became due, for the age of the backlog
    repository_id  integer NOT NULL REFERENCES repository,
    attempts       integer NOT NULL DEFAULT 0,
    generation     integer NOT NULL DEFAULT 0,
    observations   integer NOT NULL DEFAULT 0,          -- made since the last news
    confirmations  integer NOT NULL DEFAULT 0,          -- of these, in a row, that agreed with the record
    kind           text NOT NULL CHECK (kind IN ('verify', 'resolve', 'measure')),
    key            text COLLATE "C" NOT NULL,           -- verify: the tag; resolve: the digest; measure: ''
    last_observation text,                                -- what the last look saw: a digest, 'absent' or 'broken'
    PRIMARY KEY (kind, repository_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX work_item_by_time ON work_item (kind, due_at);
CREATE INDEX work_item_failing ON work_item (since) WHERE attempts > 0;

-- drift ---------------------------------------------------------------------------------------------------

CREATE TABLE reconcile_run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL,
    listed_at    timestamptz,                            -- its repositories are in reconcile_repository
    finished_at  timestamptz,
    mode         text NOT NULL CHECK (mode IN ('run', 'once', 'plan')),
    outcome      text CHECK (outcome IN ('complete', 'incomplete', 'braked', 'failed', 'interrupted')),
    thorough     boolean NOT NULL DEFAULT false,         -- reads every manifest again
    first_reconcile   boolean NOT NULL DEFAULT false,         -- none before it was complete
    deletes      boolean,                                -- what the brake said; null: not asked yet
    scope        text[],                                 -- repositories asked for, sorted; null = all
    counts       jsonb NOT NULL DEFAULT '{}',
    undecided    jsonb NOT NULL DEFAULT '{}',            -- per kind of reason: how often, and a few in full
    cause        text,                                   -- why it began by itself; null: somebody asked for it
    brake        text,                                   -- why the brake was pulled
    note         text
);

-- Every answer says when the last complete walk of everything ended.
CREATE INDEX reconcile_run_complete ON reconcile_run (finished_at)
    WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan';

-- The repositories of a walk under way, shared by its workers, until it ends. A worker is a connection that holds
-- an advisory lock under its number: what a dead one had taken is free at once (docs/adr/0016).
CREATE TABLE reconcile_repository (
    run_id     bigint NOT NULL REFERENCES reconcile_run,
    done_at    timestamptz,
    position   integer NOT NULL,                         -- the longest not compared first
    worker     integer,
    name       text COLLATE "C" NOT NULL,
    counts     jsonb NOT NULL DEFAULT '{}',
    undecided  jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, name)
) WITH (fillfactor = 70);

CREATE INDEX reconcile_repository_left ON reconcile_repository (run_id, position) WHERE done_at IS NULL;

-- Deletions that wait for the end of a walk and its brake.
CREATE TABLE pending_deletion (
    run_id       bigint NOT NULL REFERENCES reconcile_run,
    observed_at    timestamptz NOT NULL,
    as_of        timestamptz NOT NULL,
    revision     integer NOT NULL,                       -- of the tag before the look
    is_manifest  boolean NOT NULL,
    vanished     boolean NOT NULL,                       -- the registry does not know the repository
    repository   text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,              -- the tag, or the manifest's digest
    expected     bytea,
    PRIMARY KEY (run_id, is_manifest, repository, key)
);

CREATE TABLE drift_finding (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         bigint REFERENCES reconcile_run,           -- null: found by verification
    detected_at    timestamptz NOT NULL,
    repaired_at    timestamptz,
    not_before     timestamptz,                           -- it came to differ after this; null: not known
    explained_at   timestamptz,                           -- null: the cause may still become known
    repository_id  integer REFERENCES repository,
    kind           text NOT NULL,
    cause          text NOT NULL,
    tag            text COLLATE "C",
    expected       bytea,
    found          bytea,
    note           text
);

CREATE INDEX drift_finding_by_time ON drift_finding (detected_at, id);
CREATE INDEX drift_finding_by_run ON drift_finding (run_id, id);
CREATE INDEX drift_finding_unexplained ON drift_finding (detected_at, id) WHERE explained_at IS NULL;

-- verification --------------------------------------------------------------------------------------------

-- How long it took from an event that spoke of a tag to the first look that agreed: how many such tags, by minute of
-- the look and by length (indexer/inventory/latency.py).
CREATE TABLE verified_minute (
    minute  timestamptz NOT NULL,
    tags    bigint NOT NULL,
    bucket  smallint NOT NULL,
    PRIMARY KEY (minute, bucket)
);

-- forwarding ----------------------------------------------------------------------------------------------

-- Events on their way to GitLab, each as the registry sent it. What is about one tag is sent in the order of the ids.
CREATE TABLE gitlab_event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queued_at  timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    dead_at    timestamptz,                             -- GitLab refused it for good
    attempts   integer NOT NULL DEFAULT 0,
    can_wait   boolean NOT NULL,                        -- pulls, which GitLab ignores
    subject    text COLLATE "C" NOT NULL,               -- repository:tag, or repository:digest
    reason     text,
    body       bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE INDEX gitlab_event_waiting ON gitlab_event (can_wait, id) WHERE dead_at IS NULL;
CREATE INDEX gitlab_event_by_subject ON gitlab_event (subject, id) WHERE dead_at IS NULL;
CREATE INDEX gitlab_event_by_age ON gitlab_event (queued_at);
CREATE INDEX gitlab_event_dead ON gitlab_event (dead_at) WHERE dead_at IS NOT NULL;

-- One row: who forwards, and what became of all events since ever.
CREATE TABLE gitlab_forwarding (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder       text NOT NULL DEFAULT '',
    lease_until  timestamptz NOT NULL DEFAULT '-infinity',
    forwarded    bigint NOT NULL DEFAULT 0,
    dropped      bigint NOT NULL DEFAULT 0
);

INSERT INTO gitlab_forwarding DEFAULT VALUES;

-- api -----------------------------------------------------------------------------------------------------

-- One row: what the cursors of lists are sealed with, and by another key our own requests signed (docs/adr/0065); the
-- same for every process. A new value ends all cursors, and reconcilers must be started again.
CREATE TABLE cursor_secret (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret  bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                               || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);

INSERT INTO cursor_secret DEFAULT VALUES;

-- feeds ---------------------------------------------------------------------------------------------------

-- One row: which log this is. The ids of what feeds deliver begin with it.
CREATE TABLE log_identity (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    id   uuid NOT NULL DEFAULT gen_random_uuid()
);

INSERT INTO log_identity DEFAULT VALUES;

-- Every feed that was ever configured: how far it is, and how it fares. The log itself is the queue.
CREATE TABLE feed (
    position      bigint NOT NULL,                       -- up to here everything is delivered, dead or filtered out
    delivered     bigint NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz NOT NULL DEFAULT '-infinity',
    delivered_at  timestamptz,
    failed_at     timestamptz,
    retry_at      timestamptz,
    attempts      integer NOT NULL DEFAULT 0,            -- that failed since the last that did not
    refused       integer NOT NULL DEFAULT 0,            -- entries in a row that the sink refused
    replays       integer NOT NULL DEFAULT 0,
    begun         integer NOT NULL DEFAULT 0,            -- the replay that the sink was prepared for
    name          text PRIMARY KEY,
    kind          text NOT NULL,
    holder        text NOT NULL DEFAULT '',
    stopped       text,                                  -- why nothing is delivered until an operator replays
    last_error    text
);

-- Entries that a sink refused for good; the entry itself is in the log.
CREATE TABLE feed_dead_letter (
    position  bigint NOT NULL,
    died_at   timestamptz NOT NULL,
    attempts  integer NOT NULL DEFAULT 0,                -- how often its sink gave no answer to it since then
    retry     boolean NOT NULL DEFAULT false,            -- an operator asks to try it again
    retry_at  timestamptz,                               -- not before this
    feed      text NOT NULL REFERENCES feed ON DELETE CASCADE,
    reason    text NOT NULL,
    PRIMARY KEY (feed, position)
);

CREATE INDEX feed_dead_letter_to_retry ON feed_dead_letter (feed, position) WHERE retry;

-- loss ----------------------------------------------------------------------------------------------------

-- One process of a registry as its debug address shows it, from our first reading to our last, and how far its
-- events are accounted for (reconciler/loss/decide.py). `instance_id`: whose events these are, once that is known.
CREATE TABLE registry_process (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at         timestamptz NOT NULL,
    read_at          timestamptz NOT NULL,
    accounted_until       timestamptz NOT NULL,               -- events made before are accounted for
    mark_at          timestamptz NOT NULL,               -- what is accounted for next: the events up to here
    suspected_at       timestamptz,                        -- since when we hold fewer than were delivered
    ended_at         timestamptz,                        -- another process answers at the address
    events           bigint NOT NULL,
    delivered        bigint NOT NULL,
    accepted         bigint NOT NULL,                    -- of these, answered 202
    pending          bigint NOT NULL,
    mark_events      bigint NOT NULL,
    mark_lost        bigint NOT NULL,
    accounted_lost     bigint NOT NULL,
    accounted_events   bigint NOT NULL,
    missing          bigint NOT NULL,                    -- delivered and not received, at most
    collections      bigint NOT NULL,
    collected_at     bigint,                             -- nanoseconds since 1970
    started_at       double precision,
    instance_id      integer REFERENCES registry_instance,
    address          text NOT NULL,
    error            text                                -- why the last try to read it failed
);

CREATE UNIQUE INDEX registry_process_alive ON registry_process (address) WHERE ended_at IS NULL;

-- What is claimed of the events of an interval: of a process whose counters are read, or, after a downtime of
-- ours, of an instance whose counters are not. Neighbours that lost nothing are joined.
CREATE TABLE loss_interval (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_at      timestamptz NOT NULL,
    to_at        timestamptz NOT NULL,
    process_id   bigint REFERENCES registry_process ON DELETE CASCADE,
    lost         bigint,                                 -- at most
    waited       bigint NOT NULL DEFAULT 0,              -- in the memory of a process that ended, when last read
    instance_id  integer REFERENCES registry_instance,
    state        text NOT NULL CHECK (state IN ('nothing_lost', 'at_most', 'unknown')),
    reconcile    boolean NOT NULL,                       -- a walk is called for
    because      text,
    CHECK (num_nonnulls(process_id, instance_id) = 1)
);

CREATE INDEX loss_interval_by_process ON loss_interval (process_id, to_at) WHERE process_id IS NOT NULL;
CREATE INDEX loss_interval_by_instance ON loss_interval (instance_id, to_at) WHERE instance_id IS NOT NULL;
CREATE INDEX loss_interval_by_end ON loss_interval (to_at);

-- Intervals in which no receiver_session was open, of which it is decided what they may have cost.
CREATE TABLE downtime (
    to_at    timestamptz PRIMARY KEY,
    from_at  timestamptz NOT NULL
);

-- What the registry was found to be like, by what it answered. The rows are those of store/traits.py.
CREATE TABLE registry_trait (
    trait        text PRIMARY KEY,
    holds        boolean NOT NULL,
    because      text NOT NULL,                          -- for an operator
    since        timestamptz NOT NULL,                   -- of this value
    observed_at  timestamptz NOT NULL                    -- the last time it showed
);

-- loops ---------------------------------------------------------------------------------------------------

-- What every background loop of every process last did; /api/v1/status reads it.
CREATE TABLE loop_state (
    loop           text NOT NULL,
    process        text NOT NULL,
    started_at     timestamptz NOT NULL,
    last_run_at    timestamptz,
    last_good_at   timestamptz,
    last_error     text,
    outcome        text,
    PRIMARY KEY (loop, process)
);

-- One row: what the whole system must agree on.
CREATE TABLE log_head (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    position  bigint NOT NULL DEFAULT 0,
    erasures  integer NOT NULL DEFAULT 0     -- what was cached of people before the last one does not hold
);

INSERT INTO log_head DEFAULT VALUES;

-- migrations ----------------------------------------------------------------------------------------------

CREATE TABLE schema_migration (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    bytea NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);
