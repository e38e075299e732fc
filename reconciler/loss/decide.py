"""What a registry process's counters prove about lost events: none lost, at most so many, or unknown. Pure.

There is one account per process and debug address: the last reading, and how far events are accounted for. The rules,
in the order they apply to a new reading of the address:

1. No account of the address: one begins; nothing is stated about the time before.
2. It is another process, or that is uncertain, or a counter went back: what was not accounted for is *unknown*. A
   process queues events in memory, and events after its last reading were never counted.
3. Our inbox or a spool is not empty yet; or, for a minute after that, we have fewer events than were delivered, or do
   not know yet which instance the counters belong to: wait.
4. A process delivers in the order of its queue, and repeats a failed delivery for ever. So once it has delivered as
   many events as it had queued at the mark, every event up to the mark is accounted for:
   no new events: *nothing lost*;
   the instance is not known: *unknown*, unless no delivery was answered 202;
   successes other than our 202, or more 202s than events received: *at most* so many lost;
   otherwise *nothing lost*. This reading becomes the next mark; if nothing is pending, it is accounted for at once.

Received events are counted *before* the reading, so that one arriving in between cannot hide one that is missing. An
event whose 202 is still under way counts as missing, for the same reason.
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
"""Go's runtime remembers the ends of so many garbage collections."""

UNLINKED: Final = (
    "it is not known which registry instance these counters belong to: none sent us as many events"
)
ELSEWHERE: Final = "answered by something other than our endpoint (a redirect, a proxy)"
SHORT: Final = "answered 202, and not among the events applied here"

PATIENCE: Final = timedelta(minutes=1)
"""Deliveries under way are not lost yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One reading of our endpoint's counters at a debug address.

    ``blank``: there are none. Prometheus' text has an endpoint's counters from its first event on in 3.x, and never in
    2.8. So the process made no event, or nothing is known about its events.
    """

    at: datetime
    counters: EndpointCounters
    process: ProcessMark
    blank: bool = False

    @property
    def accepted(self) -> int:
        """Events answered 202, as only our endpoint answers."""
        return self.counters.statuses.get(ACCEPTED, 0)

    @property
    def elsewhere(self) -> int:
        """Events that count as delivered, and were not answered by our endpoint."""
        return max(0, self.counters.successes - self.accepted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Distinct events of one instance that we have, counted before and after a reading.

    ``complete``: no delivery received before the reading waits in the inbox or in a spool.
    """

    before: int
    after: int
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The account after a reading. ``ended``: the earlier account is closed, and this one is new."""

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
    """Compare a reading with the account.

    ``received``: None while the instance of the counters is not known; it is found by the number of events applied.
    ``caught_up``: no delivery received before the reading waits in the inbox or in a spool.
    """
    if account is None:
        return Decision(account=open_account(sample, address=address))
    broken = _broken(account, sample)
    if broken is not None:
        waiting = max(0, account.events - account.delivered)
        because = (
            f"{broken}; {waiting} events waited at its last reading, and events after that were not counted"
        )
        statement = LossStatement(
            state=LossState.UNKNOWN,
            from_at=account.accounted_until,
            to_at=sample.at,
            because=because,
            needs_reconcile=True,
            waiting_at_end=waiting,
        )
        return Decision(account=open_account(sample, address=address), statements=(statement,), ended=True)
    missing = account.missing if received is None else _missing(sample, received)
    # A delivery that waits in our inbox or a spool is not lost, however long it waits: patience begins after that.
    unlinked = received is None and _needs_instance(account, sample)
    under_way = not received.complete if received is not None else unlinked and not caught_up
    suspected = not under_way and (unlinked or (received is not None and missing))
    suspected_at = (account.suspected_at or sample.at) if suspected else None
    known = replace(
        account,
        read_at=sample.at,
        events=sample.counters.events,
        delivered=sample.counters.successes,
        accepted=sample.accepted,
        pending=sample.counters.pending,
        missing=missing,
        suspected_at=suspected_at,
        gc_cycles=sample.process.collections,
        last_gc_nanoseconds=sample.process.last_collected_at or account.last_gc_nanoseconds,
        process_start_seconds=sample.process.started_at,
        error=None,
    )
    if under_way or not _may_account(account, sample, suspected_at):
        return Decision(account=known)
    return _account(known, sample, received)


def open_account(sample: Sample, *, address: str) -> Account:
    """Return a new account: events pending now are still to be delivered, about earlier losses nothing is stated."""
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
        gc_cycles=sample.process.collections,
        last_gc_nanoseconds=sample.process.last_collected_at,
        process_start_seconds=sample.process.started_at,
        error=None,
    )


