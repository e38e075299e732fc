-- confirmations ------------------------------------------------------------------------------------------------

-- A person confirmed that a deletion of ours lost no push, where nothing else could say.
ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'cleanup.confirmed';

CREATE INDEX tag_action_uncertain ON tag_action (asked_at, id) WHERE state = 'uncertain';
