"""Traits of the registry that its answers have shown: whether it hides tags, is a cache, announces pulls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("traits")


@unique
class Trait(StrEnum):
    """A property of a registry that a reconcile has to know."""

    HIDES_TAGS = "hides_tags"
    """Its ``tags/list`` omits tags (3.1.0 and 3.1.1 on S3)."""
    IS_CACHE = "is_cache"
    """It is a pull-through cache (``proxy:`` in its configuration)."""
    ANNOUNCES_PULLS = "announces_pulls"
    """It sends events of pulls: one came, and every one of our own requests was announced since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitState:
    """Whether the registry has a trait, by what evidence, since when, and when it last showed."""

    holds: bool
    because: str
    changed_at: datetime
    observed_at: datetime


async def find_traits(connection: Connection) -> dict[Trait, TraitState]:
    """Return the known traits, without those that nothing has shown yet."""
    rows = [dict(row) for row in await connection.fetch(SQL["find_traits"])]
    return {Trait(row.pop("trait")): TraitState(**row) for row in rows}


async def note_trait(
    connection: Connection, *, trait: Trait, holds: bool, because: str, at: datetime
) -> None:
    """Record what the registry showed."""
    await connection.execute(SQL["note_trait"], trait, holds, because, at)
