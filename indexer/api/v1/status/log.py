"""The audit log: entries without a position, and whether the log is what was signed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from indexer.api.models import Shown
from indexer.audit.verify import VerifyFault
from indexer.common.rfc3339 import format_time
from indexer.store.checkpoints import Conflict, Pushed, Signed
from indexer.store.self_check import CheckState


class Unsealed(Shown):
    """Audit entries that have no position yet."""

    entries: int
    since: datetime | None


class AuditDamage(Shown):
    """An entry, or the tree as a whole, that is not what was sealed."""

    position: int = Field(description="Of the first such entry; 0: it is the tree as a whole.")
    fault: VerifyFault
    what: str
    found_at: datetime


class AuditConflict(Shown):
    """A checkpoint elsewhere that this log does not continue: the database was restored, or the log is another one."""

    place: str = Field(
        description="Where the checkpoint is: a file of a server, or a repository of the registry."
    )
    found_at: datetime
    what: str


class AuditProof(Shown):
    """Whether the log is what was sealed and signed."""

    signed_position: int = Field(description="Position of the newest entry that a checkpoint covers.")
    signed_at: datetime | None
    pushed_position: int = Field(
        description="The same for the checkpoint that was pushed into the registry last; 0: none was."
    )
    pushed_at: datetime | None
    pushed_to: str | None = Field(description="The repository.")
    checked_position: int = Field(
        description="Position up to which the current or last comparison with the tree has come."
    )
    checked_at: datetime | None = Field(description="When the whole log was last compared with its tree.")
    damaged: int = Field(description="Entries that differ from the tree, at most 1,000.")
    first_damage: AuditDamage | None
    conflicts: list[AuditConflict] = Field(description="Found within the last hour; at most 20.")


def show_proof(
    signed: Signed | None, pushed: Pushed | None, checked: CheckState, conflicts: Sequence[Conflict]
) -> dict[str, Any]:
    """Return an :class:`AuditProof` for the response."""
    first = checked.first
    return {
        "signed_position": 0 if signed is None else signed.size,
        "signed_at": None if signed is None else format_time(signed.signed_at),
        "pushed_position": 0 if pushed is None else pushed.size,
        "pushed_at": None if pushed is None else format_time(pushed.pushed_at),
        "pushed_to": None if pushed is None else pushed.repository,
        "checked_position": checked.current.position,
        "checked_at": format_time(checked.current.pass_ended_at),
        "damaged": checked.damaged,
        "first_damage": None
        if first is None
        else {
            "position": first.position,
            "fault": first.fault,
            "what": first.what,
            "found_at": format_time(checked.found_at),
        },
        "conflicts": [
            {"place": one.place, "found_at": format_time(one.found_at), "what": one.what} for one in conflicts
        ],
    }
