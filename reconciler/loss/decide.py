"""What can be claimed of a registry process's events: nothing lost, at most so many, or unknown. Pure.

One account per process and debug address. The rules, in the order they apply to a new reading of the address:

1. Nothing on record of the address: an account begins; of what was before nothing is claimed.
2. It is another process, or that cannot be told, or a counter went back: what the account had not settled is
   *unknown*, since the queue lives in memory and what it held after the last reading nobody counted.
3. Our inbox or a spool is not empty yet, or (for a minute after that) we hold fewer events than were delivered, or
   cannot tell yet whose counters these are: wait.
4. The process delivers in the order it queues, and never gives up. So once it delivered as many as it had
   queued at the mark, everything made up to the mark is settled:
   nothing new was made: *nothing lost*;
   it is not known whose counters these are: *unknown*, unless no delivery was answered 202;
   successes other than our 202, or more 202s than we hold events: *at most* so many lost;
   else *nothing lost*. The next mark is this reading, or this reading is settled at once if nothing waits.

What we hold is counted *before* the reading: what arrives in between must not hide what is missing. An event
that was received while its 202 is still on the way is held against us, for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from indexer.inventory.loss import Account, LossState, LossStatement
from reconciler.registry.endpoint_counters import EndpointCounters, ProcessMark

ACCEPTED: Final = 202
KEPT_COLLECTIONS: Final = 256
"""Go remembers so many ends of collections."""

UNLINKED: Final = "it cannot be told which instance these counters are of: none sent us as many events"
ELSEWHERE: Final = "answered by something else than our door (a redirect, a proxy)"
SHORT: Final = "answered 202, and not among the events applied here"

PATIENCE: Final = timedelta(minutes=1)
"""Deliveries under way are no loss yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of our endpoint's counters at a debug address.

    ``blank``: there are none. Prometheus' text has an endpoint's from its first event on in 3.x, and never in 2.8:
    so this is a process that made nothing, or one of which nothing is known.
    """

    at: datetime
    counters: EndpointCounters
    process: ProcessMark
    blank: bool = False

    @property
    def accepted(self) -> int:
        """Answered 202, as our door and no redirect does."""
        return self.counters.statuses.get(ACCEPTED, 0)

    @property
    def elsewhere(self) -> int:
        """Taken for delivered, and not answered by our door."""
        return max(0, self.counters.successes - self.accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Distinct events of one instance, counted before and after a reading.

    ``complete``: nothing received before waits in the inbox or in a spool.
    """

    before: int
    after: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The account after a reading. ``ended``: the account before it is closed, and this is a new one."""

    account: Account
    statements: tuple[LossStatement, ...] = ()
    ended: bool = False


def decide(
    account: Account | None,
    sample: Sample,
    *,
    address: str,
    received: Received | None,
    caught_up: bool = True,
) -> Decision:
    """Hold a reading against the account; ``received`` is None while nobody knows whose counters these are.

    ``caught_up``: nothing received before waits in the inbox or in a spool. Whose counters these are is found out by
    what was applied.
    """
    if account is None:
        return Decision(account=open_account(sample, address=address))
    broken = _broken(account, sample)
    if broken is not None:
        waiting = max(0, account.events - account.delivered)
        because = f"{broken}; {waiting} waited when it was last read, and what came after was not counted"
        statement = LossStatement(
            state=LossState.UNKNOWN,
            from_at=account.accounted_until,
            to_at=sample.at,
            because=because,
            reconcile=True,
            waited=waiting,
        )
        return Decision(account=open_account(sample, address=address), statements=(statement,), ended=True)
    missing = account.missing if received is None else _missing(sample, received)
    # What waits here, in the inbox or in a spool, is no loss however long it takes: patience begins after it.
    nobodys = received is None and _would_be_nobodys(account, sample)
    under_way = not received.complete if received is not None else nobodys and not caught_up
    doubtful = not under_way and (nobodys or (received is not None and missing))
    suspected_at = (account.suspected_at or sample.at) if doubtful else None
    known = replace(
        account,
        read_at=sample.at,
        events=sample.counters.events,
        delivered=sample.counters.successes,
        accepted=sample.accepted,
        pending=sample.counters.pending,
        missing=missing,
        suspected_at=suspected_at,
        collections=sample.process.collections,
        collected_at=sample.process.last_collected_at or account.collected_at,
        started_at=sample.process.started_at,
        error=None,
    )
    if under_way or not _may_account(account, sample, suspected_at):
        return Decision(account=known)
    return _settle(known, sample, received)


def open_account(sample: Sample, *, address: str) -> Account:
    """Begin: what waits now is still to be delivered, what was lost before is not spoken of."""
    return Account(
        id=0,
        address=address,
        instance_id=None,
        began_at=sample.at,
        read_at=sample.at,
        accounted_until=sample.at,
        mark_at=sample.at,
        suspected_at=None,
        events=sample.counters.events,
        delivered=sample.counters.successes,
        accepted=sample.accepted,
        pending=sample.counters.pending,
        mark_events=sample.counters.events,
        mark_lost=sample.elsewhere,
        accounted_lost=sample.elsewhere,
        accounted_events=sample.counters.successes,
        missing=0,
        collections=sample.process.collections,
        collected_at=sample.process.last_collected_at,
        started_at=sample.process.started_at,
        error=None,
    )


def find_instances(
    samples: Mapping[str, Sample], received: Mapping[int, Received], taken: Sequence[int]
) -> dict[str, int]:
    """Tell whose counters these are: the one instance of which we hold as many events as were accepted.

    ``samples`` of addresses without an instance. The registry itself never says; both sides count from the
    process's start. Nothing is concluded where two processes, or two instances, would fit.
    """
    fitting = {
        address: [
            number
            for number, held in received.items()
            if number not in taken and sample.accepted and held.before - 1 <= sample.accepted <= held.after
        ]
        for address, sample in samples.items()
    }
    claims = [number for numbers in fitting.values() for number in numbers]
    return {
        address: numbers[0]
        for address, numbers in fitting.items()
        if len(numbers) == 1 and claims.count(numbers[0]) == 1
    }


def _broken(account: Account, sample: Sample) -> str | None:
    """Return why the reading does not continue the account, if so."""
    counters = sample.counters
    if counters.events < account.events or counters.successes < account.delivered:
        return "the registry process ended: its counters began anew"
    same = _same_process(account, sample.process)
    if same is None:
        return "it cannot be told whether the registry process is still the same"
    return None if same else "the registry process ended: another one answers"


def _same_process(account: Account, now: ProcessMark) -> bool | None:
    if account.started_at is not None and now.started_at is not None:
        return account.started_at == now.started_at
    if account.collected_at is None or now.last_collected_at is None:
        return None
    if account.collected_at in now.collected_at:
        return True
    return None if now.collections >= account.collections + KEPT_COLLECTIONS else False


def _missing(sample: Sample, received: Received) -> int:
    under_way = 1 if sample.counters.events > sample.counters.successes else 0
    return max(0, sample.accepted + under_way - received.before)


def _would_be_nobodys(account: Account, sample: Sample) -> bool:
    """Tell whether settling now would leave events unknown for no other reason than that their sender is."""
    everything = sample.counters.successes >= sample.counters.events
    made = (sample.counters.events if everything else account.mark_events) - account.accounted_events
    return made > 0 and sample.elsewhere <= account.accounted_lost


def _may_account(account: Account, sample: Sample, suspected_at: datetime | None) -> bool:
    if sample.counters.successes < account.mark_events:
        return False
    return suspected_at is None or sample.at - suspected_at >= PATIENCE


def _settle(known: Account, sample: Sample, received: Received | None) -> Decision:
    """Claim what is settled. New losses are the most that can be gone now less the least that was gone then."""
    everything = sample.counters.successes >= sample.counters.events
    lost = max(0, sample.elsewhere + known.missing - known.accounted_lost)
    certain = sample.elsewhere + (max(0, sample.accepted - received.after) if received is not None else 0)
    until = sample.at if everything else known.mark_at
    made = (sample.counters.events if everything else known.mark_events) - known.accounted_events
    statement = (
        _claim(
            known, sample, received, made=made, lost=lost, certain=certain > known.accounted_lost, until=until
        )
        if made
        else LossStatement(state=LossState.NOTHING_LOST, from_at=known.accounted_until, to_at=until)
    )
    settled = replace(
        known,
        accounted_until=until,
        accounted_events=sample.counters.events if everything else known.mark_events,
        accounted_lost=certain if everything else known.mark_lost,
        mark_at=sample.at,
        mark_events=sample.counters.events,
        mark_lost=certain,
        suspected_at=None,
    )
    return Decision(account=settled, statements=() if until == known.accounted_until else (statement,))


def _claim(
    known: Account,
    sample: Sample,
    received: Received | None,
    *,
    made: int,
    lost: int,
    certain: bool,
    until: datetime,
) -> LossStatement:
    if received is None and lost < made:
        because = UNLINKED if not lost else f"{UNLINKED}; and {lost} were {ELSEWHERE}"
        return LossStatement(
            state=LossState.UNKNOWN,
            from_at=known.accounted_until,
            to_at=until,
            because=because,
            reconcile=certain,
        )
    if lost > 0:
        because = ELSEWHERE if sample.elsewhere > known.accounted_lost else SHORT
        return LossStatement(
            state=LossState.AT_MOST,
            from_at=known.accounted_until,
            to_at=until,
            lost=lost,
            because=because,
            reconcile=certain,
        )
    return LossStatement(state=LossState.NOTHING_LOST, from_at=known.accounted_until, to_at=until)