def find_instances(
    samples: Mapping[str, Sample], received: Mapping[int, Received], taken: Sequence[int]
) -> dict[str, int]:
    """Return the instance of each address's counters: the one that sent us as many events as were accepted.

    ``samples``: of addresses without an instance. The registry does not show its instance id beside the counters; both
    sides count from the process's start. Nothing is concluded where two addresses, or two instances, would fit.
    """
    fitting = {
        address: [
            number
            for number, count in received.items()
            if number not in taken and sample.accepted and count.before - 1 <= sample.accepted <= count.after
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
    """Return why the reading does not continue the account; None: it does."""
    counters = sample.counters
    if counters.events < account.events or counters.successes < account.delivered:
        return "the registry process ended: its counters began anew"
    same = _same_process(account, sample.process)
    if same is None:
        return "it is not certain that the registry process is still the same"
    return None if same else "the registry process ended: another one answers"


def _same_process(account: Account, now: ProcessMark) -> bool | None:
    if account.process_start_seconds is not None and now.started_at is not None:
        return account.process_start_seconds == now.started_at
    if account.last_gc_nanoseconds is None or now.last_collected_at is None:
        return None
    if account.last_gc_nanoseconds in now.collected_at:
        return True
    return None if now.collections >= account.gc_cycles + KEPT_COLLECTIONS else False


def _missing(sample: Sample, received: Received) -> int:
    under_way = 1 if sample.counters.events > sample.counters.successes else 0
    return max(0, sample.accepted + under_way - received.before)


def _needs_instance(account: Account, sample: Sample) -> bool:
    """Return whether events would be stated as unknown now only because the instance is not known."""
    everything = sample.counters.successes >= sample.counters.events
    made = (sample.counters.events if everything else account.mark_events) - account.accounted_events
    return made > 0 and sample.elsewhere <= account.accounted_lost


def _may_account(account: Account, sample: Sample, suspected_at: datetime | None) -> bool:
    if sample.counters.successes < account.mark_events:
        return False
    return suspected_at is None or sample.at - suspected_at >= PATIENCE


def _account(known: Account, sample: Sample, received: Received | None) -> Decision:
    """Account for events. New losses are the most that can be lost by now less the least that was lost before."""
    everything = sample.counters.successes >= sample.counters.events
    lost = max(0, sample.elsewhere + known.missing - known.accounted_lost)
    certain = sample.elsewhere + (max(0, sample.accepted - received.after) if received is not None else 0)
    until = sample.at if everything else known.mark_at
    made = (sample.counters.events if everything else known.mark_events) - known.accounted_events
    statement = (
        _state(
            known, sample, received, made=made, lost=lost, certain=certain > known.accounted_lost, until=until
        )
        if made
        else LossStatement(state=LossState.NOTHING_LOST, from_at=known.accounted_until, to_at=until)
    )
    accounted = replace(
        known,
        accounted_until=until,
        accounted_events=sample.counters.events if everything else known.mark_events,
        accounted_lost=certain if everything else known.mark_lost,
        mark_at=sample.at,
        mark_events=sample.counters.events,
        mark_lost=certain,
        suspected_at=None,
    )
    return Decision(account=accounted, statements=() if until == known.accounted_until else (statement,))


def _state(
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
            needs_reconcile=certain,
        )
    if lost > 0:
        because = ELSEWHERE if sample.elsewhere > known.accounted_lost else SHORT
        return LossStatement(
            state=LossState.AT_MOST,
            from_at=known.accounted_until,
            to_at=until,
            lost=lost,
            because=because,
            needs_reconcile=certain,
        )
    return LossStatement(state=LossState.NOTHING_LOST, from_at=known.accounted_until, to_at=until)
