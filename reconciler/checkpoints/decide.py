"""Whether the newest checkpoint is pushed. Pure.

The rules, in the order they apply to the manifest under ``latest``:

1. It is neither what was pushed nor a checkpoint of this log: nothing is pushed over it. It is somebody else's, or the
   log was restored to an earlier state, which checkpoints exist to prove.
2. There is none: the newest checkpoint is pushed, for the first time or again.
3. It is the newest checkpoint: nothing to do.
4. All later entries of the log are about the checkpoints' own repository: not pushed yet. A push makes entries, and
   those a new checkpoint; if that were a reason to push, pushing would never end.
5. Otherwise the newest checkpoint is pushed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from indexer.oci.digest import Digest


@unique
class PushOutcome(StrEnum):
    """What happens to the newest checkpoint, and why."""

    FOREIGN = "foreign"
    PUSHED = "pushed"
    PRESENT = "present"
    OWN_ENTRIES_ONLY = "own_entries_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The newest checkpoint, and what is under ``latest``."""

    newest: Digest
    present: Digest | None
    """The digest under ``latest``; None: there is none."""
    size: int | None
    """The entries of the checkpoint under ``latest``; None: it is no checkpoint that this log signed."""
    others: bool
    """Whether the log has later entries about other repositories than that of the checkpoints."""


def decide(situation: Situation) -> PushOutcome:
    """Return what happens to the newest checkpoint."""
    if situation.present is None:
        return PushOutcome.PUSHED
    if situation.size is None:
        return PushOutcome.FOREIGN
    if situation.present == situation.newest:
        return PushOutcome.PRESENT
    return PushOutcome.PUSHED if situation.others else PushOutcome.OWN_ENTRIES_ONLY
