"""Reads access logs from files, across rotations and restarts.

How far a file was read is stored in the transaction that applies its lines. A file is identified by device, inode and
its first bytes, since a new file may get the inode of one that was removed. A file that was rotated by renaming is
found beside its old name and read to its end before the new one is begun; one that was emptied in place (copytruncate)
is read from its start. What was compressed or removed before it was read is lost, and a warning says so.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import structlog

from indexer.access_log.apply import LINES, stage_pending, take_lines
from indexer.access_log.line import LONGEST_LINE
from indexer.background.loop import IterationResult
from indexer.store import access
from indexer.store.access import FilePosition
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection, transaction

log = structlog.get_logger()

CHUNK_BYTES = 512 * 1024
REST_SECONDS = 1.0
HEAD_BYTES = 512


class AccessLog:
    """The loop that reads the files, if there are any, and stages entries for what is pending for a minute."""

    name = "access-log"

    def __init__(self, pool: Pool, lookups: Lookups, paths: Sequence[Path]) -> None:
        self._pool = pool
        self._lookups = lookups
        self._paths = paths
        self._unreadable: set[Path] = set()

    async def run_once(self) -> IterationResult:
        """Read a piece of each file, and stage a batch of entries."""
        now = datetime.now(UTC)
        read = 0
        for path in self._paths:
            try:
                read += await read_file(self._pool, path, now=now)
                self._unreadable.discard(path)
            except OSError as error:
                if path not in self._unreadable:
                    log.warning("access_log_unreadable", path=str(path), error=str(error))
                self._unreadable.add(path)
        staged = await stage_pending(self._pool, self._lookups, now=now)
        return IterationResult(items=staged, rest_seconds=0 if read or staged else REST_SECONDS)


async def read_file(pool: Pool, path: Path, *, now: datetime) -> int:
    """Apply a piece of the oldest file of a path that is not read to its end; return its bytes."""
    name = str(path)
    async with connection(pool) as held:
        known = await access.file_positions(held, path=name)
    found = await asyncio.to_thread(path.stat)
    current = FilePosition(device=found.st_dev, inode=found.st_ino, read_to=0, head=b"")
    for position in known:
        if await asyncio.to_thread(_is_same, path, position):
            current = position
            continue
        rotated = await asyncio.to_thread(_find, path, position)
        if rotated is not None:
            read = await _read_on(pool, name, rotated, position, now=now)
            if read:
                return read
        else:
            emptied = (position.device, position.inode) == (current.device, current.inode)
            log.warning(
                "access_log_begun_again" if emptied else "access_log_rotated_away",
                path=name,
                read_to=position.read_to,
            )
        async with transaction(pool) as held:
            await access.forget_file(held, path=name, position=position)
    if found.st_size < current.read_to:
        current = replace(current, read_to=0)
    return await _read_on(pool, name, path, current, now=now)


async def _read_on(pool: Pool, name: str, file: Path, position: FilePosition, *, now: datetime) -> int:
    chunk = await asyncio.to_thread(_read, file, position)
    whole = chunk.rfind(b"\n") + 1
    if not whole:
        if len(chunk) <= LONGEST_LINE:
            return 0  # still being written
        # No log has a line that long: skip what is there of it; the rest of it is counted as unreadable later.
        LINES.labels("unreadable").inc()
        whole = len(chunk)
    async with transaction(pool) as held:
        await take_lines(held, chunk[:whole].splitlines(), now=now)
        head = position.head if position.read_to else chunk[:HEAD_BYTES]
        reached = replace(position, read_to=position.read_to + whole, head=head)
        await access.put_file_position(held, path=name, position=reached, at=now)
    return whole


def _read(file: Path, position: FilePosition) -> bytes:
    with file.open("rb") as opened:
        if not _is(opened, position):
            return b""  # rotated just now
        opened.seek(position.read_to)
        return opened.read(CHUNK_BYTES)


def _is_same(file: Path, position: FilePosition) -> bool:
    with file.open("rb") as opened:
        return _is(opened, position)


def _is(opened: BinaryIO, position: FilePosition) -> bool:
    identity = os.fstat(opened.fileno())
    if (identity.st_dev, identity.st_ino) != (position.device, position.inode):
        return False
    return opened.read(len(position.head)) == position.head


def _find(path: Path, position: FilePosition) -> Path | None:
    """Return where a rotated file is now, in the directory of its old name; None where it is not found."""
    for sibling in path.parent.glob(f"{path.stem}*"):
        with suppress(OSError):
            if sibling.is_file() and _is_same(sibling, position):
                return sibling
    return None
