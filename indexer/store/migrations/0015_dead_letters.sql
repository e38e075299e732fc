-- dead letters of feeds ---------------------------------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'operator.feed_discarded';

ALTER TABLE feed_dead_letter ADD COLUMN tries integer NOT NULL DEFAULT 1;            -- how often it was sent alone, the first time included
ALTER TABLE feed_dead_letter ADD COLUMN first_tried_at timestamptz;                  -- null: before this was recorded
ALTER TABLE feed_dead_letter ADD COLUMN tried_at timestamptz NOT NULL DEFAULT now(); -- the last time
UPDATE feed_dead_letter SET tried_at = refused_at, tries = tries + attempts;
ALTER TABLE feed_dead_letter ALTER COLUMN first_tried_at SET DEFAULT now();
