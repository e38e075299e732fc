"""What of the sealed log is delivered to a feed, or to a client that follows it by HTTP, by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.store.listing.audit import EVERY_ENTRY, AuditFilter, sealed_entries
from indexer.store.listing.page_query import Row
from indexer.store.listing.scopes import find_scope
from indexer.store.listing.statement import Condition
from indexer.store.pool import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFilter:
    """Which entries a feed delivers: of any of the actions, sources and prefixes of repositories; empty: any."""

    actions: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()


async def feed_entries(
    connection: Connection, *, wanted: FeedFilter, after: int, until: int, limit: int
) -> list[Row]:
    """Return the sealed entries in (after, until] that a feed delivers, in order, at most ``limit``."""
    conditions = [
        Condition(f"t.{column}::text = ANY ({{}}::text[])", (list(values),))
        for column, values in (("action", wanted.actions), ("source", wanted.sources))
        if values
    ]
    if wanted.repositories:
        conditions.append(_under(wanted.repositories))
    return await sealed_entries(
        connection,
        scope=None,
        wanted=EVERY_ENTRY,
        after=after,
        until=until,
        limit=limit,
        more=tuple(conditions),
    )


async def stream_entries(
    connection: Connection, *, wanted: AuditFilter, after: int, until: int, limit: int
) -> list[Row]:
    """Return the sealed entries in (after, until] that a filter leaves, in order, at most ``limit``.

    For few positions, read often: a prefix is tested per entry, not turned into a list of repositories.
    """
    return await sealed_entries(
        connection,
        scope=await find_scope(connection, repositories=wanted.repositories),
        wanted=wanted,
        after=after,
        until=until,
        limit=limit,
        more=() if wanted.prefix is None else (_under((wanted.prefix,)),),
    )


def _under(prefixes: Sequence[str]) -> Condition:
    """Match entries of repositories whose names begin with any of these."""
    return Condition(
        "EXISTS (SELECT FROM repository AS r WHERE r.id = t.repository_id AND r.name ^@ ANY ({}::text[]))",
        (list(prefixes),),
    )
