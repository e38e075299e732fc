"""The spool: deliveries on the local disk while the database is away.

SQLite in WAL mode with ``synchronous=FULL``: durable at commit, and consistent after a crash at any instant. Each
delivery gets a key that goes with it into the inbox, where it is unique: so a crash between the insert into the inbox
and the delete here stores nothing twice. The size is bounded; beyond it, or where the disk is full, ``append`` raises
``StoreUnavailable`` and the registry retries. A file that was deleted while it is open is written anew, with the
deliveries that wait in it: without a name it would be lost when the process ends.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import structlog

from indexer.common.errors import StoreUnavailable
from indexer.store.inbox import Delivery

log = structlog.get_logger()

ROW_BYTES = 256
"""Counted for a delivery beside its body, so that empty bodies are bounded too."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS delivery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL,
    received_at TEXT NOT NULL,
    content_type TEXT NOT NULL,
    content_encoding TEXT NOT NULL,
    can_wait INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooled:
    """A delivery in the spool, and its number there."""

    number: int
    delivery: Delivery


class Spool:
    """One file, used by one thread at a time; every method blocks on the disk."""

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file, self._identity = _open(path)
        count, size = self._file.execute(
            f"SELECT count(*), coalesce(sum(length(body)), 0) + count(*) * {ROW_BYTES} FROM delivery"
        ).fetchone()
        # Up to this number deliveries are in the inbox already, whether they could be deleted here or not.
        self._moved = 0
        self.waiting: int = count
        self.waiting_bytes: int = size

    def append(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries durably, all or none; raise ``StoreUnavailable`` if there is no room."""
        size = sum(map(_size, deliveries))
        if self.waiting_bytes + size > self._max_bytes:
            raise StoreUnavailable(f"the database is away and the spool is full ({self._max_bytes} bytes)")
        self._recreate_if_deleted()
        try:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.executemany(
                "INSERT INTO delivery (key, received_at, content_type, content_encoding, can_wait, body)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        str(uuid.uuid4()),
                        delivery.received_at.isoformat(),
                        delivery.content_type,
                        delivery.content_encoding,
                        delivery.can_wait,
                        delivery.body,
                    )
                    for delivery in deliveries
                ],
            )
            self._file.execute("COMMIT")
        except sqlite3.Error as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise StoreUnavailable(
                f"the database is away and the spool cannot be written: {error}"
            ) from error
        self.waiting += len(deliveries)
        self.waiting_bytes += size
        self._recreate_if_deleted()  # before the answer: it may just have been written to a deleted file

    def _recreate_if_deleted(self) -> None:
        """Copy the deliveries to a new file if the open one was deleted, or replaced by a restore.

        Raises ``StoreUnavailable`` where no new file can be made.
        """
        if _identity_of(self._path) == self._identity:
            return
        log.error("spool_was_deleted", path=str(self._path), waiting=self.waiting)
        try:
            self._recreate()
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"the spool was deleted from {self._path} and cannot be created again: {error}"
            ) from error

    def _recreate(self) -> None:
        file, identity = _open(self._path)
        columns = "key, received_at, content_type, content_encoding, can_wait, body"
        try:
            file.execute("BEGIN IMMEDIATE")
            file.executemany(
                f"INSERT INTO delivery ({columns}) VALUES (?, ?, ?, ?, ?, ?)",
                self._file.execute(
                    f"SELECT {columns} FROM delivery WHERE id > ? ORDER BY id", (self._moved,)
                ),
            )
            file.execute("COMMIT")
        except sqlite3.Error:
            file.close()
            raise
        old, self._file, self._identity, self._moved = self._file, file, identity, 0
        old.close()

    def first(self, *, limit: int, limit_bytes: int) -> list[Spooled]:
        """Return the oldest deliveries, at most ``limit`` and ``limit_bytes``, but at least one if any waits."""
        found: list[Spooled] = []
        size = 0
        for number, key, received_at, content_type, content_encoding, can_wait, body in self._file.execute(
            "SELECT id, key, received_at, content_type, content_encoding, can_wait, body FROM delivery"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (self._moved, limit),
        ):
            size += len(body)
            if found and size > limit_bytes:
                break
            delivery = Delivery(
                received_at=datetime.fromisoformat(received_at),
                body=body,
                content_type=content_type,
                content_encoding=content_encoding,
                can_wait=bool(can_wait),
            )
            found.append(Spooled(number=number, delivery=replace(delivery, spool_key=uuid.UUID(key))))
        return found

    def forget(self, spooled: Sequence[Spooled]) -> None:
        """Remove the oldest deliveries, which are in the inbox now.

        SQLite cannot delete on a full disk. Then they stay in the file until there is space; if the process crashes
        before that, they are moved once more, and the inbox recognises them by their keys.
        """
        if not spooled:
            return
        self._moved = spooled[-1].number
        self.waiting -= len(spooled)
        self.waiting_bytes -= sum(_size(item.delivery) for item in spooled)
        try:
            self._file.execute("DELETE FROM delivery WHERE id <= ?", (self._moved,))
        except sqlite3.Error as error:
            log.warning("spool_not_shortened", error=str(error))

    def close(self) -> None:
        """Close the file; what waits stays in it."""
        self._file.close()


def _open(path: Path) -> tuple[sqlite3.Connection, tuple[int, int]]:
    """Open a spool, a new one where there is none; return it with device and inode of its file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # it holds raw notifications; SQLite gives its companions the same mode
    file = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = FULL")
    file.execute(_SCHEMA)
    found = path.stat()
    return file, (found.st_dev, found.st_ino)


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(delivery: Delivery) -> int:
    return len(delivery.body) + ROW_BYTES
