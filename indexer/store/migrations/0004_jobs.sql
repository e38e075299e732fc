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
