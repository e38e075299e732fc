"""A part of the log written to a file: NDJSON as the export has it, compressed, and checked as it is written.

Every entry is hashed again and held against its leaf in the tree: what was altered since it was sealed is noticed
while the original is still there, and is not archived. Beside the file lies the proof that leads from these leaves to
the newest checkpoint: the two are verified without the database.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from indexer.audit.checkpoint import check_newest
from indexer.audit.files import create
from indexer.audit.leaf import leaf_of
from indexer.audit.proofs import EntryRange
from indexer.audit.prove import write_part
from indexer.audit.serialize import show_proven
from indexer.audit.tiles import WIDTH, TreeDamaged, split
from indexer.common.errors import StoreError
from indexer.common.one_thread import OneThread
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.listing.audit import AuditFilter, sealed_entries
from indexer.store.pool import Connection, Pool, connection
from indexer.store.tiles import find_tiles

WINDOW = WIDTH * 8
"""Entries in memory at a time: whole tiles of leaf hashes."""

COMPRESSION = 6
EVERYTHING = AuditFilter()

_DISK = OneThread("archive")
"""The directory may be far away and slow; nothing but archiving waits for it (docs/adr/0054)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archived:
    """A file that holds a part of the log, and its SHA-256."""

    file: str
    sha256: bytes
    entries: int


def file_of(first: int, last: int) -> str:
    """Return the name of the archive of a part; names sort by position."""
    return f"audit-{first:012d}-{last:012d}.ndjson.gz"


def proof_of(first: int, last: int) -> str:
    """Return the name of the proof that lies beside it."""
    return f"audit-{first:012d}-{last:012d}.proof"


async def write_archive(
    pool: Pool, directory: Path, *, first: int, last: int, on_progress: Callable[[int], None] = lambda _: None
) -> Archived:
    """Write entries ``first`` to ``last``, and their proof; a file has its name only when it is whole and on disk.

    Raises ``TreeDamaged`` where an entry is missing or is not what was sealed, ``StoreError`` where the directory
    cannot be written or no checkpoint counts the last entry. ``on_progress`` is told how many entries were written.
    """
    target = directory / file_of(first, last)
    async with _whole(target, over_another=False) as file:
        await _write(pool, file, first=first, last=last, on_progress=on_progress)
    sha256 = await _DISK.run(_sha256_of, target)
    await _write_proof(pool, directory / proof_of(first, last), first=first, last=last)
    return Archived(file=target.name, sha256=sha256, entries=last - first + 1)


@asynccontextmanager
async def _whole(target: Path, *, over_another: bool = True) -> AsyncIterator[BinaryIO]:
    """Open a file that appears under its name only once it is whole and on disk; raises ``StoreError``.

    Unless ``over_another``, a file of that name is replaced only if it is the same to the byte: another may be all that
    is left of what is in it.
    """
    unfinished = target.with_name(f".{target.name}.unfinished")
    try:
        with create(unfinished) as file:
            yield file
            file.flush()
            await _DISK.run(os.fsync, file.fileno())
        if not over_another and await _DISK.run(_is_another, target, than=unfinished):
            raise StoreError(
                f"the archive {target} is there and holds something else: this log was put back, or "
                "people were erased since. Nothing was dropped; keep that file elsewhere"
            )
        unfinished.replace(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise StoreError(f"the archive {target} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


async def _write_proof(pool: Pool, target: Path, *, first: int, last: int) -> None:
    """Write the proof of the part, with the newest checkpoint, whose root the stored tree must still lead to."""
    async with connection(pool) as held:
        newest = await newest_checkpoint(held)
        if newest is None or newest.size < last:
            raise StoreError(f"no checkpoint counts entry {last} yet: nothing was dropped")
        await check_newest(held, newest)
    async with _whole(target) as file:

        async def write(data: bytes) -> None:
            await _DISK.run(file.write, data)

        await write_part(
            partial(connection, pool), EntryRange(first=first, last=last, size=newest.size), write
        )


async def _write(
    pool: Pool, file: BinaryIO, *, first: int, last: int, on_progress: Callable[[int], None]
) -> None:
    # No name and no time in the header: the same entries make the same file.
    with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0, compresslevel=COMPRESSION) as packed:
        begin = (first - 1) // WINDOW * WINDOW
        for start in range(begin, last, WINDOW):
            after, until = max(start, first - 1), min(start + WINDOW, last)
            async with connection(pool) as held:
                entries = await _checked(held, after=after, until=until)
            await _DISK.run(packed.write, b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
            on_progress(until - first + 1)


async def _checked(held: Connection, *, after: int, until: int) -> list[dict[str, Any]]:
    rows = await sealed_entries(
        held, scope=None, wanted=EVERYTHING, after=after, until=until, limit=WINDOW, proof=True
    )
    entries = [show_proven(row) for row in rows]
    positions = [entry["position"] for entry in entries]
    if positions != list(range(after + 1, until + 1)):
        raise TreeDamaged(f"the log lacks entries between {after + 1} and {until}: nothing was archived")
    keys = [(0, index) for index in range(after // WIDTH, (until - 1) // WIDTH + 1)]
    tiles = await find_tiles(held, keys=keys)
    leaves = {index: split(hashes) for (_, index), hashes in tiles.items()}
    for entry in entries:
        index, place = divmod(entry["position"] - 1, WIDTH)
        held_leaves = leaves.get(index, [])
        if place >= len(held_leaves) or leaf_of(entry) != held_leaves[place]:
            raise TreeDamaged(
                f"entry {entry['position']} is not what was sealed: nothing was archived; see `indexer audit verify`"
            )
    return entries


def _is_another(path: Path, *, than: Path) -> bool:
    return path.exists() and _sha256_of(path) != _sha256_of(than)


def _sha256_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _sync_directory(directory: Path) -> None:
    """A renamed file is there after a power cut only once its directory is on disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
