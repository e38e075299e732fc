"""Erases people: one of them, or all before a day. The leaves stay what they were (docs/adr/0026).

Day by day, each day in one transaction that keeps the sealer away: at no instant does an entry lack a value whose salt
is still there. Cut off, it is done again and goes on where it was. Who is erased is forgotten by every table of
ours, but raw deliveries, which go by their own age.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from indexer.common.errors import CallerError, StoreError
from indexer.inventory.changes import AuditAction
from indexer.store import erasure
from indexer.store.erasure import OlderTransaction
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Pool, connection, transaction

POLL_SECONDS = 0.05
SAID_EVERY_SECONDS = 5.0
DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was erased, or would be: sealed entries, on so many days."""

    entries: int
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whom:
    """Who is to be erased: one or (None) everybody, before a day or (None) ever."""

    actor_id: int | None
    before: date | None


async def plan_erasure(pool: Pool, *, actor: str | None, before: date | None) -> Erased:
    """Return what :func:`erase` would erase."""
    async with connection(pool) as held:
        actor_id = None if actor is None else await erasure.actor_to_erase(held, name=actor)
        if actor is not None and actor_id is None:
            raise _nobody()
        days = await erasure.days_to_erase(held, actor_id=actor_id, before=before)
        entries = await erasure.entries_to_erase(held, actor_id=actor_id, before=before)
    return Erased(entries=entries, days=len(days))


async def erase(
    pool: Pool,
    *,
    actor: str | None,
    before: date | None,
    operator: Operator,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Erased:
    """Erase one person (``actor``), or everybody before a day; returns once nobody can see them any more.

    ``pool`` should set statements no limit: a day of a busy registry is one statement. ``on_wait`` hears whom we wait
    for. Raises ``CallerError`` where there is no such person, ``StoreError`` where somebody does not come to an end.
    """
    async with connection(pool) as held:
        actor_id = None if actor is None else await erasure.actor_to_erase(held, name=actor)
        if actor is not None and actor_id is None:
            raise _nobody()
        days = await erasure.days_to_erase(held, actor_id=actor_id, before=before)
    whom = _Whom(actor_id=actor_id, before=before)
    entries, done = 0, set[date]()
    for day in days:
        erased, _, _ = await _erase_days(pool, whom, [day], at_last=False)
        entries, done = entries + erased, done | {day}
    # What was sealed meanwhile, what waits, and the name: from here on this person is somebody new.
    erased, last, number = await _erase_days(pool, whom, None, at_last=True)
    entries, done = entries + erased, done | last
    await _until_over(pool, number, on_wait)
    async with transaction(pool) as held:
        await erasure.forget_clients(held)
    async with connection(pool) as held:
        repositories = await erasure.repositories_to_erase(held, actor_id=actor_id, before=before)
    for repository in repositories:
        async with transaction(pool) as held:
            await erasure.erase_repository(held, repository_id=repository, actor_id=actor_id, before=before)
    async with transaction(pool) as held:
        await record_action(
            held,
            action=AuditAction.OPERATOR_PEOPLE_ERASED,
            operator=operator,
            at=datetime.now(UTC),
            detail={
                "of": "everybody" if actor is None else "one",
                "before": None if before is None else before.isoformat(),
                "entries": entries,
                "days": len(done),
            },
        )
    return Erased(entries=entries, days=len(done))


async def _erase_days(
    pool: Pool, whom: _Whom, days: Sequence[date] | None, *, at_last: bool
) -> tuple[int, set[date], str]:
    """Erase days, None: all there are, in one transaction; return how many entries, on which days, and its number."""
    entries = 0
    async with transaction(pool) as held:
        await erasure.begin_erasure(held)
        if at_last:
            await erasure.erase_waiting(held, actor_id=whom.actor_id, before=whom.before)
        if days is None:
            days = await erasure.days_to_erase(held, actor_id=whom.actor_id, before=whom.before)
        for day in days:
            entries += await erasure.erase_day(held, actor_id=whom.actor_id, day=day)
        if at_last and whom.actor_id is not None:
            await erasure.forget_name(held, actor_id=whom.actor_id)
        number = await erasure.transaction_id(held)
    return entries, set(days), number


async def _until_over(pool: Pool, number: str, on_wait: Callable[[str], None]) -> None:
    """Wait for whoever began before us, and may still use an id that he had cached; say whom, and not for ever.

    Raises ``StoreError`` at the deadline.
    """
    began = said_at = time.monotonic()
    async with connection(pool) as held:
        while older := await erasure.older_transactions(held, transaction=number):
            now = time.monotonic()
            whom = _named(older[0])
            if now - began > DEADLINE_SECONDS:
                raise StoreError(
                    f"the log is erased, but not the clients' addresses: {whom} is still under way after "
                    f"{DEADLINE_SECONDS:.0f} s and may use them; end it, and erase again"
                )
            if now - said_at >= SAID_EVERY_SECONDS:
                said_at = now
                on_wait(f"waiting for {whom}, which may still use what is erased")
            await asyncio.sleep(POLL_SECONDS)


def _named(older: OlderTransaction) -> str:
    since = "" if older.since is None else f" since {older.since:%Y-%m-%d %H:%M:%S}Z"
    return (
        f"the transaction of process {older.pid} of the server ({older.program or 'of another user'}){since}"
    )


def _nobody() -> CallerError:
    return CallerError("there is nobody of that name", status=404, code="not_found")
