-- Generated from indexer/store/migrations by `python3 dev.py schema`. Do not edit: change the migration and run it.
-- The whole database in one file, to be read and to build test databases from. A real one is made by `indexer migrate`.

-- 0001_initial

-- The first schema, one section per subject, in the order of indexer/store.
--
-- Conventions
--   * Text keys are ASCII by Distribution's grammar, so they sort by byte: COLLATE "C".
--   * A digest is stored packed: one byte for the algorithm, then the hash (indexer/oci/digest.py).
--   * Sort keys of `tag` are NOT NULL. Where nothing is known they hold a sentinel ('-infinity', 0, ''), so that a page is
--     one row comparison without NULL cases. The API shows the sentinel as null.
--   * Eight-byte columns come first: padding for alignment is paid in every row.
--   * The primary key of every large table begins with the repository.
--   * An instant is ours unless its comment says that it is by the registry's clock.

-- lookup tables -------------------------------------------------------------------------------------------

-- Who made a request, by the name the registry's authentication gave. Null: the name was erased; the id is not used again.
CREATE TABLE actor (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text UNIQUE
);

-- Where a request came from. `key` is a hash of the other columns: a user agent may be too long for an index.
CREATE TABLE client (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key         bytea NOT NULL UNIQUE,
    address     text NOT NULL,
    host        text NOT NULL,
    method      text NOT NULL,
    user_agent  text NOT NULL
);

CREATE INDEX client_address ON client (address text_pattern_ops);

-- One process of the registry, as its events name it. A new instance means a restart, and a restart loses the
-- notifications that were queued. `key` is a hash of `instance` and `address`.
CREATE TABLE registry_instance (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key            bytea NOT NULL UNIQUE,
    instance       text NOT NULL,            -- source.instanceID of its events
    address        text NOT NULL,            -- source.addr of its events
    first_seen_at  timestamptz NOT NULL,     -- when an event of it was first received
    last_seen_at   timestamptz NOT NULL,     -- when one was last received
    first_event_at timestamptz NOT NULL,     -- its earliest event, by its clock
    last_event_at  timestamptz NOT NULL,     -- its latest event, by its clock
    events         bigint NOT NULL DEFAULT 0 -- distinct events; 0: known from imported history only
);

CREATE TABLE media_type (
    id    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name  text COLLATE "C" NOT NULL UNIQUE
);

-- What a manifest is, behind one small key that the indexes of `tag` include: filters by media type, artifact type,
-- kind and platform become `facet_id = ANY (…)`. `key` is a hash of the other columns.
CREATE TABLE facet (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key            bytea NOT NULL UNIQUE,
    media_type     text NOT NULL,
    artifact_type  text NOT NULL,
    kind           text NOT NULL,
    platforms      text[] NOT NULL
);

-- repositories --------------------------------------------------------------------------------------------

-- The row is also the lock: whoever changes anything of a repository first takes its row FOR NO KEY UPDATE, several in
-- the order of id. So writers do not deadlock and do not interleave within one repository.
CREATE TABLE repository (
    id                 integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name               text COLLATE "C" NOT NULL UNIQUE,
    created_at         timestamptz NOT NULL,                        -- of the earliest event, or when it was found
    last_published_at  timestamptz NOT NULL DEFAULT '-infinity',
    last_pulled_at     timestamptz NOT NULL DEFAULT '-infinity',
    last_checked_at    timestamptz NOT NULL DEFAULT '-infinity',    -- by HEAD
    last_reconciled_at timestamptz,                                 -- when the last complete comparison of it began; null: never
    measured_at        timestamptz,                                 -- when size_bytes was computed
    size_bytes         bigint NOT NULL DEFAULT 0,
    tag_count          integer NOT NULL DEFAULT 0,
    manifest_count     integer NOT NULL DEFAULT 0,
    large              boolean NOT NULL DEFAULT false               -- has, or had, more tags than are sorted for each page
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
    size_bytes  bigint NOT NULL DEFAULT 0                    -- as an event said; 0: none did
);

-- The content of manifests, once for the whole registry: what a digest names never changes. `content` is announced (not
-- read yet), read, partly-read (`unread` names the parts that could not be read), or unreadable.
CREATE TABLE manifest (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size_bytes         bigint NOT NULL DEFAULT 0,            -- of the manifest itself
    total_bytes        bigint NOT NULL DEFAULT 0,            -- with config and layers; of an index, the sum of its children
    image_created      timestamptz NOT NULL DEFAULT '-infinity', -- as its config or annotation says
    read_at            timestamptz,
    facet_id           integer NOT NULL REFERENCES facet,
    config_media_type_id integer REFERENCES media_type,
    config_size_bytes  bigint,                               -- as this manifest says
    content            text NOT NULL DEFAULT 'announced' CHECK (content IN ('announced', 'read', 'partly-read', 'unreadable')),
    digest             bytea NOT NULL UNIQUE,
    config_digest      bytea,
    subject_digest     bytea,
    annotations        jsonb,
    labels             jsonb,
    unread             text[]
);

CREATE INDEX manifest_by_subject ON manifest (subject_digest, digest) WHERE subject_digest IS NOT NULL;

-- GitLab's dummy manifests that were recognised by their content (inventory/dummies.py). Known ones are in the code.
CREATE TABLE dummy_manifest (
    digest    bytea PRIMARY KEY,
    found_at  timestamptz NOT NULL
);

CREATE TABLE manifest_layer (
    manifest_id    bigint NOT NULL REFERENCES manifest,
    blob_id        bigint NOT NULL REFERENCES blob,
    position       integer NOT NULL,
    media_type_id  integer NOT NULL REFERENCES media_type,
    size_bytes     bigint NOT NULL DEFAULT 0,                -- as this manifest says
    PRIMARY KEY (manifest_id, position)
);

CREATE INDEX manifest_layer_by_blob ON manifest_layer (blob_id, manifest_id);

CREATE TABLE manifest_child (
    manifest_id  bigint NOT NULL REFERENCES manifest,        -- the index
    child_id     bigint NOT NULL REFERENCES manifest,
    size_bytes   bigint NOT NULL DEFAULT 0,                  -- as the index says; so are the following columns
    media_type_id integer REFERENCES media_type,
    position     integer NOT NULL,
    platform     text,
    os_version   text,
    PRIMARY KEY (manifest_id, position)
);

CREATE INDEX manifest_child_by_child ON manifest_child (child_id, manifest_id);

-- Which manifests a repository has. A deletion leaves the row with `deleted_at` set, so that a late event alone cannot
-- bring the manifest back; an observation that it is served can (docs/adr/0043).
CREATE TABLE repository_manifest (
    manifest_id     bigint NOT NULL REFERENCES manifest,
    pushed_at       timestamptz NOT NULL,
    as_of           timestamptz NOT NULL,                    -- the newest evidence; never goes back
    deleted_at      timestamptz,
    last_pulled_at  timestamptz,
    last_checked_at timestamptz,                             -- by HEAD
    pull_count      bigint NOT NULL DEFAULT 0,
    repository_id   integer NOT NULL REFERENCES repository,
    pushed_by       integer REFERENCES actor,
    PRIMARY KEY (repository_id, manifest_id)
) WITH (fillfactor = 90);

CREATE INDEX repository_manifest_by_pushed ON repository_manifest (repository_id, pushed_at, manifest_id)
    WHERE deleted_at IS NULL;
CREATE INDEX repository_manifest_by_manifest ON repository_manifest (manifest_id, repository_id);

-- tags ----------------------------------------------------------------------------------------------------

