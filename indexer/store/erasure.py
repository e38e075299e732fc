"""Erases people: from the log day by day, from staged entries, from history and inventory repository by repository.

``actor_id``: whom; None: everybody. ``before``: only what is older than that day; None: everything. The caller decides
what is done in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("erasure")


async def actor_to_erase(connection: Connection, *, name: str) -> int | None:
    """Return the id of the actor of that name; None: there is none."""
    number = await connection.fetchval(SQL["actor_to_erase"], name)
    return None if number is None else int(number)


async def days_to_erase(connection: Connection, *, actor_id: int | None, before: date | None) -> list[date]:
    """Return the days with entries to erase."""
    return [row["day"] for row in await connection.fetch(SQL["days_to_erase"], actor_id, before)]


async def entries_to_erase(connection: Connection, *, actor_id: int | None, before: date | None) -> int:
    """Return how many sealed entries have people to erase."""
    return int(await connection.fetchval(SQL["entries_to_erase"], actor_id, before))


async def begin_erasure(connection: Connection) -> None:
    """Keep the sealer out until the transaction ends, and invalidate what every process has cached of people."""
    await connection.execute(SQL["begin_erasure"])
    await connection.execute(SQL["add_nobody"])


async def erase_day(connection: Connection, *, actor_id: int | None, day: date) -> int:
    """Erase people from the entries of a day, drop the salts, retire their clients; return how many entries."""
    begin = datetime.combine(day, time(), UTC)
    status = await connection.execute(SQL["erase_entries"], actor_id, begin, begin + timedelta(days=1))
    clients = [row["client_id"] for row in await connection.fetch(SQL["drop_salts"], actor_id, day)]
    await connection.execute(SQL["retire_clients"], clients)
    return int(status.rpartition(" ")[2])


async def erase_waiting(connection: Connection, *, actor_id: int | None, before: date | None) -> None:
    """Erase people from staged entries, from the pulls beside the log, and from what we did to tags."""
    for statement in ("erase_staged", "erase_pulls", "erase_tag_actions", "erase_tag_action_events"):
        await connection.execute(SQL[statement], actor_id, before)


async def repositories_to_erase(
    connection: Connection, *, actor_id: int | None, before: date | None
) -> list[int]:
    """Return the ids of repositories whose tags, manifests or history name who is to be erased."""
    rows = await connection.fetch(SQL["repositories_to_erase"], actor_id, before)
    return [row["repository_id"] for row in rows]


async def erase_repository(
    connection: Connection, *, repository_id: int, actor_id: int | None, before: date | None
) -> None:
    """Erase people from a repository's tags, manifests and history, under its lock."""
    await connection.execute(SQL["lock_repository"], repository_id)
    for statement in ("erase_history", "erase_tags", "erase_manifests"):
        await connection.execute(SQL[statement], repository_id, actor_id, before)


async def forget_name(connection: Connection, *, actor_id: int) -> None:
    """Forget an actor's name."""
    await connection.execute(SQL["forget_name"], actor_id)


async def transaction_id(connection: Connection) -> str:
    """Return the id of the transaction."""
    return str(await connection.fetchval(SQL["transaction_id"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class OlderTransaction:
    """A transaction under way: of which server process, of which program (None: we may not see it), since when."""

    pid: int
    program: str | None
    since: datetime | None


async def older_transactions(connection: Connection, *, transaction: str) -> list[OlderTransaction]:
    """Return the transactions of this database up to that id that are under way and may write, oldest first."""
    rows = await connection.fetch(SQL["older_transactions"], transaction)
    return [OlderTransaction(**dict(row)) for row in rows]


async def forget_clients(connection: Connection) -> None:
    """Forget the clients that :func:`erase_day` retired and that nothing refers to any more."""
    await connection.execute(SQL["forget_clients"])
