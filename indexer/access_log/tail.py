"""Reads access logs from files, over rotations and restarts: how far is kept in the transaction that takes the lines.

A file is known by device, inode and its first bytes, since a new file may get the inode of one that was removed.
Rotated by renaming, it is found again beside its old name and read to its end before the new one is begun; emptied in
place (copytruncate), it is begun again. What was compressed or removed before it was read is lost, and said so.
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

from indexer.access_log.apply import LINES, settle, take_lines
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
    """The loop that reads the files, if there are any, and makes entries of what was pending for long enough."""

    name = "access-log"

    def __init__(self, pool: Pool, lookups: Lookups, paths: Sequence[Path]) -> None:
        self._pool = pool
        self._lookups = lookups
        self._paths = paths
        self._unreadable: set[Path] = set()

    async def run_once(self) -> IterationResult:
        """Read a piece of each file, and settle a batch."""
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
        settled = await settle(self._pool, self._lookups, now=now)
        return IterationResult(items=settled, rest_seconds=0 if read or settled else REST_SECONDS)


async def read_file(pool: Pool, path: Path, *, now: datetime) -> int:
    """Take in a piece of the oldest file of a path that is not read to its end; return how many bytes."""
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
        # Nobody's line is that long: pass over what is there of it, and over its end as one that cannot be read.
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
    """Find a file under its new name, beside its old one."""
    for sibling in path.parent.glob(f"{path.stem}*"):
        with suppress(OSError):
            if sibling.is_file() and _is_same(sibling, position):
                return sibling
    return None
