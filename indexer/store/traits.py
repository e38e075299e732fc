"""What the registry was found to be like: what it hides, whether it is a cache."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("traits")


@unique
class Trait(StrEnum):
    """What a registry can be like that a walk has to know."""

    HIDES_TAGS = "hides_tags"
    """Its ``tags/list`` leaves out tags (3.1.0 and 3.1.1 on S3)."""
    IS_CACHE = "is_cache"
    """It is a pull-through cache (``proxy:`` in its configuration)."""
    ANNOUNCES_PULLS = "announces_pulls"
    """Its notifications tell of pulls: an event of one came, and none of our own requests was passed over since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraitState:
    """Whether the registry has a trait, by what evidence, since when, and when that was seen last."""

    holds: bool
    because: str
    changed_at: datetime
    observed_at: datetime


async def find_traits(connection: Connection) -> dict[Trait, TraitState]:
    """Return what is known; a trait that nothing has shown yet is missing."""
    rows = [dict(row) for row in await connection.fetch(SQL["find_traits"])]
    return {Trait(row.pop("trait")): TraitState(**row) for row in rows}


async def note_trait(
    connection: Connection, *, trait: Trait, holds: bool, because: str, at: datetime
) -> None:
    """Remember what the registry showed."""
    await connection.execute(SQL["note_trait"], trait, holds, because, at)
