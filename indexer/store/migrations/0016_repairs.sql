-- links of the registry's storage that were written again ---------------------------------------------------------

ALTER TYPE audit_action ADD VALUE IF NOT EXISTS 'storage.repaired';
