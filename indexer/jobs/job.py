"""A job: everything that a person, a policy or GitLab asks for has this shape.

(none) ──asked for──▶ waiting ──a process takes it──▶ running ──▶ done, failed, cancelled
                         ▲ ▲                            │ │
                         │ └─ registry or database ─────┘ │
                         │    away, process stopped       │
                         └──── pause over ── paused ◀─────┘ nothing may act just now
waiting, paused ──cancelled──▶ cancelled
running ──its lease runs out──▶ running, in another process
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.oci.reference import RepositoryName

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@unique
class JobState(StrEnum):
    """How far a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How much is done, of how much in all (None: not known), in which unit, and what is being done."""

    done: int
    total: int | None
    unit: str
    message: str = ""

    def show(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"done": self.done, "total": self.total, "unit": self.unit, "message": self.message}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for, and by whom.

    - ``acts``: it changes the registry. ``repositories``: which it is about; None: the whole registry.
    - ``asked_by``: a person's name, or that of a policy (``by_policy``); ``asked_from``: the client's address or the
      machine; ``asked_with``: the command, or method and path.
    - ``bounds``: patterns of the asking token that bind the job, see ``rights``.
    """

    kind: str
    acts: bool
    params: Mapping[str, Any]
    repositories: Sequence[RepositoryName] | None
    asked_by: str
    asked_from: str
    asked_with: str
    by_policy: bool = False
    reason: str | None = None
    bounds: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is on record. ``note``: why it does not get on just now."""

    number: int
    id: uuid.UUID
    kind: str
    state: JobState
    acts: bool
    params: Mapping[str, Any]
    repositories: Sequence[RepositoryName] | None
    asked_by: str
    asked_from: str
    asked_with: str
    by_policy: bool
    reason: str | None
    bounds: Mapping[str, Any]
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    not_before: datetime | None
    tries: int
    progress: Mapping[str, Any] | None
    checkpoint: Mapping[str, Any] | None
    note: str | None
    result: Mapping[str, Any] | None
    error: str | None
    cancel_asked_at: datetime | None
    cancelled_by: str | None
    worker: str | None

    def show(self) -> dict[str, Any]:
        """Return it as API and command line show it."""
        return {
            "id": str(self.id),
            "kind": self.kind,
            "state": self.state.value,
            "repositories": None if self.repositories is None else list(self.repositories),
            "params": dict(self.params),
            "asked_by": self.asked_by,
            "reason": self.reason,
            "created_at": format_time(self.created_at),
            "started_at": format_time(self.started_at),
            "ended_at": format_time(self.ended_at),
            "progress": self.progress,
            "note": self.note,
            "cancel_asked_at": format_time(self.cancel_asked_at),
            "cancelled_by": self.cancelled_by,
            "result": self.result,
            "error": self.error,
        }


def new_job_id(at: datetime, random: bytes) -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562 section 5.7) of an instant and ten random bytes."""
    milliseconds = (at - _EPOCH) // _MILLISECOND
    number = int.from_bytes(milliseconds.to_bytes(6, "big") + random[:10], "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=number & ~(0x3 << 62) | 0x2 << 62)
