"""What was lost between the registry and us: accounts of registry processes, and statements of their loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from indexer.inventory.loss import Account, Downtime, InstanceRecord, LossState, LossStatement
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # `reconciler status` imports this, and needs no lists
    from indexer.store.listing.page_query import Row

SQL = load("loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSuspicion:
    """The newest statement that needs a full reconcile."""

    at: datetime
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingDeliveries:
    """How many events wait in registries or are missing, and how many intervals are on record, by state."""

    pending: int
    missing: int
    intervals: Mapping[str, int]


async def list_accounts(connection: Connection) -> dict[str, Account]:
    """Return the accounts of processes that have not ended, by address."""
    return {row["address"]: _account(row) for row in await connection.fetch(SQL["list_accounts"])}


async def count_received(connection: Connection) -> dict[int, int]:
    """Return how many distinct events each instance sent."""
    return {row["id"]: row["events"] for row in await connection.fetch(SQL["count_received"])}


async def waits_since_before(connection: Connection, *, before: datetime, received_since: datetime) -> bool:
    """Tell whether a delivery that was received before an instant may not be applied yet.

    Spools of processes that reported since ``received_since`` count. If none did, it is not known, and the answer true.
    """
    waits: bool = await connection.fetchval(SQL["waits_since_before"], before, received_since)
    return waits


async def list_instances(connection: Connection) -> list[InstanceRecord]:
    """Return what is known of each registry instance that sent events lately."""
    return [InstanceRecord(**dict(row)) for row in await connection.fetch(SQL["list_instances"])]


async def decided_until(connection: Connection) -> datetime | None:
    """Return the end of the last downtime of ours for which the loss is decided."""
    at: datetime | None = await connection.fetchval(SQL["decided_until"])
    return at


async def add_downtime(
    connection: Connection, *, downtime: Downtime, statements: Mapping[int, LossStatement]
) -> None:
    """Record a downtime of ours, with what it may have cost by instance; in the caller's transaction."""
    await connection.execute(SQL["add_downtime"], downtime.from_at, downtime.to_at)
    for instance_id, statement in statements.items():
        await connection.execute(SQL["add_statement"], None, instance_id, *_values(statement))


async def drop_covered_statements(connection: Connection) -> None:
    """Remove statements of instances without counters for times that the instance's own counters cover now."""
    await connection.execute(SQL["drop_covered"])
    await connection.execute(SQL["shorten_covered"])


async def save_account(connection: Connection, *, account: Account) -> int:
    """Write an account and return its id; ``id`` 0: a new one."""
    if account.id == 0:
        return int(await connection.fetchval(SQL["add_account"], *astuple(account)[1:]))
    await connection.execute(SQL["update_account"], *astuple(account))
    return account.id


async def end_account(connection: Connection, *, address: str, at: datetime) -> None:
    """End the account of an address: another process answers there, or the address is no longer read."""
    await connection.execute(SQL["end_account"], address, at)


async def record_unreadable(connection: Connection, *, address: str, error: str) -> None:
    """Record why an address could not be read. Its account stays as it was."""
    await connection.execute(SQL["record_unreadable"], address, error)


async def add_statement(connection: Connection, *, process_id: int, statement: LossStatement) -> None:
    """Add a statement about an interval. One without loss extends the one before it, if that has none either."""
    if statement.state is LossState.NOTHING_LOST and await connection.fetchval(
        SQL["extend_statement"], process_id, statement.from_at, statement.to_at
    ):
        return
    await connection.execute(SQL["add_statement"], process_id, None, *_values(statement))


async def newest_suspicion(connection: Connection) -> LossSuspicion | None:
    """Return the newest statement that needs a full reconcile."""
    row = await connection.fetchrow(SQL["newest_suspicion"])
    return None if row is None else LossSuspicion(at=row["to_at"], because=row["because"])


async def list_processes(connection: Connection, *, limit: int) -> list[tuple[Account, datetime | None]]:
    """Return the newest processes, each with when it ended (None: it has not)."""
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
    """Return the newest statements of each instance without counters, the latest first."""
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
    """Return the numbers of the metrics."""
    row: Row = await connection.fetchrow(SQL["waiting"])
    rows = await connection.fetch(SQL["count_statements"])
    counted = {each["state"]: each["intervals"] for each in rows}
    return WaitingDeliveries(
        pending=row["pending"],
        missing=row["missing"],
        intervals={state.value: counted.get(state.value, 0) for state in LossState},
    )


async def trim_loss(connection: Connection, *, before: datetime) -> None:
    """Forget statements, downtimes and processes that ended before an instant."""
    await connection.execute(SQL["trim_statements"], before)
    await connection.execute(SQL["trim_downtimes"], before)
    await connection.execute(SQL["trim_processes"], before)
