"""Lookup tables: small ids for values that repeat (actors, clients, registry instances, media types, facets).

A lookup row is added in a transaction of its own, before the one that uses it. So ids may be cached, and a change that
is rolled back leaves at most an unused row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, TypeVar

from indexer.inventory.events import InstanceInfo, RequestInfo
from indexer.oci.reference import RepositoryName
from indexer.store import pool as pools
from indexer.store import repositories
from indexer.store.pool import Connection, Pool
from indexer.store.queries import load

SQL = load("lookups")
CACHE_ENTRIES = 50_000

LookupValue = TypeVar("LookupValue", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facet:
    """What lists filter manifests by. ``platforms`` is sorted."""

    media_type: str
    artifact_type: str = ""
    kind: str = "unknown"
    platforms: tuple[str, ...] = ()

    @property
    def key(self) -> bytes:
        """A hash of all four."""
        return _hash(self.media_type, self.artifact_type, self.kind, *self.platforms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What a registry instance sent: how many events, the first and last by its clock, the last receipt by ours."""

    events: int
    first_at: datetime
    last_at: datetime
    received_at: datetime


class Lookups:
    """Finds the ids of values, and adds those that are new.

    It needs a small pool of its own, since it is used within transactions, which hold connections of the other pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._actors: dict[str, int] = {}
        self._clients: dict[RequestInfo, int] = {}
        self._instances: dict[InstanceInfo, int] = {}
        self._media_types: dict[str, int] = {}
        self._facets: dict[Facet, int] = {}
        self._repositories: set[RepositoryName] = set()
        self._erasures = -1

    async def refresh(self) -> None:
        """Forget cached ids of people if some were erased meanwhile: a name that comes again gets a new id."""
        async with pools.connection(self._pool) as connection:
            erasures = await connection.fetchval(SQL["erasures"])
        if erasures != self._erasures:
            self._actors.clear()
            self._clients.clear()
            self._erasures = erasures

    async def repositories(self, announced: Mapping[RepositoryName, datetime]) -> None:
        """Add the repositories that are new, each with the instant of its first event. None is ever removed."""
        new = {name: at for name, at in announced.items() if name not in self._repositories}
        if new:
            async with pools.connection(self._pool) as connection:
                await repositories.add_repositories(connection, announced=new)
            if len(self._repositories) + len(new) > CACHE_ENTRIES:
                self._repositories.clear()
            self._repositories.update(new)

    async def actors(self, names: Iterable[str]) -> dict[str, int]:
        """Return the ids of actors, by name."""
        return await self._ids(self._actors, set(names), _fetch_actors)

    async def clients(self, requests: Iterable[RequestInfo]) -> dict[RequestInfo, int]:
        """Return the ids of clients, by :func:`client_of` of their requests."""
        return await self._ids(self._clients, {client_of(request) for request in requests}, _fetch_clients)

    async def instances(
        self, instances: Iterable[InstanceInfo], *, announced_at: datetime | None = None
    ) -> dict[InstanceInfo, int]:
        """Return the ids of registry instances. ``announced_at``: of a new one, when it was first seen; None: now."""
        return await self._ids(
            self._instances, set(instances), partial(_fetch_instances, announced_at=announced_at)
        )

    async def media_types(self, names: Iterable[str]) -> dict[str, int]:
        """Return the ids of media types, by name."""
        return await self._ids(self._media_types, set(names), _fetch_media_types)

    async def facets(self, facets: Iterable[Facet]) -> dict[Facet, int]:
        """Return the ids of facets."""
        return await self._ids(self._facets, set(facets), _fetch_facets)

    @staticmethod
    async def count_instance_events(connection: Connection, *, spans: Mapping[int, Span]) -> None:
        """Add to what each instance sent, by id."""
        numbers = sorted(spans)
        await connection.execute(
            SQL["count_instance_events"],
            numbers,
            [spans[number].events for number in numbers],
            [spans[number].received_at for number in numbers],
            [spans[number].first_at for number in numbers],
            [spans[number].last_at for number in numbers],
        )

    async def _ids(
        self,
        cache: dict[LookupValue, int],
        values: set[LookupValue],
        fetch: Callable[[Connection, list[LookupValue]], Awaitable[dict[LookupValue, int]]],
    ) -> dict[LookupValue, int]:
        # Another task may empty the cache while this one waits: what is in it is taken now.
        found = {value: cache[value] for value in values if value in cache}
        missing = [value for value in values if value not in found]
        if not missing:
            return found
        version = self._erasures
        async with pools.connection(self._pool) as connection:
            fetched = await fetch(connection, missing)
        if self._erasures == version:  # else one of these may have been erased since it was read
            if len(cache) + len(fetched) > CACHE_ENTRIES:
                cache.clear()
            cache.update(fetched)
        return found | fetched


async def operator_ids(connection: Connection, *, name: str, request: RequestInfo) -> tuple[int, int]:
    """Return the ids of an operator's name and client, added in the caller's transaction. It uses no other lookups."""
    actors = await _fetch_actors(connection, [name])
    client = client_of(request)
    clients = await _fetch_clients(connection, [client])
    return actors[name], clients[client]


def client_of(request: RequestInfo) -> RequestInfo:
    """Return the part of a request that repeats: all but id and port."""
    return _client(request.address, request.host, request.method, request.user_agent)


@lru_cache(maxsize=4096)
def _client(address: str, host: str, method: str, user_agent: str) -> RequestInfo:
    return RequestInfo(address=address, host=host, method=method, user_agent=user_agent)


async def _fetch_actors(connection: Connection, names: list[str]) -> dict[str, int]:
    found = await _found(connection, SQL["find_actors"], names)
    missing = sorted(set(names) - found.keys())
    if missing:
        await connection.execute(SQL["add_actors"], missing)
        found |= await _found(connection, SQL["find_actors"], missing)
    return found


async def _fetch_media_types(connection: Connection, names: list[str]) -> dict[str, int]:
    found = await _found(connection, SQL["find_media_types"], names)
    missing = sorted(set(names) - found.keys())
    if missing:
        await connection.execute(SQL["add_media_types"], missing)
        found |= await _found(connection, SQL["find_media_types"], missing)
    return found


async def _fetch_clients(connection: Connection, clients: list[RequestInfo]) -> dict[RequestInfo, int]:
    by_key = {_hash(c.address, c.host, c.method, c.user_agent): c for c in clients}
    found = await _found(connection, SQL["find_clients"], list(by_key))
    missing = sorted(by_key.keys() - found.keys())
    if missing:
        new = [by_key[key] for key in missing]
        await connection.execute(
            SQL["add_clients"],
            missing,
            [c.address for c in new],
            [c.host for c in new],
            [c.method for c in new],
            [c.user_agent for c in new],
        )
        found |= await _found(connection, SQL["find_clients"], missing)
    return {by_key[key]: number for key, number in found.items()}


async def _fetch_instances(
    connection: Connection, instances: list[InstanceInfo], *, announced_at: datetime | None = None
) -> dict[InstanceInfo, int]:
    by_key = {_hash(i.id, i.address): i for i in instances}
    found = await _found(connection, SQL["find_instances"], list(by_key))
    missing = sorted(by_key.keys() - found.keys())
    if missing:
        new = [by_key[key] for key in missing]
        now = announced_at or await connection.fetchval("SELECT now()")
        await connection.execute(
            SQL["add_instances"], missing, [i.id for i in new], [i.address for i in new], now
        )
        found |= await _found(connection, SQL["find_instances"], missing)
    return {by_key[key]: number for key, number in found.items()}


async def _fetch_facets(connection: Connection, facets: list[Facet]) -> dict[Facet, int]:
    by_key = {facet.key: facet for facet in facets}
    found = await _found(connection, SQL["find_facets"], list(by_key))
    missing = sorted(by_key.keys() - found.keys())
    for key in missing:
        facet = by_key[key]
        await connection.execute(
            SQL["add_facet"], key, facet.media_type, facet.artifact_type, facet.kind, list(facet.platforms)
        )
    if missing:
        found |= await _found(connection, SQL["find_facets"], missing)
    return {by_key[key]: number for key, number in found.items()}


async def _found(connection: Connection, statement: str, values: Sequence[Any]) -> dict[Any, int]:
    return {value: number for value, number in await connection.fetch(statement, values)}  # noqa: C416 - rows are not tuples to mypy


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).digest()[:16]
