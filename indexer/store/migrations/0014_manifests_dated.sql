-- manifests dated by late events ---------------------------------------------------------------------------------

-- When the repository was last known not to have the manifest, before pushed_at: an event of an older push that comes late
-- does not date this one. Null: not known. Almost every row is null, which takes no room.
ALTER TABLE repository_manifest ADD COLUMN absent_at timestamptz;
