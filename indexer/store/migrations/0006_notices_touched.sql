-- write notices: what a verification of them is worth, and whose they are ------------------------------------------

-- An event that is applied after the registry was asked may be older than its answer: it takes the verification back.
ALTER TABLE write_notice ADD COLUMN touched bigint NOT NULL DEFAULT 0;  -- how many events of the reference were applied
ALTER TABLE write_notice ADD COLUMN address bytea NOT NULL DEFAULT '';  -- a hash of the client's address

-- Rows with the reference '**' are no writes: a question wants the names of all tags of the repository compared (id 'names'),
-- or all tags ('compare').

CREATE INDEX write_notice_by_reference ON write_notice (repository, reference);
CREATE INDEX write_notice_by_address ON write_notice (repository, address);
