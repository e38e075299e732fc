"""Erases people: one of them, or all before a day. The leaves stay what they were (docs/adr/0026).

Day by day, each day in one transaction that keeps the sealer away: at no instant does an entry lack a value whose salt
is still there. Interrupted, it is done again and goes on where it was. Who is erased is forgotten by every table of
ours, but raw deliveries, which go by their own age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from indexer.errors import CallerError
from indexer.inventory.changes import AuditAction
from indexer.store import erasure
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Pool, connection, transaction

POLL_SECONDS = 0.05


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


async def erase(pool: Pool, *, actor: str | None, before: date | None, operator: Operator) -> Erased:
    """Erase one person (``actor``), or everybody before a day; returns once nobody can see them any more.

    Raises ``CallerError`` where there is no such person.
    """
    async with connection(pool) as held:
        actor_id = None if actor is None else await erasure.actor_to_erase(held, name=actor)
        if actor is not None and actor_id is None:
            raise _nobody()
        days = await erasure.days_to_erase(held, actor_id=actor_id, before=before)
    whom = _Whom(actor_id=actor_id, before=before)
    entries, done = 0, set[date]()
    for day in days:
        erased, _ = await _erase_days(pool, whom, [day], at_last=False)
        entries, done = entries + erased, done | {day}
    # What was sealed meanwhile, what waits, and the name: from here on this person is somebody new.
    erased, last = await _erase_days(pool, whom, None, at_last=True)
    entries, done = entries + erased, done | last
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
) -> tuple[int, set[date]]:
    """Erase days, None: all there are, in one transaction; and forget the clients that nothing refers to then."""
    entries, clients = 0, set[int]()
    async with transaction(pool) as held:
        await erasure.begin_erasure(held)
        if at_last:
            await erasure.erase_waiting(held, actor_id=whom.actor_id, before=whom.before)
        if days is None:
            days = await erasure.days_to_erase(held, actor_id=whom.actor_id, before=whom.before)
        for day in days:
            erased, whose = await erasure.erase_day(held, actor_id=whom.actor_id, day=day)
            entries, clients = entries + erased, clients | set(whose)
        if at_last and whom.actor_id is not None:
            await erasure.forget_name(held, actor_id=whom.actor_id)
        number = await erasure.transaction_id(held)
    await _until_over(pool, number)
    async with transaction(pool) as held:
        await erasure.forget_clients(held, ids=sorted(clients))
    return entries, set(days)


async def _until_over(pool: Pool, number: str) -> None:
    """Wait for whoever began before us, and may still use an id that he had cached."""
    async with connection(pool) as held:
        while not await erasure.is_over(held, transaction=number):  # noqa: ASYNC110 - PostgreSQL has no signal for it
            await asyncio.sleep(POLL_SECONDS)


def _nobody() -> CallerError:
    return CallerError("there is nobody of that name", status=404, code="not_found")
