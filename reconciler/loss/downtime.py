"""What our own downtime may have lost, for each registry instance. Pure.

A receiver session lasts from its start to its last heartbeat. A downtime is a gap between the sessions of all
processes. Distribution (2.8.2 and 3.1.1) repeats a failed delivery for ever and keeps the order, so a downtime alone
loses nothing, unless the registry process ended before it could deliver. A session whose last heartbeat is a few
seconds old may still be alive, so a gap after it counts only later (``SPEAKS_AGAIN``). The rules, in the order they
apply to an instance that sent events before the downtime ended:

1. Another instance had taken its address before the downtime; or it had sent nothing for a day, and is not the last
   that did: it is considered ended before, and nothing is stated.
2. Its own counters were read before the downtime and after it: they show what was lost (``decide``). They have half a
   minute to be read again, and to be linked to the instance. A statement made here is withdrawn where counters cover
   the time later (``store/loss.py``): there are never two statements about one time.
3. It has sent events since: the process outlived the downtime, and repeats what it could not deliver. Still unknown:
   something else, a proxy for example, may have answered in our place, and nobody counted that. No run is needed.
4. It sends nothing for half a minute: unknown, and a run is needed. It may have ended and lost its queue.
   Until then: wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.loss import Downtime, InstanceRecord, LossState, LossStatement, ReceiverSession

PATIENCE: Final = timedelta(seconds=30)
"""A registry repeats a refused delivery after its ``backoff``, by default a second."""

SPEAKS_AGAIN: Final = timedelta(seconds=10)
"""A server's heartbeat comes every two seconds; on a busy machine it takes longer."""

ALIVE: Final = timedelta(days=1)

AWAY: Final = "no indexer was receiving"
OUTLIVED: Final = (
    f"{AWAY}; the registry process outlived that and repeats its deliveries, "
    "but its counters are not read, so it is not known whether something else answered in our place"
)
SILENT: Final = (
    f"{AWAY}; the registry process sent nothing in the half minute after that, "
    "and if it had ended, its queue is lost"
)


def downtimes(sessions: Iterable[ReceiverSession]) -> list[Downtime]:
    """Return the gaps between receiver sessions, the oldest first."""
    found: list[Downtime] = []
    until: datetime | None = None
    for session in sorted(sessions, key=lambda each: each.opened_at):
        if until is not None and session.opened_at > until:
            found.append(Downtime(from_at=until, to_at=session.opened_at))
        until = session.heartbeat_at if until is None else max(until, session.heartbeat_at)
    return found


def after_downtime(
    downtime: Downtime, witnesses: Sequence[InstanceRecord], *, now: datetime, some_unlinked: bool = False
) -> Mapping[int, LossStatement] | None:
    """Return the statements about a downtime, by instance id; None: it is too early.

    ``some_unlinked``: counters are read whose instance is not known yet.
    """
    if now < downtime.from_at + SPEAKS_AGAIN:
        return None
    statements: dict[int, LossStatement] = {}
    for witness in _alive(downtime, witnesses):
        if _counted(downtime, witness):
            continue
        announced = witness.last_seen_at >= downtime.to_at
        counted = witness.counted_from
        to_be_read = some_unlinked if counted is None else counted <= downtime.from_at
        if now < downtime.to_at + PATIENCE and (to_be_read or not announced):
            return None
        statements[witness.id] = LossStatement(
            state=LossState.UNKNOWN,
            from_at=downtime.from_at,
            to_at=downtime.to_at,
            because=OUTLIVED if announced else SILENT,
            needs_reconcile=not announced,
        )
    return statements


def _counted(downtime: Downtime, witness: InstanceRecord) -> bool:
    return (
        witness.counted_from is not None
        and witness.counted_to is not None
        and witness.counted_from <= downtime.from_at
        and witness.counted_to >= downtime.to_at
    )


def _alive(downtime: Downtime, witnesses: Sequence[InstanceRecord]) -> list[InstanceRecord]:
    """Return the instances that may have been running when the downtime began."""
    concerned = [each for each in witnesses if each.first_seen_at < downtime.to_at]
    if not concerned:
        return []
    last = max(concerned, key=lambda each: each.last_seen_at)
    return [
        each
        for each in concerned
        if (each is last or each.last_seen_at >= downtime.from_at - ALIVE)
        and not any(
            other.address == each.address and each.last_seen_at < other.first_seen_at < downtime.from_at
            for other in concerned
        )
    ]
