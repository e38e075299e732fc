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
