"""The sealed log as a stream: NDJSON or CSV, in the order of positions, to be taken up again at any of them.

Positions are gap-free and never change, so "everything after position N" means the same on every day. Memory
stays bounded: one window of positions is read at a time, and its entries are written before the next is read.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import orjson

from indexer.audit.serialize import COLUMNS, PROOF_COLUMNS, flatten, show_entry, show_proven
from indexer.store.listing.audit import AuditFilter, head_position, sealed_entries
from indexer.store.listing.page_query import Row
from indexer.store.listing.scopes import Scope, find_scope
from indexer.store.pool import Connection, Pool, connection

Format = Literal["ndjson", "csv"]
Out = Callable[[bytes], Awaitable[object]]
Reached = Callable[[int, int], object]
"""AppliedEvents the position reached, and the last there will be."""

Open = Callable[[], AbstractAsyncContextManager[Connection]]

BATCH = 1000
"""Entries in memory at a time."""

WINDOW = 20_000
"""Positions that one statement reads; a filter may leave none of them."""

EVERYTHING = AuditFilter()


async def export(
    pool: Pool,
    *,
    format: Format,  # noqa: A002 - the word of the command line
    after_position: int,
    out: Out,
    until: int | None = None,
    filters: AuditFilter = EVERYTHING,
    proof: bool = False,
    reached: Reached | None = None,
) -> int:
    """Write the sealed entries after a position to ``out`` and return the position reached.

    Ends at ``until`` or where the log ended when the export began; the next export goes on with
    ``after_position`` = what was returned, whatever the filters left out. CSV begins with a line of column
    names unless it is taken up again.
    """
    return await export_from(
        partial(connection, pool),
        Export(format=format, after_position=after_position, until=until, filters=filters, proof=proof),
        out,
        reached=reached,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What to export; ``granted`` are the repositories the caller may read, None: all.

    ``proof``: entries come with what a verifier needs.
    """

    format: Format
    after_position: int
    until: int | None = None
    filters: AuditFilter = EVERYTHING
    granted: frozenset[str] | None = None
    proof: bool = False


async def export_from(
    open_connection: Open, wanted: Export, out: Out, *, reached: Reached | None = None
) -> int:
    """Do what :func:`export` does, taking a connection for each window and giving it back while writing.

    ``reached`` is told how far it has come after each.
    """
    async with open_connection() as held:
        head = await head_position(held)
        scope = await _scope(held, wanted)
    last = head if wanted.until is None else min(wanted.until, head)
    position = wanted.after_position
    if wanted.format == "csv" and position == 0:
        await out(_csv([COLUMNS + PROOF_COLUMNS if wanted.proof else COLUMNS]))
    encode = _ndjson if wanted.format == "ndjson" else _csv_entries
    while position < last:
        until = min(position + WINDOW, last)
        async with open_connection() as held:
            rows = await sealed_entries(
                held,
                scope=scope,
                wanted=wanted.filters,
                after=position,
                until=until,
                limit=BATCH,
                proof=wanted.proof,
            )
            entries = await _proven(held, rows) if wanted.proof else [show_entry(row) for row in rows]
        if entries:
            await out(encode(entries))
        position = rows[-1]["position"] if len(rows) == BATCH else until
        if reached is not None:
            reached(position, last)
    return position


async def _proven(held: Connection, rows: list[Row]) -> list[dict[str, Any]]:
    """Show entries with what they committed to, and the leaf hash that the tree holds of each."""
    from indexer.audit.proofs import encode_hash  # noqa: PLC0415 - only an export with a proof loads what proves
    from indexer.audit.prove import leaves_of  # noqa: PLC0415

    if not rows:
        return []
    first = rows[0]["position"]
    leaves = await leaves_of(held, first=first, last=rows[-1]["position"])
    shown = []
    for row in rows:
        leaf = leaves[row["position"] - first]
        shown.append(show_proven(row) | {"leaf_hash": None if leaf is None else encode_hash(leaf)})
    return shown


async def _scope(held: Connection, wanted: Export) -> Scope | None:
    filters = wanted.filters
    return await find_scope(
        held, repositories=filters.repositories, prefix=filters.prefix, granted=wanted.granted
    )


def _ndjson(entries: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(entry) + b"\n" for entry in entries)


def _csv_entries(entries: Iterable[Mapping[str, Any]]) -> bytes:
    return _csv(flatten(entry) for entry in entries)


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    """Return lines as RFC 4180 has them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")
