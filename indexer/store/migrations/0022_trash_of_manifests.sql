-- manifests in the trash ----------------------------------------------------------------------------------------

-- Manifests that were deleted by their digest, newest first: they can be restored, too.
CREATE INDEX tag_action_unlinked ON tag_action (done_at, id) WHERE kind = 'unlink' AND done_at IS NOT NULL;
