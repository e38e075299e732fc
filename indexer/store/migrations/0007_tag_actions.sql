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
