"""How far the log was compared with its tree, and which entries do not match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("self_check")

KEPT = 1000
"""At most so many damages are on record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A mismatch: at a position, 0: of the tree as a whole. ``fault``: which kind; ``what``: in a sentence."""

    position: int
    fault: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfCheckPass:
    """How far the current pass is, and when the last complete one ended."""

    position: int
    pass_began_at: datetime | None
    pass_ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """First and last position of the entries there are (None: none); the end of the log; the last dropped position."""

    first: int | None
    last: int | None
    head: int
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckState:
    """The state of the comparison. ``first``: the first damage, found at ``found_at``."""

    current: SelfCheckPass
    damaged: int
    first: Damage | None
    found_at: datetime | None


async def lock_check(connection: Connection) -> SelfCheckPass | None:
    """Become the only process that checks until the transaction ends; None if another is."""
    row = await connection.fetchrow(SQL["lock_check"])
    return None if row is None else SelfCheckPass(**dict(row))


async def move_check(connection: Connection, *, current: SelfCheckPass) -> None:
    """Record how far the pass is."""
    await connection.execute(
        SQL["move_check"], current.position, current.pass_began_at, current.pass_ended_at
    )


async def extent(connection: Connection) -> Extent:
    """Return which positions have entries, and which must have."""
    row = await connection.fetchrow(SQL["extent"])
    return Extent(**dict(row))  # type: ignore[arg-type]  # the head has one row


async def put_damages(
    connection: Connection, *, first: int, last: int, damages: Sequence[Damage], at: datetime
) -> None:
    """Record what was found between two positions, in place of what was found there before."""
    await connection.execute(SQL["clear_damages"], first, last)
    if damages:
        await connection.execute(
            SQL["put_damage"],
            at,
            [damage.position for damage in damages],
            [damage.fault for damage in damages],
            [damage.what for damage in damages],
            KEPT,
        )


async def check_state(connection: Connection) -> CheckState:
    """Return the state of the comparison."""
    row = await connection.fetchrow(SQL["check_state"])
    assert row is not None  # noqa: S101 - the table has one row
    first = None
    if row["damage_position"] is not None:
        first = Damage(position=row["damage_position"], fault=row["fault"], what=row["what"])
    return CheckState(
        current=SelfCheckPass(
            position=row["position"], pass_began_at=row["pass_began_at"], pass_ended_at=row["pass_ended_at"]
        ),
        damaged=row["damaged"],
        first=first,
        found_at=row["found_at"],
    )
