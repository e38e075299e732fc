"""The conditions that a filter of tags comes to."""

from __future__ import annotations

from indexer.oci.digest import digest_to_bytes
from indexer.store.listing.interned import SQL as IDS
from indexer.store.listing.keyset import Column
from indexer.store.listing.protection import in_use_condition
from indexer.store.listing.statement import NOTHING, Condition, contains, matches_glob, starts_with
from indexer.store.listing.tag_filter import TagFilter
from indexer.store.listing.tag_sources import TIME_TABLES
from indexer.store.pool import Connection


async def conditions(
    connection: Connection, wanted: TagFilter, key: Column
) -> tuple[tuple[Condition, ...], tuple[Condition, ...]]:
    """Return bounds on the first sort key, which say where a scan begins and ends, and all other conditions."""
    ranges = [*_range_conditions(wanted), *_time_table_conditions(wanted, key)]
    within = tuple(condition for of, condition in ranges if of == key.name)
    others = (
        *_name_conditions(wanted),
        *(condition for of, condition in ranges if of != key.name),
        *await _facet_conditions(connection, wanted),
        *await _identity_conditions(connection, wanted),
        *await _cleanup_conditions(connection, wanted),
    )
    return within, others


def _name_conditions(wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.name_prefix is not None:
        conditions += starts_with("t.name", wanted.name_prefix)
    if wanted.name_glob is not None:
        conditions += matches_glob("t.name", wanted.name_glob)
    if wanted.name is not None:
        conditions += (contains("t.name", wanted.name),)
    return conditions


_Ranges = tuple[tuple[str, Condition], ...]
"""Conditions, each with the sort key it is about."""


def _range_conditions(wanted: TagFilter) -> _Ranges:
    bounds: tuple[tuple[str, str, object], ...] = (
        ("published_at", "t.published_at > {}", wanted.published_after),
        ("published_at", "t.published_at < {}", wanted.published_before),
        ("created_at", "t.image_created > {}", wanted.created_after),
        ("created_at", "t.image_created > '-infinity' AND t.image_created < {}", wanted.created_before),
        ("last_pulled_at", "t.last_pulled_at > {}", wanted.pulled_after),
        ("last_pulled_at", "t.last_pulled_at > '-infinity' AND t.last_pulled_at < {}", wanted.pulled_before),
        ("last_checked_at", "t.last_checked_at > {}", wanted.checked_after),
        (
            "last_checked_at",
            "t.last_checked_at > '-infinity' AND t.last_checked_at < {}",
            wanted.checked_before,
        ),
        ("size", "t.size_bytes >= {}", wanted.size_min),
        ("size", "t.size_bytes <= {}", wanted.size_max),
        ("", "(t.broken_reason IS NOT NULL) = {}", wanted.broken),
        ("", "(t.verified_at IS NOT NULL) = {}", wanted.verified),
    )
    return tuple((key, Condition(text, (value,))) for key, text, value in bounds if value is not None)


def _time_table_conditions(wanted: TagFilter, key: Column) -> _Ranges:
    """Match by pulls and checks that are not on record. If the time is the first key, each row has it or a sentinel."""
    ranges: _Ranges = ()
    never, pulled = wanted.never_pulled, "last_pulled_at"
    if never is not None and key.name == pulled:
        ranges += ((pulled, Condition(f"t.last_pulled_at {'=' if never else '>'} '-infinity'")),)
    elif never is not None:
        ranges += (("", Condition(f"{'NOT ' if never else ''}EXISTS (SELECT {TIME_TABLES[0].rows})")),)
    for each, since in zip(TIME_TABLES, (wanted.not_pulled_since, wanted.not_checked_since), strict=True):
        if since is None:
            continue
        if key.name == each.column:
            ranges += ((each.column, Condition(f"t.{each.column} < {{}}", (since,))),)
        else:
            later = f"{each.rows} AND {each.alias}.{each.column} >= {{}}"
            ranges += (("", Condition(f"NOT EXISTS (SELECT {later})", (since,))),)
    return ranges


async def _facet_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    asked = (wanted.media_types, wanted.artifact_types, wanted.kinds, wanted.platforms)
    if asked == (None, None, None, None):
        return ()
    ids = [row["id"] for row in await connection.fetch(IDS["facets_like"], *asked)]
    return (Condition("t.facet_id = ANY ({}::integer[])", (ids,)) if ids else NOTHING,)


async def _cleanup_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    found: tuple[Condition, ...] = ()
    if wanted.expires_before is not None:
        found += (Condition(_EXPIRES, (wanted.expires_before,)),)
    if wanted.in_use is not None:
        found += (await in_use_condition(connection, in_use=wanted.in_use),)
    return found


_EXPIRES = (
    "EXISTS (SELECT FROM cleanup_planned AS e JOIN manifest AS em ON em.digest = e.digest "
    "WHERE e.repository_id = t.repository_id AND e.tag = t.name AND em.id = t.manifest_id AND e.ended_at IS NULL "
    "AND e.due_at < {})"
)


async def _identity_conditions(connection: Connection, wanted: TagFilter) -> tuple[Condition, ...]:
    conditions: tuple[Condition, ...] = ()
    if wanted.digest is not None:
        number = await connection.fetchval(IDS["manifest_id"], digest_to_bytes(wanted.digest))
        conditions += (Condition("t.manifest_id = {}", (number,)) if number is not None else NOTHING,)
    if wanted.pushed_by is not None:
        number = await connection.fetchval(IDS["actor_id"], wanted.pushed_by)
        conditions += (Condition("t.pushed_by = {}", (number,)) if number is not None else NOTHING,)
    return conditions
