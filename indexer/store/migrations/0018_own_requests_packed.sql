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
