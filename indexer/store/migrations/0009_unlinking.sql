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
