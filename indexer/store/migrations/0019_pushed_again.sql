-- manifests that are pushed again --------------------------------------------------------------------------------

-- When a manifest that the repository had was pushed again last. Somebody wants it, so cleanup leaves it alone. Null: never
-- since pushed_at. Almost every row is null, which takes no room.
ALTER TABLE repository_manifest ADD COLUMN pushed_again_at timestamptz;
