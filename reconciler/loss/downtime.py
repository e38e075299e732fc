"""What our own downtime may have cost, registry instance by registry instance. Pure.

A door is open from its first instant to the last time it said so. Where the doors of all processes leave a gap,
nobody received. Distribution (2.8.2 and 3.1.1) tries a delivery for ever, and in order: so a gap alone loses
nothing, unless the registry process ended before it could deliver. A process whose last word is a few seconds old may
be alive and about to speak again: a gap after it is believed only then. The rules, in the order they apply to an
instance that was heard before the gap ended:

1. Another process had taken its address before the gap, or it had been silent for a day and is not the last that
   was heard: it is not taken for alive, and nothing is said.
2. Counters that are its own were read before the gap and after it: they say what was lost (``decide``). They
   are given half a minute to be read again, and to be known as its own. What is claimed here is taken back where they
   are later (``store/loss.py``): of one time there are never two claims.
3. It was heard since: it outlived the gap, and what waits is still to come. Unknown all the same, since nobody
   counted what something else, a proxy for instance, may have answered in our place. No walk is called for.
4. It stays silent as long: unknown, and a walk is called for. It may have ended with what it held.
   Until then: wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.loss import Downtime, LossState, LossStatement, ReceiverSession, Witness

PATIENCE: Final = timedelta(seconds=30)
"""A registry whose delivery was refused tries again after its ``backoff``, a second unless configured."""

SPEAKS_AGAIN: Final = timedelta(seconds=10)
"""A process of the server says every two seconds that it receives; on a machine that is busy it takes longer."""

ALIVE: Final = timedelta(days=1)

AWAY: Final = "no indexer was receiving"
OUTLIVED: Final = (
    f"{AWAY}; the registry process outlived that and tries for ever, "
    "but its counters are not read, so that nobody knows whether something else answered in our place"
)
SILENT: Final = f"{AWAY}; the registry process was not heard since, and if it ended, what it held is gone"


def downtimes(sessions: Iterable[ReceiverSession]) -> list[Downtime]:
    """Return the gaps that doors leave between them, the oldest first."""
    found: list[Downtime] = []
    until: datetime | None = None
    for session in sorted(sessions, key=lambda each: each.opened_at):
        if until is not None and session.opened_at > until:
            found.append(Downtime(from_at=until, to_at=session.opened_at))
        until = session.open_at if until is None else max(until, session.open_at)
    return found


def after_downtime(
    downtime: Downtime, witnesses: Sequence[Witness], *, now: datetime, some_unlinked: bool = False
) -> Mapping[int, LossStatement] | None:
    """Return what is claimed of a downtime, by instance; None: it is too early to tell.

    ``some_unlinked``: counters are read of which it is not known yet whose they are.
    """
    if now < downtime.from_at + SPEAKS_AGAIN:
        return None
    claims: dict[int, LossStatement] = {}
    for witness in _alive(downtime, witnesses):
        if _counted(downtime, witness):
            continue
        announced = witness.last_seen_at >= downtime.to_at
        counted = witness.counted_from
        to_be_read = some_unlinked if counted is None else counted <= downtime.from_at
        if now < downtime.to_at + PATIENCE and (to_be_read or not announced):
            return None
        claims[witness.id] = LossStatement(
            state=LossState.UNKNOWN,
            from_at=downtime.from_at,
            to_at=downtime.to_at,
            because=OUTLIVED if announced else SILENT,
            reconcile=not announced,
        )
    return claims


def _counted(downtime: Downtime, witness: Witness) -> bool:
    return (
        witness.counted_from is not None
        and witness.counted_to is not None
        and witness.counted_from <= downtime.from_at
        and witness.counted_to >= downtime.to_at
    )


def _alive(downtime: Downtime, witnesses: Sequence[Witness]) -> list[Witness]:
    """Return the instances that may have lived when the downtime began."""
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
