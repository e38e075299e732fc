-- plans of the registry's own collection of garbage --------------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'gc.planned';