-- Live tags only; deleted ones are in tag_tombstone. What lists sort or filter by is repeated here, since a sort through a
-- join reads the whole repository.
CREATE TABLE tag (
    manifest_id     bigint REFERENCES manifest,                -- null: broken, and never announced
    size_bytes      bigint NOT NULL DEFAULT 0,
    published_at    timestamptz NOT NULL,
    image_created   timestamptz NOT NULL DEFAULT '-infinity',
    first_seen_at   timestamptz NOT NULL,
    last_event_at   timestamptz NOT NULL DEFAULT '-infinity',  -- the newest event that names it, by the registry's clock
    last_observed_at timestamptz NOT NULL DEFAULT '-infinity', -- the newest observation: our clock or the registry's Date, the earlier
    verified_at     timestamptz,                               -- an observation agreed with this record; null: unverified
    read_at         timestamptz,                               -- an observation also proved the manifest readable
    alive_since     timestamptz,                               -- it exists without a gap since; null: since published_at
    repository_id   integer NOT NULL REFERENCES repository,
    facet_id        integer NOT NULL REFERENCES facet,
    pushed_by       integer REFERENCES actor,
    revision        integer NOT NULL DEFAULT 1,                -- grows with every change
    published_source text NOT NULL CHECK (published_source IN ('event', 'storage', 'image-config', 'first-seen')),
    evidence        text NOT NULL CHECK (evidence IN ('event', 'observation')),
    large           boolean NOT NULL DEFAULT false,            -- the same as of its repository
    name            text COLLATE "C" NOT NULL,
    semver_key      bytea NOT NULL DEFAULT '',                 -- sorts versions (inventory/semver.py); '': not a version
    broken_reason   text CHECK (broken_reason IN ('dangling_tag', 'unreadable_tag')),  -- listed, and cannot be read; null: it can
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_insert_scale_factor = 0.01);

