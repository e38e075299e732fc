-- fewer bytes -----------------------------------------------------------------------------------------------

-- Bodies are compressed in their row, also those far below two thousand bytes (docs/adr/0077). MAIN: nothing is moved out of
-- the row unless a page cannot hold it.
ALTER TABLE inbox
    ALTER COLUMN body SET STORAGE MAIN,
    ALTER COLUMN content_type SET STORAGE MAIN,
    ALTER COLUMN content_encoding SET STORAGE MAIN,
    ALTER COLUMN last_error SET STORAGE MAIN,
    SET (toast_tuple_target = 128);

-- What a burst leaves behind is given back a minute after it, however small it was.
ALTER TABLE inbox SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE audit_staged SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE work_item SET (autovacuum_vacuum_threshold = 1000);
ALTER TABLE tag SET (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.005);

-- Which event had the signature: half of the event's id. So an event of our own is not in applied_event as well, and one that
-- is delivered again is told from another with the same signature. Null: recorded before this migration.
ALTER TABLE own_request ADD COLUMN event bigint;

-- image details ---------------------------------------------------------------------------------------------

-- Version of the operating system, as the image's own config says; images for Windows differ in it.
ALTER TABLE manifest ADD COLUMN os_version text;
