"""Whether the newest checkpoint is pushed. Pure.

In this order:

1. What stands under ``latest`` is neither what was pushed nor a checkpoint of this log: nothing is pushed over it. It
   is somebody else's, or the log was put back to an earlier state, which is just what a checkpoint is there to show.
2. Nothing stands there: it is pushed, for the first time or again.
3. What stands there is the newest: nothing to do.
4. Since what stands there the log has entries about the checkpoints' own repository only: not yet. A push makes
   entries, and those a checkpoint: if these were reason enough to push, pushing would never end.
5. It is pushed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from indexer.oci.digest import Digest


@unique
class PushOutcome(StrEnum):
    """What becomes of the newest checkpoint, and why."""

    FOREIGN = "foreign"
    PUSHED = "pushed"
    PRESENT = "present"
    OWN_ENTRIES_ONLY = "own_entries_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What was signed last, and what is under ``latest``."""

    newest: Digest
    standing: Digest | None
    """Under ``latest``; None: nothing."""
    size: int | None
    """Of the checkpoint that it is; None: this log signed none that it could be."""
    others: bool
    """Whether the log has entries since about anything but the repository of the checkpoints."""


def decide(situation: Situation) -> PushOutcome:
    """Say what becomes of the newest checkpoint."""
    if situation.standing is None:
        return PushOutcome.PUSHED
    if situation.size is None:
        return PushOutcome.FOREIGN
    if situation.standing == situation.newest:
        return PushOutcome.PRESENT
    return PushOutcome.PUSHED if situation.others else PushOutcome.OWN_ENTRIES_ONLY