CREATE INDEX tag_by_published ON tag (repository_id, published_at, name) INCLUDE (facet_id);
-- Most repositories have so few tags that a page sorts them all (docs/adr/0042).
CREATE INDEX tag_by_size ON tag (repository_id, size_bytes, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_created ON tag (repository_id, image_created, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_first_seen ON tag (repository_id, first_seen_at, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_semver ON tag (repository_id, semver_key, name) INCLUDE (facet_id) WHERE large;
CREATE INDEX tag_by_manifest ON tag (manifest_id, repository_id, name);
CREATE INDEX tag_by_published_everywhere ON tag (published_at, repository_id, name);
-- Across repositories an index has the key alone: a page sorts what is tied (docs/adr/0062).
CREATE INDEX tag_by_name_everywhere ON tag (name, repository_id);
CREATE INDEX tag_by_size_everywhere ON tag (size_bytes);
CREATE INDEX tag_by_created_everywhere ON tag (image_created);
CREATE INDEX tag_by_first_seen_everywhere ON tag (first_seen_at);
CREATE INDEX tag_by_semver_everywhere ON tag (semver_key);

-- Deleted tags, with the evidence of the deletion: a later event is compared with it. Removed by age.
CREATE TABLE tag_tombstone (
    last_event_at  timestamptz NOT NULL DEFAULT '-infinity',   -- this and the next as of `tag`
    last_observed_at timestamptz NOT NULL DEFAULT '-infinity',
    deleted_at     timestamptz NOT NULL,
    repository_id  integer NOT NULL REFERENCES repository,
    revision       integer NOT NULL,
    evidence       text NOT NULL CHECK (evidence IN ('event', 'observation')),
    verified       boolean NOT NULL DEFAULT false,             -- an observation agreed that it is gone
    by_dummy       boolean NOT NULL DEFAULT false,             -- GitLab deleted it by one of its dummy manifests
    name           text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
);

-- Pulls of tags. A table of its own, so that a pull changes no index of `tag`.
CREATE TABLE tag_pull (
    last_pulled_at  timestamptz NOT NULL,
    pull_count      bigint NOT NULL,
    repository_id   integer NOT NULL REFERENCES repository,
    name            text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 80);

CREATE INDEX tag_pull_by_time ON tag_pull (repository_id, last_pulled_at, name);
CREATE INDEX tag_pull_by_time_everywhere ON tag_pull (last_pulled_at);

-- When a client last asked by HEAD what a tag is. Not in tag_pull, where a row says that the tag was pulled. Without an
-- index by time, so that a check changes no index (docs/adr/0064).
CREATE TABLE tag_check (
    last_checked_at  timestamptz NOT NULL,
    repository_id    integer NOT NULL REFERENCES repository,
    name             text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name)
) WITH (fillfactor = 80);

-- Checks of tags by HEAD that wait, for minutes, for the GET by digest that may follow (docs/adr/0064). `match_key` is a
-- hash of what a HEAD and its GET have in common: repository, digest and client. Unlogged: a crash of the server may
-- empty it, and then some pulls are counted for the manifest alone.
CREATE UNLOGGED TABLE unmatched_check (
    match_key  uuid NOT NULL,
    oldest_at  timestamptz NOT NULL,
    newest_at  timestamptz NOT NULL,
    stored_at  timestamptz NOT NULL,
    checks     integer NOT NULL,                     -- how many
    name       text COLLATE "C" NOT NULL,            -- of the tag
    PRIMARY KEY (match_key, name)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- history -------------------------------------------------------------------------------------------------

-- Which manifest a tag pointed to, and when: [valid_from, valid_to). The intervals of one tag never overlap.
CREATE TABLE tag_history (
    valid_from     timestamptz NOT NULL,
    valid_to       timestamptz NOT NULL DEFAULT 'infinity',
    not_before     timestamptz,                      -- set: the start is only known to lie in (not_before, valid_from]
    to_not_before  timestamptz,                      -- the same of the end
    manifest_id    bigint NOT NULL REFERENCES manifest,
    event_key      uuid,
    repository_id  integer NOT NULL REFERENCES repository,
    actor_id       integer REFERENCES actor,
    from_source    text NOT NULL CHECK (from_source IN ('event', 'storage', 'image-config', 'first-seen')),
    to_source      text CHECK (to_source IN ('event', 'storage', 'image-config', 'first-seen')),
    is_replacement boolean NOT NULL DEFAULT false,   -- the tag is a full version, and it pointed to another manifest before
    name           text COLLATE "C" NOT NULL,
    PRIMARY KEY (repository_id, name, valid_from) INCLUDE (valid_to)
);

-- The current interval is found by the tags that point to a manifest (tag_by_manifest).
CREATE INDEX tag_history_by_manifest ON tag_history (manifest_id, repository_id, name, valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_by_start ON tag_history (repository_id, valid_from, name) INCLUDE (valid_to);
CREATE INDEX tag_history_by_end ON tag_history (repository_id, valid_to, name) INCLUDE (valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_by_start_everywhere ON tag_history (valid_from, repository_id, name) INCLUDE (valid_to);
CREATE INDEX tag_history_by_end_everywhere ON tag_history (valid_to, repository_id, name) INCLUDE (valid_from)
    WHERE valid_to < 'infinity';
CREATE INDEX tag_history_replacements ON tag_history (repository_id, valid_from, name) WHERE is_replacement;
CREATE INDEX tag_history_replacements_everywhere ON tag_history (valid_from, repository_id, name) WHERE is_replacement;

-- audit ---------------------------------------------------------------------------------------------------

-- An entry is staged by the transaction that makes the change. The one sealer moves it into the log, gives it its position
-- without gaps and hashes it into the tree below. The log is append-only: no row of it is updated or deleted, except that
-- erasure removes who made a request and from where (docs/adr/0026).
-- `content_id` refers to `blob` where the action is `blob.…` or `content.…`, else to `manifest`.

-- The actions and sources of `inventory/changes`, four bytes each (docs/adr/0039). A migration may add a value, never remove one.
CREATE TYPE audit_action AS ENUM (
    'tag.created', 'tag.moved', 'tag.repushed', 'tag.deleted', 'tag.broken', 'tag.readable', 'manifest.pushed',
    'manifest.deleted', 'manifest.found', 'manifest.pulled', 'manifest.checked', 'blob.pushed', 'blob.deleted',
    'blob.mounted', 'content.deleted', 'request.denied', 'request.failed', 'log.archived', 'log.dropped',
    'operator.audit_key_replaced',
    'operator.brake_released', 'operator.feed_removed', 'operator.feed_replayed', 'operator.feed_retried',
    'operator.history_imported', 'operator.inbox_discarded', 'operator.inbox_retried', 'operator.people_erased',
    'operator.reconciled'
);
-- 'walk' is a reconcile.
CREATE TYPE audit_source AS ENUM (
    'notification', 'walk', 'verify', 'storage', 'policy', 'operator', 'access-log'
);

CREATE TABLE audit_staged (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at    timestamptz NOT NULL,     -- of an event, by the registry's clock, never later than its receipt
    recorded_at    timestamptz NOT NULL,
    not_before     timestamptz,              -- set: it is only known to have occurred in (not_before, occurred_at]
    content_id     bigint,
    previous_id    bigint,                   -- the manifest that the tag pointed to before
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

-- Partitioned by position, one part a month (docs/adr/0033). Old entries are the beginning of the log, and leave it when
-- their part is dropped. The last part takes every new entry.
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
    actor_salt_id  integer,                  -- audit_salt: the commitment in place of the actor
    client_salt_id integer,                  -- audit_salt: the commitment in place of the client's address and user agent
    action         audit_action NOT NULL,
    source         audit_source NOT NULL,
    tag            text COLLATE "C",
    detail         jsonb
) PARTITION BY RANGE (position);

CREATE TABLE audit_entry_1 PARTITION OF audit_entry FOR VALUES FROM (1) TO (MAXVALUE);

-- The keys have no id: several entries occur at one instant, as those of one event do, and such an index has the key once.
-- Pages sort them (docs/adr/0039). Pushes and pulls of content are left out of audit_by_action, since they are so many that
-- audit_by_time finds a page of them at once. What is rebuilt is packed full: only the last part grows.
CREATE INDEX audit_by_time ON audit_entry (occurred_at) WITH (fillfactor = 100);
CREATE INDEX audit_by_repository ON audit_entry (repository_id, occurred_at) WITH (fillfactor = 100);
CREATE INDEX audit_by_actor ON audit_entry (actor_id, occurred_at) WITH (fillfactor = 100) WHERE actor_id IS NOT NULL;
CREATE INDEX audit_by_action ON audit_entry (action, occurred_at) WITH (fillfactor = 100)
    WHERE action NOT IN ('manifest.pushed', 'manifest.pulled', 'manifest.checked', 'blob.pushed', 'blob.mounted');

-- The parts of the log, including those that left it. Table audit_entry_N holds the entries from position N on.
CREATE TABLE audit_part (
    first_position  bigint PRIMARY KEY,
    last_position   bigint,                  -- null: still open
    opened_at       timestamptz NOT NULL DEFAULT now(),
    closed_at       timestamptz,
    reindexed_at    timestamptz,             -- when its indexes were rebuilt, once it was closed
    dropped_at      timestamptz,
    file            text,                    -- the archive's name, where it was archived
    sha256          bytea                    -- of the archive
);

INSERT INTO audit_part (first_position) VALUES (1);

-- Salted commitments that the leaves of the tree have in place of people: one per actor and day, and one per client, actor
-- and day. Id 0 stands for none. Erasure removes the salt and sets both ids to 0: nobody can open the commitment then.
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

-- The Merkle tree over the entries, in tiles of at most 256 hashes (C2SP tlog-tiles). It stays when entries leave the log.
CREATE TABLE audit_tile (
    index   bigint NOT NULL,
    level   smallint NOT NULL,
    hashes  bytea NOT NULL,
    PRIMARY KEY (level, index)
);

ALTER TABLE audit_tile ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes do not compress

-- Signed checkpoints: how many entries the log had, and the root of the tree. The newest one is by the key in use.
CREATE TABLE audit_checkpoint (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    size       bigint NOT NULL,              -- entries
    signed_at  timestamptz NOT NULL,
    verifier   text NOT NULL,                -- the public key: name+id+key
    note       text NOT NULL,                -- C2SP tlog-checkpoint
    UNIQUE (size, verifier)
);

-- The checkpoint that was last pushed into the registry, for each repository it was pushed to.
CREATE TABLE audit_checkpoint_push (
    repository text PRIMARY KEY,
    size       bigint NOT NULL,              -- entries
    digest     text NOT NULL,                -- of the manifest
    pushed_at  timestamptz NOT NULL,
    observed_at timestamptz NOT NULL         -- when the registry last served it
);

-- One row: how far the entries have been compared with the tree. At the end of the log a new pass begins.
CREATE TABLE audit_self_check (
    one           boolean PRIMARY KEY DEFAULT true CHECK (one),
    position      bigint NOT NULL DEFAULT 0,
    pass_began_at timestamptz,
    pass_ended_at timestamptz                -- of the last complete pass
);

INSERT INTO audit_self_check DEFAULT VALUES;

-- Entries that do not match the tree, at most a thousand. A row is removed when its entry matches again. Position 0: the
-- tree itself does not match what was signed.
CREATE TABLE audit_damage (
    position  bigint PRIMARY KEY,
    found_at  timestamptz NOT NULL,
    fault     text NOT NULL,                 -- which kind
    what      text NOT NULL                  -- in a sentence
);

-- Places that hold a checkpoint which this log does not continue: a server's file, or a repository of the registry. The log
-- was restored from an older backup, or is another one. A row is removed when its place is found in order.
CREATE TABLE audit_conflict (
    place         text PRIMARY KEY,
    found_at      timestamptz NOT NULL,
    last_found_at timestamptz NOT NULL,
    what          text NOT NULL              -- in a sentence
);

-- Pulls and checks as single entries, until they are old enough to be coalesced and move into the log (docs/adr/0020). Such
-- an entry is in one of the two at any time. All entries get their ids from one sequence.
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
    checked        boolean NOT NULL DEFAULT false,       -- a HEAD (manifest.checked), not a GET
    tag            text COLLATE "C",
    detail         jsonb
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX pull_detail_by_time ON pull_detail (occurred_at);
CREATE INDEX pull_detail_by_repository ON pull_detail (repository_id, occurred_at);
CREATE INDEX pull_detail_by_actor ON pull_detail (actor_id, occurred_at) WHERE actor_id IS NOT NULL;

-- ingest --------------------------------------------------------------------------------------------------

-- Deliveries as they came. They are committed here before the registry gets its answer.
CREATE TABLE inbox (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    received_at       timestamptz NOT NULL,
    done_at           timestamptz,                       -- null: waits to be applied
    spool_key         uuid,                              -- it went through the spool while the database was away
    partition         smallint NOT NULL DEFAULT 0,       -- by repository; one worker at a time works on each
    can_wait          boolean NOT NULL DEFAULT false,    -- pulls only, or imported: what changes the state goes first
    imported          boolean NOT NULL DEFAULT false,    -- of an older history (docs/adr/0036), not from a registry
    attempts          integer NOT NULL DEFAULT 0,        -- how often it failed when applied alone
    retry_at          timestamptz,                       -- not before this: it failed, or one like it did
    content_type      text NOT NULL DEFAULT '',
    content_encoding  text NOT NULL DEFAULT '',
    last_error        text,                              -- why it waits
    body              bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE INDEX inbox_waiting ON inbox (can_wait, partition, id) WHERE done_at IS NULL;
CREATE INDEX inbox_failing ON inbox (id) WHERE done_at IS NULL AND last_error IS NOT NULL;
CREATE UNIQUE INDEX inbox_spooled ON inbox (spool_key) WHERE spool_key IS NOT NULL;
CREATE INDEX inbox_done ON inbox (done_at) WHERE done_at IS NOT NULL;

-- Deliveries, or single events of them, that could not be applied: kept raw, with the reason, until an operator retries or
-- discards them.
CREATE TABLE quarantine (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    inbox_id         bigint NOT NULL,
    received_at      timestamptz NOT NULL,
    quarantined_at   timestamptz NOT NULL,
    imported         boolean NOT NULL DEFAULT false,
    content_type     text NOT NULL DEFAULT '',
    content_encoding text NOT NULL DEFAULT '',
    reason           text NOT NULL,
    body             bytea NOT NULL
);

-- Ids of events that were applied: a redelivery has the same id and changes nothing. 'infinity': imported, kept for ever.
CREATE TABLE applied_event (
    event_key    uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL
);

CREATE INDEX applied_event_by_age ON applied_event USING brin (received_at);

-- Which event reported that a request deleted a digest. The events of its tags come later; their entries name it as the cause.
CREATE TABLE deletion_cause (
    repository_id  integer NOT NULL,
    request_key    uuid NOT NULL,
    event_id       text NOT NULL,
    received_at    timestamptz NOT NULL,
    PRIMARY KEY (repository_id, request_key)
);

CREATE INDEX deletion_cause_by_age ON deletion_cause USING brin (received_at);

-- Signatures of our own requests that an event has shown: each proves one request only (docs/adr/0065).
CREATE TABLE own_request (
    nonce        uuid PRIMARY KEY,
    received_at  timestamptz NOT NULL
);

CREATE INDEX own_request_by_age ON own_request USING brin (received_at);

-- When the receiver was up: one row per process of `indexer serve`, by its own clock. In a time that no row covers,
-- deliveries may have been lost. loop_state does not tell: it knows a process by host and number, and a container has both
-- again after a restart.
CREATE TABLE receiver_session (
    opened_at     timestamptz NOT NULL,
    heartbeat_at  timestamptz NOT NULL,                  -- the last time it reported
    spooled       bigint NOT NULL,                       -- deliveries in its spool at that time
    process       uuid PRIMARY KEY
);

-- access logs ---------------------------------------------------------------------------------------------

-- Requests that were denied or failed, before they become entries of the audit log: equal ones are counted together.
CREATE TABLE access_log_pending (
    key          uuid PRIMARY KEY,           -- a hash of who, from where, what, and how it ended
    handshake    uuid,                       -- a hash of who and where: a later request of theirs removes the row; null: none does
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    received_at  timestamptz NOT NULL,
    times        integer NOT NULL,           -- how many requests
    action       text NOT NULL,
    line         jsonb NOT NULL              -- the last of them
);

CREATE INDEX access_log_pending_by_handshake ON access_log_pending (handshake) WHERE handshake IS NOT NULL;
CREATE INDEX access_log_pending_by_age ON access_log_pending (received_at);

-- How far log files have been read. A rotated file keeps its device and inode, not its name.
CREATE TABLE access_log_file (
    device   bigint NOT NULL,
    inode    bigint NOT NULL,
    read_to  bigint NOT NULL,                -- bytes
    read_at  timestamptz NOT NULL,
    head     bytea NOT NULL,                 -- its first bytes: an inode may be given to another file
    path     text NOT NULL,
    PRIMARY KEY (path, device, inode)
);

-- work items ----------------------------------------------------------------------------------------------

-- Background work that waits. An item that is requested again while it is leased gets a new generation, and is done exactly
-- once more.
CREATE TABLE work_item (
    due_at           timestamptz NOT NULL,
    last_observed_at timestamptz NOT NULL DEFAULT '-infinity',  -- keeps observations of one tag apart, however often it changes
    lease_until      timestamptz,
    waiting_since    timestamptz NOT NULL,               -- for the age of the backlog
    repository_id    integer NOT NULL REFERENCES repository,
    attempts         integer NOT NULL DEFAULT 0,         -- failed in a row
    generation       integer NOT NULL DEFAULT 0,
    observations     integer NOT NULL DEFAULT 0,         -- made since the last event
    confirmations    integer NOT NULL DEFAULT 0,         -- of these, in a row, that agreed with the record
    kind             text NOT NULL CHECK (kind IN ('verify', 'resolve', 'measure')),
    key              text COLLATE "C" NOT NULL,          -- verify: the tag; resolve: the digest; measure: ''
    last_observation text,                               -- what the last one found: a digest, 'absent' or 'broken'
    PRIMARY KEY (kind, repository_id, key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX work_item_by_time ON work_item (kind, due_at);
CREATE INDEX work_item_failing ON work_item (waiting_since) WHERE attempts > 0;

-- drift ---------------------------------------------------------------------------------------------------

CREATE TABLE reconcile_run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL,
    listed_at    timestamptz,                            -- since when its repositories are in reconcile_repository
    finished_at  timestamptz,
    mode         text NOT NULL CHECK (mode IN ('run', 'once', 'plan')),
    outcome      text CHECK (outcome IN ('complete', 'incomplete', 'braked', 'failed', 'interrupted')),
    thorough     boolean NOT NULL DEFAULT false,         -- reads every manifest again
    first_reconcile boolean NOT NULL DEFAULT false,      -- no full reconcile before it was complete
    deletions_allowed boolean,                           -- what the brake decided; null: not yet
    scope        text[],                                 -- the repositories that were asked for, sorted; null: all
    counts       jsonb NOT NULL DEFAULT '{}',
    undecided    jsonb NOT NULL DEFAULT '{}',            -- what was inconclusive: per kind of reason, how often, and a few in full
    cause        text,                                   -- why it began by itself; null: an operator asked for it
    brake_reason text,                                   -- why the brake was pulled
    note         text
);

-- Every answer of the API says when the last complete full reconcile ended.
CREATE INDEX reconcile_run_complete ON reconcile_run (finished_at)
    WHERE outcome = 'complete' AND scope IS NULL AND mode <> 'plan';

-- The repositories of a run under way, shared by its workers, until it ends. A worker is a connection that holds an advisory
-- lock under its number: what a dead worker had taken is free at once (docs/adr/0016).
CREATE TABLE reconcile_repository (
    run_id     bigint NOT NULL REFERENCES reconcile_run,
    done_at    timestamptz,
    position   integer NOT NULL,                         -- what was never compared first, then by last_reconciled_at
    worker     integer,
    name       text COLLATE "C" NOT NULL,
    counts     jsonb NOT NULL DEFAULT '{}',
    undecided  jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run_id, name)
) WITH (fillfactor = 70);

CREATE INDEX reconcile_repository_left ON reconcile_repository (run_id, position) WHERE done_at IS NULL;

-- Deletions that a run has found, and that wait for its end, when the brake decides on all of them.
CREATE TABLE pending_deletion (
    run_id       bigint NOT NULL REFERENCES reconcile_run,
    observed_at  timestamptz NOT NULL,                   -- by our clock
    as_of        timestamptz NOT NULL,                   -- by our clock or the registry's Date, the earlier
    revision     integer NOT NULL,                       -- of the tag before the observation
    is_manifest  boolean NOT NULL,
    repository_vanished boolean NOT NULL,                -- the registry does not know the repository
    repository   text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,              -- the tag, or the manifest's digest
    expected     bytea,                                  -- the digest on record
    PRIMARY KEY (run_id, is_manifest, repository, key)
);

CREATE TABLE drift_finding (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id         bigint REFERENCES reconcile_run,       -- null: found by verification
    detected_at    timestamptz NOT NULL,
    repaired_at    timestamptz,
    not_before     timestamptz,                           -- it came to differ after this; null: not known
    explained_at   timestamptz,                           -- null: the cause may still become known
    repository_id  integer REFERENCES repository,
    kind           text NOT NULL,
    cause          text NOT NULL,
    tag            text COLLATE "C",
    expected       bytea,                                 -- the digest on record
    found          bytea,                                 -- the digest in the registry
    note           text
);

CREATE INDEX drift_finding_by_time ON drift_finding (detected_at, id);
CREATE INDEX drift_finding_by_run ON drift_finding (run_id, id);
CREATE INDEX drift_finding_unexplained ON drift_finding (detected_at, id) WHERE explained_at IS NULL;

-- verification --------------------------------------------------------------------------------------------

-- How long it took from an event that names a tag to the first observation that agreed: how many tags, by the minute of the
-- observation and by length (inventory/latency.py).
CREATE TABLE verification_latency (
    minute  timestamptz NOT NULL,
    tags    bigint NOT NULL,
    bucket  smallint NOT NULL,
    PRIMARY KEY (minute, bucket)
);

-- forwarding ----------------------------------------------------------------------------------------------

-- Events on their way to GitLab, each as the registry sent it. Events of one subject are sent in the order of their ids.
CREATE TABLE gitlab_event (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queued_at   timestamptz NOT NULL,
    due_at      timestamptz NOT NULL,
    refused_at  timestamptz,                            -- GitLab refused it for good
    attempts    integer NOT NULL DEFAULT 0,
    can_wait    boolean NOT NULL,                       -- a pull, which GitLab ignores
    subject     text COLLATE "C" NOT NULL,              -- repository:tag, or repository:digest
    reason      text,                                   -- why it was refused
    body        bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE INDEX gitlab_event_waiting ON gitlab_event (can_wait, id) WHERE refused_at IS NULL;
CREATE INDEX gitlab_event_by_subject ON gitlab_event (subject, id) WHERE refused_at IS NULL;
CREATE INDEX gitlab_event_by_age ON gitlab_event (queued_at);
CREATE INDEX gitlab_event_refused ON gitlab_event (refused_at) WHERE refused_at IS NOT NULL;

-- One row: which process forwards, and how many events were forwarded and dropped in all.
CREATE TABLE gitlab_forwarding (
    one          boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder       text NOT NULL DEFAULT '',
    lease_until  timestamptz NOT NULL DEFAULT '-infinity',
    forwarded    bigint NOT NULL DEFAULT 0,
    dropped      bigint NOT NULL DEFAULT 0
);

INSERT INTO gitlab_forwarding DEFAULT VALUES;

-- api -----------------------------------------------------------------------------------------------------

-- One row, the same for every process: two keys follow from it, one that seals the cursors of lists and one that signs our
-- own requests to the registry (docs/adr/0060, 0065). A new value ends all cursors, and reconcilers must be restarted.
CREATE TABLE shared_secret (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret  bytea NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                               || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);

INSERT INTO shared_secret DEFAULT VALUES;

-- feeds ---------------------------------------------------------------------------------------------------

-- One row: which log this is. The ids of what feeds deliver begin with it.
CREATE TABLE audit_log_identity (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    id   uuid NOT NULL DEFAULT gen_random_uuid()
);

INSERT INTO audit_log_identity DEFAULT VALUES;

-- Every feed that was ever configured, and its state. The log itself is the queue.
CREATE TABLE feed (
    position      bigint NOT NULL,                       -- every entry up to here is delivered, a dead letter, or filtered out
    delivered     bigint NOT NULL DEFAULT 0,
    created_at    timestamptz NOT NULL DEFAULT now(),
    lease_until   timestamptz NOT NULL DEFAULT '-infinity',
    delivered_at  timestamptz,                           -- when it last delivered something
    failed_at     timestamptz,
    retry_at      timestamptz,
    attempts      integer NOT NULL DEFAULT 0,            -- failed in a row
    refused_in_a_row integer NOT NULL DEFAULT 0,         -- entries that the sink refused, one after the other
    replays       integer NOT NULL DEFAULT 0,            -- how often an operator set the position
    prepared_replay integer NOT NULL DEFAULT 0,          -- the last replay that the sink was prepared for
    name          text PRIMARY KEY,
    kind          text NOT NULL,
    holder        text NOT NULL DEFAULT '',              -- the process that delivers, until lease_until
    stopped       text,                                  -- why nothing is delivered until an operator replays; null: not stopped
    last_error    text
);

-- Dead letters: entries that a sink refused for good. The entry itself is in the log.
CREATE TABLE feed_dead_letter (
    position    bigint NOT NULL,
    refused_at  timestamptz NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,              -- retries that the sink did not answer
    retry_requested boolean NOT NULL DEFAULT false,      -- by an operator
    retry_at    timestamptz,                             -- not before this
    feed        text NOT NULL REFERENCES feed ON DELETE CASCADE,
    reason      text NOT NULL,
    PRIMARY KEY (feed, position)
);

CREATE INDEX feed_dead_letter_to_retry ON feed_dead_letter (feed, position) WHERE retry_requested;

-- loss ----------------------------------------------------------------------------------------------------

-- One process of a registry, as the counters at its debug address show it from our first reading to our last, and how far
-- its events are accounted for (reconciler/loss/decide.py). What the process delivers is accounted for once it has delivered
-- everything that it had queued at a mark, an earlier reading.
CREATE TABLE registry_process (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    began_at            timestamptz NOT NULL,            -- our first reading
    read_at             timestamptz NOT NULL,            -- our last reading
    accounted_until     timestamptz NOT NULL,            -- events made before this are accounted for
    mark_at             timestamptz NOT NULL,            -- the mark: accounted for next are events up to here
    suspected_at        timestamptz,                     -- since when we hold fewer events than were delivered
    ended_at            timestamptz,                     -- another process answers at the address
    events              bigint NOT NULL,                 -- made
    delivered           bigint NOT NULL,
    accepted            bigint NOT NULL,                 -- of these, answered 202
    pending             bigint NOT NULL,                 -- queued in its memory
    mark_events         bigint NOT NULL,                 -- made, at the mark
    mark_lost           bigint NOT NULL,                 -- certainly lost, at the mark
    accounted_lost      bigint NOT NULL,
    accounted_events    bigint NOT NULL,
    missing             bigint NOT NULL,                 -- delivered and not received, at most
    gc_cycles           bigint NOT NULL,                 -- of its Go runtime; with the next it tells one process from another
    last_gc_nanoseconds bigint,                          -- since 1970
    process_start_seconds double precision,              -- since 1970, as Prometheus' process_start_time_seconds
    instance_id         integer REFERENCES registry_instance, -- whose events these are; null: not known yet
    address             text NOT NULL,
    error               text                             -- why the last reading failed
);

CREATE UNIQUE INDEX registry_process_alive ON registry_process (address) WHERE ended_at IS NULL;

-- What can be said of the events of an interval: of a process whose counters are read, or, where the receiver was down, of
-- an instance whose counters are not. Adjacent intervals in which nothing was lost are joined.
CREATE TABLE loss_interval (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    from_at         timestamptz NOT NULL,
    to_at           timestamptz NOT NULL,
    process_id      bigint REFERENCES registry_process ON DELETE CASCADE,
    lost            bigint,                              -- at most
    waiting_at_end  bigint NOT NULL DEFAULT 0,           -- queued in the memory of a process that ended, when last read
    instance_id     integer REFERENCES registry_instance,
    state           text NOT NULL CHECK (state IN ('nothing_lost', 'at_most', 'unknown')),
    needs_reconcile boolean NOT NULL,
    because         text,
    CHECK (num_nonnulls(process_id, instance_id) = 1)
);

CREATE INDEX loss_interval_by_process ON loss_interval (process_id, to_at) WHERE process_id IS NOT NULL;
CREATE INDEX loss_interval_by_instance ON loss_interval (instance_id, to_at) WHERE instance_id IS NOT NULL;
CREATE INDEX loss_interval_by_end ON loss_interval (to_at);

-- Times without any receiver session, for which it is decided what they may have cost.
CREATE TABLE receiver_downtime (
    to_at    timestamptz PRIMARY KEY,
    from_at  timestamptz NOT NULL
);

-- What kind of registry this is, as its answers have shown. The traits are those of store/traits.py.
CREATE TABLE registry_trait (
    trait        text PRIMARY KEY,
    holds        boolean NOT NULL,
    because      text NOT NULL,                          -- by what evidence, for an operator
    changed_at   timestamptz NOT NULL,                   -- since when `holds` has this value
    observed_at  timestamptz NOT NULL                    -- when it last showed
);

-- loops ---------------------------------------------------------------------------------------------------

-- The last run of every background loop of every process; /api/v1/status lists them.
CREATE TABLE loop_state (
    loop           text NOT NULL,
    process        text NOT NULL,                        -- program host:number
    started_at     timestamptz NOT NULL,
    last_run_at    timestamptz,
    last_good_at   timestamptz,
    last_error     text,
    outcome        text,
    PRIMARY KEY (loop, process)
);

-- One row: the end of the audit log. Whoever locks it is the sealer.
CREATE TABLE audit_log_head (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    position  bigint NOT NULL DEFAULT 0,     -- of the newest sealed entry
    erasures  integer NOT NULL DEFAULT 0     -- how often people were erased; what was cached of people before is not used again
);

INSERT INTO audit_log_head DEFAULT VALUES;

-- migrations ----------------------------------------------------------------------------------------------

CREATE TABLE schema_migration (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    bytea NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
);

-- 0002_write_notices

-- write notices ---------------------------------------------------------------------------------------------

-- Numbers the questions that wait for notices, so that it is known which question a verification answers.
CREATE SEQUENCE write_question AS bigint;

-- Writes that the proxy passes to the registry and whose event has not been applied yet. An answer about the repository
-- waits for them (docs/explanation/an-answer-is-never-stale.md).
CREATE TABLE write_notice (
    number       bigint NOT NULL GENERATED BY DEFAULT AS IDENTITY,  -- grows with time; a deletion's tags have that of its digest
    noticed_at   timestamptz NOT NULL,
    wanted       bigint NOT NULL DEFAULT 0,  -- the newest question that wants the reference verified
    verified     bigint NOT NULL DEFAULT 0,  -- the newest question for which it was: the registry was asked after that question
    id           text COLLATE "C" NOT NULL,  -- the proxy's id of the request; it is in the user agent of its event
    repository   text COLLATE "C" NOT NULL,  -- a name: it may be one that is not on record yet
    reference    text COLLATE "C" NOT NULL,  -- a tag or a digest; '*': more than are kept one by one
    method       text NOT NULL CHECK (method IN ('PUT', 'DELETE', '')),
    PRIMARY KEY (id, repository, reference)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

CREATE INDEX write_notice_by_repository ON write_notice (repository, number);
CREATE INDEX write_notice_by_time ON write_notice (noticed_at);

-- 0003_cleanup

-- policies ------------------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'policy.changed';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'hold.added';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'hold.removed';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.planned';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.approved';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.rejected';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.cancelled';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.near_miss';

-- What the file of policies (INDEXER_POLICIES_FILE) said, each time that it came into force. The newest row is in force.
CREATE TABLE policies_in_force (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since    timestamptz NOT NULL,
    sha256   bytea NOT NULL,
    content  bytea NOT NULL                     -- the file's bytes; empty: no policies
);

-- What every running program read from its file last. Programs that read different bytes: nothing acts until they agree.
CREATE TABLE policies_reading (
    read_at  timestamptz NOT NULL,              -- a program that did not read for a while has ended
    sha256   bytea NOT NULL,                    -- of what was read, valid or not; of nothing where no file is set
    process  text PRIMARY KEY,                  -- program host:number
    file     text,                              -- null: none is set
    error    text                               -- why what was read is not in force
);

-- cleanup -------------------------------------------------------------------------------------------------

-- A plan: what policies come to at one instant, made under exact bytes of the file. A later evaluation that deletes exactly
-- the same makes no new plan.
CREATE TABLE cleanup_plan (
    made_at        timestamptz NOT NULL,
    confirmed_at   timestamptz NOT NULL,        -- when an evaluation last came to the same
    position       bigint NOT NULL,             -- of the log, at that instant
    engine         integer NOT NULL,            -- policies/cleanup.ENGINE
    policies_sha256 bytea NOT NULL,
    content_sha256 bytea NOT NULL,              -- of what it deletes: equal plans are one
    rejected_at    timestamptz,
    id             text COLLATE "C" PRIMARY KEY,
    asked_by       text,                        -- null: the daemon made it
    rejected_by    text,
    rejected_because text
);

CREATE INDEX cleanup_plan_by_time ON cleanup_plan (made_at, id);

-- What one policy has in a plan. `brake`: the limits it is beyond, {name, found, allowed} each; any of them stops all of it.
CREATE TABLE cleanup_plan_policy (
    freed_bytes  bigint NOT NULL,               -- by all its deletions together
    weak_share   double precision NOT NULL,     -- of its deletions that rest on weak evidence
    kept         integer NOT NULL,
    deleted      integer NOT NULL,
    held         integer NOT NULL,
    position     smallint NOT NULL,             -- in the file
    plan_id      text COLLATE "C" NOT NULL REFERENCES cleanup_plan ON DELETE CASCADE,
    policy       text COLLATE "C" NOT NULL,
    mode         text NOT NULL CHECK (mode IN ('preview', 'propose', 'enforce')),
    brake        jsonb NOT NULL DEFAULT '[]',
    notes        jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (plan_id, policy)
);

-- The verdicts of a plan that are not to keep, as they were shown.
CREATE TABLE cleanup_verdict (
    number      integer NOT NULL,               -- in the plan's order: repository, tag, digest
    repository_id integer NOT NULL REFERENCES repository,
    plan_id     text COLLATE "C" NOT NULL REFERENCES cleanup_plan ON DELETE CASCADE,
    policy      text COLLATE "C" NOT NULL,
    decision    text NOT NULL CHECK (decision IN ('delete', 'hold')),
    tag         text COLLATE "C",               -- null: of a manifest
    digest      bytea,
    shown       jsonb NOT NULL,                 -- policies/serialize.as_json
    PRIMARY KEY (plan_id, number)
);

CREATE INDEX cleanup_verdict_by_subject ON cleanup_verdict (plan_id, repository_id, tag);

-- Who approved which plan. It counts only under the same bytes of the file, since they came into force.
CREATE TABLE cleanup_approval (
    at              timestamptz NOT NULL,
    policies_sha256 bytea NOT NULL,
    plan_id         text COLLATE "C" NOT NULL REFERENCES cleanup_plan ON DELETE CASCADE,
    by              text NOT NULL,
    reason          text,
    PRIMARY KEY (plan_id, at)
);

CREATE INDEX cleanup_approval_by_bytes ON cleanup_approval (policies_sha256, at);

-- What policies that act plan to delete, and what became of it. A row is open until it is done, cancelled or skipped.
CREATE TABLE cleanup_planned (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    first_at      timestamptz NOT NULL,         -- when a plan named it first
    due_at        timestamptz NOT NULL,
    named_at      timestamptz NOT NULL,         -- when an evaluation last came to the same
    ended_at      timestamptz,
    repository_id integer NOT NULL REFERENCES repository,
    policy        text COLLATE "C" NOT NULL,
    tag           text COLLATE "C" NOT NULL DEFAULT '', -- '': a manifest
    digest        bytea NOT NULL,
    rule          text,
    reason        text NOT NULL,                -- the code of the verdict
    outcome       text CHECK (outcome IN ('done', 'cancelled', 'near_miss')),
    because       text,                         -- why it was cancelled
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);

CREATE UNIQUE INDEX cleanup_planned_open ON cleanup_planned (repository_id, tag, digest) WHERE ended_at IS NULL;
CREATE INDEX cleanup_planned_due ON cleanup_planned (due_at, id) WHERE ended_at IS NULL;
CREATE INDEX cleanup_planned_ended ON cleanup_planned (repository_id, digest, ended_at) WHERE outcome = 'done';
CREATE INDEX cleanup_planned_by_end ON cleanup_planned (ended_at, id) WHERE ended_at IS NOT NULL;

-- Whole repositories, tags, and digests in one repository or in all, that nobody may clean up.
CREATE TABLE cleanup_hold (
    created_at  timestamptz NOT NULL,
    until       timestamptz,                    -- null: until it is removed
    id          text COLLATE "C" PRIMARY KEY,
    owner       text NOT NULL,
    reason      text NOT NULL,
    repository  text COLLATE "C",
    tag         text COLLATE "C",
    digest      text COLLATE "C",
    created_by  text NOT NULL,
    CHECK (num_nonnulls(repository, digest) > 0 AND num_nonnulls(tag, digest) < 2 AND (tag IS NULL OR repository IS NOT NULL))
);

CREATE INDEX cleanup_hold_by_time ON cleanup_hold (created_at, id);

-- What each source reported last as in use: the whole set. A set that shrank by more than half waits for confirmation
-- in `suspected`, and until then this one protects, too.
CREATE TABLE in_use_source (
    reported_at   timestamptz NOT NULL,         -- of the last report, counted or not
    counted_at    timestamptz NOT NULL,         -- of the report whose set this is
    valid_until   timestamptz NOT NULL,
    suspected_at  timestamptz,                  -- since when reports have been too small to count
    images        integer NOT NULL,
    suspected_images integer,
    source        text COLLATE "C" PRIMARY KEY
);

CREATE TABLE in_use_image (
    suspected   boolean NOT NULL,               -- of the report that waits for confirmation
    source      text COLLATE "C" NOT NULL REFERENCES in_use_source ON DELETE CASCADE,
    repository  text COLLATE "C" NOT NULL,      -- '': in any
    reference   text COLLATE "C" NOT NULL,      -- a tag or a digest
    PRIMARY KEY (source, suspected, repository, reference)
);

-- 0004_jobs

-- jobs ------------------------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE 'job.ended';
ALTER TYPE audit_action ADD VALUE 'job.requested';
ALTER TYPE audit_action ADD VALUE 'operator.maintenance_began';
ALTER TYPE audit_action ADD VALUE 'operator.maintenance_ended';

-- What a person, a policy or GitLab asked for, from the request until some time after its end (docs/adr/0076).
CREATE TABLE job (
    number            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- grows in the order in which jobs are asked for
    id                uuid NOT NULL UNIQUE,      -- UUIDv7
    kind              text COLLATE "C" NOT NULL,
    state             text COLLATE "C" NOT NULL DEFAULT 'waiting'
                      CHECK (state IN ('waiting', 'running', 'paused', 'done', 'failed', 'cancelled')),
    acts              boolean NOT NULL,          -- it changes the registry
    params            jsonb NOT NULL,
    repositories      text[] COLLATE "C",        -- which it is about, in order; null: the whole registry
    asked_by          text NOT NULL,
    asked_from        text NOT NULL,             -- a client's address, or the machine that a command ran on
    asked_with        text NOT NULL,             -- the command, or the method and path of the request
    by_policy         boolean NOT NULL DEFAULT false,
    reason            text,
    bounds            jsonb NOT NULL,            -- patterns of the asking token: what the job must not touch for it
    created_at        timestamptz NOT NULL,
    started_at        timestamptz,               -- when a process first took it
    ended_at          timestamptz,
    not_before        timestamptz,               -- registry or database did not answer: not tried again before
    tries             integer NOT NULL DEFAULT 0,   -- in a row, that ended so
    deaths            integer NOT NULL DEFAULT 0,   -- processes that disappeared since it last got on
    progress          jsonb,                     -- done, total, unit, message
    checkpoint        jsonb,                     -- from where to go on
    note              text,                      -- why it does not get on just now
    result            jsonb,
    error             text,
    cancel_asked_at   timestamptz,
    cancelled_by      text,
    lease             uuid,                      -- of the process that has it
    leased_until      timestamptz,               -- by the database's clock
    worker            text,                      -- program, machine and number of that process
    idempotency_owner text COLLATE "C",
    idempotency_key   text COLLATE "C",
    request_hash      bytea,                     -- of kind, params and reason
    CHECK ((ended_at IS NOT NULL) = (state IN ('done', 'failed', 'cancelled'))),
    CHECK ((state = 'running') = (lease IS NOT NULL AND leased_until IS NOT NULL))
) WITH (fillfactor = 70);

CREATE UNIQUE INDEX job_by_idempotency_key ON job (idempotency_owner, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX job_unended ON job (number) WHERE ended_at IS NULL;
CREATE INDEX job_by_end ON job (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX job_by_repository ON job USING gin (repositories);

-- The times in which nothing acts because an operator said so; the newest one counts.
CREATE TABLE maintenance (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begun_at      timestamptz NOT NULL,
    until         timestamptz,               -- null: until it is ended
    ended_at      timestamptz,
    begun_by      text NOT NULL,
    reason        text
);

-- 0005_fewer_bytes

-- fewer bytes -----------------------------------------------------------------------------------------------

-- What a burst leaves behind is given back a minute after it, however small it was.
ALTER TABLE inbox SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE audit_staged SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE work_item SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE tag SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.005);

-- Signatures of our own requests that an event has shown. There are two for each push, so a row is as short as it can be:
-- half of the signature's random number, the last part of the event's id (null: recorded before this migration), and the day,
-- UTC. An event of our own is known by its signature and is not in applied_event as well; the part of its id tells a second
-- delivery of it from another event with the same signature.
ALTER TABLE own_request ADD COLUMN number bigint, ADD COLUMN event integer, ADD COLUMN received_on date;

UPDATE own_request
SET number = ('x' || encode(substring(uuid_send(nonce) FROM 9), 'hex'))::bit(64)::bigint,
    received_on = (received_at AT TIME ZONE 'UTC')::date;

DELETE FROM own_request AS a USING own_request AS b WHERE a.number = b.number AND a.nonce < b.nonce;

ALTER TABLE own_request DROP COLUMN nonce, DROP COLUMN received_at, ALTER COLUMN received_on SET NOT NULL,
    ADD PRIMARY KEY (number);

CREATE INDEX own_request_by_age ON own_request USING brin (received_on);

-- image details ---------------------------------------------------------------------------------------------

-- Version of the operating system, as the image's own config says; images for Windows differ in it.
ALTER TABLE manifest ADD COLUMN os_version text;

-- 0006_notices_touched

-- write notices: what a verification of them is worth, and whose they are ------------------------------------------

-- An event that is applied after the registry was asked may be older than its answer: it takes the verification back.
ALTER TABLE write_notice ADD COLUMN touched bigint NOT NULL DEFAULT 0;  -- how many events of the reference were applied
ALTER TABLE write_notice ADD COLUMN address bytea NOT NULL DEFAULT '';  -- a hash of the client's address

-- Rows with the reference '**' are no writes: a question wants the names of all tags of the repository compared (id 'names'),
-- or all tags ('compare').

CREATE INDEX write_notice_by_reference ON write_notice (repository, reference);
CREATE INDEX write_notice_by_address ON write_notice (repository, address);

-- 0007_tag_actions

-- deleting and restoring -------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.tag_deleted';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.restored';
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.put_back';

-- What is done to a tag of the registry by us: on record before the first request, so that a crash leaves nothing
-- unexplained (docs/explanation/a-deletion-loses-no-push.md). A deletion stays here as long as it is in the trash.
CREATE TABLE tag_action (
    asked_at         timestamptz NOT NULL,
    lease_until      timestamptz NOT NULL DEFAULT '-infinity', -- only the process with this lease sends requests for it
    due_at           timestamptz NOT NULL DEFAULT 'infinity',  -- when it is to be checked next
    watched_until    timestamptz NOT NULL,                     -- until then events of the tag are noted in tag_action_event
    looked_at        timestamptz,                              -- by the registry's clock: the tag was last seen as expected
    requested_at     timestamptz,                              -- since then a request may have been sent
    done_at          timestamptz,                              -- the registry has answered
    ended_at         timestamptz,                              -- it was checked, or nothing came of it
    kept_until       timestamptz NOT NULL,                     -- a deletion may be undone until then
    published_at     timestamptz,                              -- these four: of the tag, as it was on record before
    first_seen_at    timestamptz,
    published_source text CHECK (published_source IN ('event', 'storage', 'image-config', 'first-seen')),
    pushed_by        text,
    events           integer NOT NULL DEFAULT 0,               -- noted of it: whoever decides sees whether one came meanwhile
    kind             text NOT NULL CHECK (kind IN ('delete', 'restore', 'put_back')),
    state            text NOT NULL DEFAULT 'planned'
                     CHECK (state IN ('planned', 'requested', 'done', 'checked', 'uncertain', 'skipped', 'refused')),
    outcome          text,                                     -- what it came to, in one word
    note             text,                                     -- the same in a sentence
    gone             text,                                     -- why a deleted tag cannot come back; null: not known to be so
    source           text NOT NULL CHECK (source IN ('policy', 'operator')),
    actor            text,
    reason           text,
    repository       text COLLATE "C" NOT NULL,
    tag              text COLLATE "C" NOT NULL,
    digest           bytea NOT NULL,                           -- a deletion: what it points to; else what it is to point to
    dummy            bytea,                                    -- 2.8: the manifest that takes its place, to be deleted
    holder           uuid,                                     -- whose lease it is
    job_id           uuid,
    id               uuid PRIMARY KEY,
    of_action        uuid REFERENCES tag_action ON DELETE CASCADE -- what is undone or corrected
);

CREATE UNIQUE INDEX tag_action_under_way ON tag_action (repository, tag) WHERE state IN ('planned', 'requested');
CREATE INDEX tag_action_due ON tag_action (due_at) WHERE due_at < 'infinity';
CREATE INDEX tag_action_watched ON tag_action (repository, tag, watched_until);
CREATE INDEX tag_action_trash ON tag_action (done_at, id) WHERE kind = 'delete' AND done_at IS NOT NULL;
CREATE INDEX tag_action_of_action ON tag_action (of_action) WHERE of_action IS NOT NULL;
CREATE INDEX tag_action_with_dummy ON tag_action (repository, dummy) WHERE dummy IS NOT NULL;
CREATE INDEX tag_action_of_job ON tag_action (job_id) WHERE job_id IS NOT NULL;

-- Requests that were sent for actions. The event of one carries the nonce in its user agent.
CREATE TABLE tag_action_request (
    action_id    uuid NOT NULL REFERENCES tag_action ON DELETE CASCADE,
    nonce        uuid NOT NULL,
    request_key  uuid,                                         -- the registry's id of the request, once its event came
    method       text NOT NULL,
    path         text NOT NULL,
    PRIMARY KEY (nonce, action_id)
);

CREATE INDEX tag_action_request_of_action ON tag_action_request (action_id);

-- Events of a tag while it is watched: ours, and those of others, whose pushes must not be lost.
CREATE TABLE tag_action_event (
    occurred_at   timestamptz NOT NULL,                        -- by the registry's clock
    action_id     uuid NOT NULL REFERENCES tag_action ON DELETE CASCADE,
    event_key     uuid NOT NULL,
    instance_id   integer NOT NULL REFERENCES registry_instance,
    ours          boolean NOT NULL,                            -- of a request that we sent, for this action or another
    announces     boolean NOT NULL,                            -- of one that we sent for this action
    digest        bytea,                                       -- what was pushed; null: a deletion
    actor         text,
    PRIMARY KEY (action_id, event_key)
);

-- Manifests of deleted tags, byte by byte, so that they can be put back.
CREATE TABLE kept_manifest (
    kept_at     timestamptz NOT NULL,
    digest      bytea PRIMARY KEY,
    media_type  text NOT NULL,
    content     bytea NOT NULL
);

CREATE TABLE trash_manifest (
    action_id  uuid NOT NULL REFERENCES tag_action ON DELETE CASCADE,
    position   integer NOT NULL,                               -- the order in which they are put back
    role       text NOT NULL CHECK (role IN ('child', 'tagged', 'referrer')),
    digest     bytea NOT NULL REFERENCES kept_manifest,
    PRIMARY KEY (action_id, position)
);

CREATE INDEX trash_manifest_by_digest ON trash_manifest (digest);

-- 0008_layers_by_blob

-- layers by blob --------------------------------------------------------------------------------------------

-- A layer that many manifests share, as base images are, takes six bytes of the index for each of them, not thirty: with the
-- blob alone as its key the index holds it once.
DROP INDEX manifest_layer_by_blob;
CREATE INDEX manifest_layer_by_blob ON manifest_layer (blob_id);

-- 0009_unlinking

-- unlinking manifests ----------------------------------------------------------------------------------------

-- A manifest that no tag needs any more is deleted by its digest. That is an action without a tag: tag is ''.
ALTER TABLE tag_action DROP CONSTRAINT tag_action_kind_check;
ALTER TABLE tag_action ADD CONSTRAINT tag_action_kind_check CHECK (kind IN ('delete', 'restore', 'put_back', 'unlink'));

DROP INDEX tag_action_under_way;
CREATE UNIQUE INDEX tag_action_under_way ON tag_action (repository, tag, (CASE WHEN tag = '' THEN digest END))
    NULLS NOT DISTINCT WHERE state IN ('planned', 'requested');
CREATE INDEX tag_action_of_manifest ON tag_action (repository, digest, watched_until) WHERE tag = '';

-- Of an action on a manifest: the tag that an event pushed it to. Null: by its digest, or the action is on a tag.
ALTER TABLE tag_action_event ADD COLUMN tag text COLLATE "C";

-- 0010_storage

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

-- 0011_manifests_of_repositories

-- manifests of repositories ------------------------------------------------------------------------------------

-- Two indexes had the same two columns, in either order. The one by repository first was half empty, since the manifests of
-- many repositories come in turns; by manifest first, they are added at its end. What a repository has is found by
-- repository_manifest_by_pushed, and what it had by the new index, which has the deleted ones alone.
ALTER TABLE repository_manifest DROP CONSTRAINT repository_manifest_pkey, ADD PRIMARY KEY (manifest_id, repository_id);
DROP INDEX repository_manifest_by_manifest;
CREATE INDEX repository_manifest_deleted ON repository_manifest (repository_id, deleted_at) WHERE deleted_at IS NOT NULL;

-- 0012_collections

-- plans of the registry's own collection of garbage --------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'gc.planned';

-- 0013_confirmations

-- confirmations ------------------------------------------------------------------------------------------------

-- A person confirmed that a deletion of ours lost no push, where nothing else could say.
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.confirmed';

CREATE INDEX tag_action_uncertain ON tag_action (asked_at, id) WHERE state = 'uncertain';

-- 0014_manifests_dated

-- manifests dated by late events ---------------------------------------------------------------------------------

-- When the repository was last known not to have the manifest, before pushed_at: an event of an older push that comes late
-- does not date this one. Null: not known. Almost every row is null, which takes no room.
ALTER TABLE repository_manifest ADD COLUMN absent_at timestamptz;

-- 0015_dead_letters

-- dead letters of feeds ---------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'operator.feed_discarded';

ALTER TABLE feed_dead_letter ADD COLUMN tries integer NOT NULL DEFAULT 1;            -- how often it was sent alone, the first time included
ALTER TABLE feed_dead_letter ADD COLUMN first_tried_at timestamptz;                  -- null: before this was recorded
ALTER TABLE feed_dead_letter ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now(); -- the last time
UPDATE feed_dead_letter SET tried_at = refused_at, tries = tries + attempts;
ALTER TABLE feed_dead_letter ALTER COLUMN first_tried_at SET DEFAULT now();

-- 0016_repairs

-- links of the registry's storage that were written again ---------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'storage.repaired';

-- 0017_collection_runs

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

-- 0018_own_requests_packed

-- our own requests, packed -----------------------------------------------------------------------------------------

-- Signatures of our own requests that an event has shown, two for each push. As rows they are kept for minutes; then those
-- that were issued in one minute are put together into one row of own_request_pack (docs/adr/0086).
ALTER TABLE own_request ADD COLUMN issued integer;  -- minutes since 1970, as the signature says; null: recorded before this
ALTER TABLE own_request SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE TABLE own_request_pack (
    first        bigint NOT NULL,     -- the smallest of `numbers`
    issued       integer NOT NULL,    -- as of own_request; what is packed later has a row of its own
    received_on  date NOT NULL,       -- as of own_request
    numbers      bigint[] NOT NULL,
    events       integer[] NOT NULL,  -- of each number, as of own_request
    PRIMARY KEY (issued, first)
);

ALTER TABLE own_request_pack ALTER COLUMN numbers SET STORAGE EXTERNAL, ALTER COLUMN events SET STORAGE EXTERNAL; -- random

-- 0019_pushed_again

-- manifests that are pushed again --------------------------------------------------------------------------------

-- When a manifest that the repository had was pushed again last. Somebody wants it, so cleanup leaves it alone. Null: never
-- since pushed_at. Almost every row is null, which takes no room.
ALTER TABLE repository_manifest ADD COLUMN pushed_again_at timestamptz;

-- 0020_trash_copies

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

-- 0021_bytes_of_tags

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

-- 0022_trash_of_manifests

-- manifests in the trash ----------------------------------------------------------------------------------------

-- Manifests that were deleted by their digest, newest first: they can be restored, too.
CREATE INDEX tag_action_unlinked ON tag_action (done_at, id) WHERE kind = 'unlink' AND done_at IS NOT NULL;
