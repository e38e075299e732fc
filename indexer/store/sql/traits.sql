-- name: find_traits
-- The known traits of the registry.
SELECT trait, holds, because, changed_at, observed_at FROM registry_trait

-- name: note_trait
-- Records at $4 whether ($2) the registry has trait $1, by evidence $3.
INSERT INTO registry_trait (trait, holds, because, changed_at, observed_at) VALUES ($1, $2, $3, $4, $4)
ON CONFLICT (trait) DO UPDATE
SET holds = excluded.holds,
    because = excluded.because,
    changed_at = CASE WHEN registry_trait.holds = excluded.holds THEN registry_trait.changed_at
                      ELSE excluded.changed_at END,
    observed_at = excluded.observed_at
