"""Lookup values that never change once written: facets and actors, by id, cached in the process.

So a page needs two joins less, and the planner has less to choose from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("listing_interned")
CACHE_ENTRIES = 50_000


@dataclass(frozen=True, slots=True)
class FacetRow:
    """What a manifest is; "" where not known."""

    media_type: str
    artifact_type: str
    kind: str
    platforms: tuple[str, ...]


class Interned:
    """A cache shared by all readers of one process. It is bounded, since clients of the registry choose the values."""

    def __init__(self) -> None:
        self._facets: dict[int, FacetRow] = {}
        self._actors: dict[int, str] = {}

    async def facets(self, connection: Connection, ids: Iterable[int]) -> dict[int, FacetRow]:
        """Return facets by id."""
        wanted = set(ids)
        missing = wanted - self._facets.keys()
        if missing:
            rows = await connection.fetch(SQL["facets_by_id"], sorted(missing))
            _make_room(self._facets, wanted)
            for row in rows:
                self._facets[row["id"]] = FacetRow(
                    row["media_type"], row["artifact_type"], row["kind"], tuple(row["platforms"])
                )
        return {number: self._facets[number] for number in wanted}

    async def actors(self, connection: Connection, ids: Iterable[int | None]) -> dict[int | None, str | None]:
        """Return actors' names by id; None for None."""
        wanted = {number for number in ids if number is not None}
        missing = wanted - self._actors.keys()
        if missing:
            rows = await connection.fetch(SQL["actors_by_id"], sorted(missing))
            _make_room(self._actors, wanted)
            self._actors.update({row["id"]: row["name"] for row in rows})
        names: dict[int | None, str | None] = {number: self._actors[number] for number in wanted}
        return {None: None} | names


def _make_room(cache: dict[int, Any], wanted: set[int]) -> None:
    """Forget everything but what is wanted now, if the cache is full."""
    if len(cache) + len(wanted) > CACHE_ENTRIES:
        for number in cache.keys() - wanted:
            del cache[number]
