"""What was lost between the registry and us: accounts of registry processes, and what is claimed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from indexer.inventory.loss import Account, Downtime, InstanceRecord, LossState, LossStatement
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # a status is asked for at the command line, and lists nothing page by page
    from indexer.store.listing.page_query import Row

SQL = load("loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSuspicion:
    """The newest statement that calls for a walk."""

    at: datetime
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingDeliveries:
    """What the registries hold, and what was claimed of the intervals kept, by state."""

    pending: int
    missing: int
    intervals: Mapping[str, int]


async def list_accounts(connection: Connection) -> dict[str, Account]:
    """Return the accounts of processes that are thought to live, by address."""
    return {row["address"]: _account(row) for row in await connection.fetch(SQL["list_accounts"])}


async def count_received(connection: Connection) -> dict[int, int]:
    """Return how many distinct events each instance sent."""
    return {row["id"]: row["events"] for row in await connection.fetch(SQL["count_received"])}


async def waits_since_before(connection: Connection, *, before: datetime, received_since: datetime) -> bool:
    """Tell whether a delivery that was received before an instant may not be applied yet.

    Spools count of processes that said something since ``received_since``; if none did, nobody knows.
    """
    waits: bool = await connection.fetchval(SQL["waits_since_before"], before, received_since)
    return waits


async def list_instances(connection: Connection) -> list[InstanceRecord]:
    """Return what is known of each registry instance that was heard lately."""
    return [InstanceRecord(**dict(row)) for row in await connection.fetch(SQL["list_instances"])]


async def decided_until(connection: Connection) -> datetime | None:
    """Return the end of the last downtime of ours that is decided."""
    at: datetime | None = await connection.fetchval(SQL["decided_until"])
    return at


async def add_downtime(
    connection: Connection, *, downtime: Downtime, statements: Mapping[int, LossStatement]
) -> None:
    """Decide a downtime of ours, with what it may have cost by instance; the caller's transaction."""
    await connection.execute(SQL["add_downtime"], downtime.from_at, downtime.to_at)
    for instance_id, statement in statements.items():
        await connection.execute(SQL["add_statement"], None, instance_id, *_values(statement))


async def withdraw_counted(connection: Connection) -> None:
    """Take back what was claimed of an instance without counters, for all of a time that its own counters cover."""
    await connection.execute(SQL["drop_counted"])
    await connection.execute(SQL["shorten_counted"])


async def save_account(connection: Connection, *, account: Account) -> int:
    """Write an account and return its id; ``id`` 0 begins one."""
    if account.id == 0:
        return int(await connection.fetchval(SQL["add_account"], *astuple(account)[1:]))
    await connection.execute(SQL["update_account"], *astuple(account))
    return account.id


async def end_account(connection: Connection, *, address: str, at: datetime) -> None:
    """Close the account of an address: another process answers there, or nobody is asked any more."""
    await connection.execute(SQL["end_account"], address, at)


async def note_unread(connection: Connection, *, address: str, error: str) -> None:
    """Say why an address could not be read; its account stays as it was."""
    await connection.execute(SQL["note_unread"], address, error)


async def add_statement(connection: Connection, *, process_id: int, statement: LossStatement) -> None:
    """Write what is claimed of an interval; one that lost nothing prolongs its neighbour."""
    if statement.state is LossState.NOTHING_LOST and await connection.fetchval(
        SQL["prolong_statement"], process_id, statement.from_at, statement.to_at
    ):
        return
    await connection.execute(SQL["add_statement"], process_id, None, *_values(statement))


async def newest_suspicion(connection: Connection) -> LossSuspicion | None:
    """Return the newest statement that calls for a walk."""
    row = await connection.fetchrow(SQL["newest_suspicion"])
    return None if row is None else LossSuspicion(at=row["to_at"], because=row["because"])


async def list_processes(connection: Connection, *, limit: int) -> list[tuple[Account, datetime | None]]:
    """Return the newest processes, living or ended, each with when it ended."""
    rows = await connection.fetch(SQL["list_processes"], limit)
    return [(_account(row), row["ended_at"]) for row in rows]


async def list_statements(
    connection: Connection, *, process_ids: list[int], limit: int
) -> dict[int, list[LossStatement]]:
    """Return the newest statements of each process, the latest first."""
    rows = await connection.fetch(SQL["list_statements"], process_ids, limit)
    return _by(process_ids, "process_id", rows)


async def list_instance_statements(
    connection: Connection, *, instance_ids: list[int], limit: int
) -> dict[int, list[LossStatement]]:
    """Return the newest statements of each instance that no counters made, the latest first."""
    rows = await connection.fetch(SQL["list_instance_statements"], instance_ids, limit)
    return _by(instance_ids, "instance_id", rows)


def _by(ids: list[int], key: str, rows: Sequence[Row]) -> dict[int, list[LossStatement]]:
    found: dict[int, list[LossStatement]] = {number: [] for number in ids}
    for row in rows:
        found[row[key]].append(
            LossStatement(
                state=LossState(row["state"]),
                from_at=row["from_at"],
                to_at=row["to_at"],
                lost=row["lost"],
                because=row["because"],
                needs_reconcile=row["needs_reconcile"],
                waiting_at_end=row["waiting_at_end"],
            )
        )
    return found


def _values(statement: LossStatement) -> list[Any]:
    return [getattr(statement, field.name) for field in fields(statement)]


def _account(row: Row) -> Account:
    return Account(**{field.name: row[field.name] for field in fields(Account)})


async def waiting(connection: Connection) -> WaitingDeliveries:
    """Return what metrics show."""
    row: Row = await connection.fetchrow(SQL["waiting"])
    rows = await connection.fetch(SQL["count_statements"])
    counted = {each["state"]: each["intervals"] for each in rows}
    return WaitingDeliveries(
        pending=row["pending"],
        missing=row["missing"],
        intervals={state.value: counted.get(state.value, 0) for state in LossState},
    )


async def trim_loss(connection: Connection, *, before: datetime) -> None:
    """Forget statements about intervals that ended before an instant, and processes that did."""
    await connection.execute(SQL["trim_statements"], before)
    await connection.execute(SQL["trim_downtimes"], before)
    await connection.execute(SQL["trim_processes"], before)
