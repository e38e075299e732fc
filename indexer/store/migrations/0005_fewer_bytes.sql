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
