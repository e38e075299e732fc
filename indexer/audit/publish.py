"""The file that the newest checkpoint is published to, and what must never be written over there.

A published checkpoint is evidence: it may be the only thing that shows that the database was put back to an earlier
state, and by then the one who would overwrite it is this very program.
"""

from __future__ import annotations

import os
from pathlib import Path

from indexer.audit.note import Checkpoint, NoteRefused
from indexer.audit.prove import root_at
from indexer.common.errors import ConfigurationError, StoreError
from indexer.store.listing.audit import head_position
from indexer.store.pool import Connection

SETTING = "INDEXER_AUDIT_CHECKPOINT_FILE"
_LONGEST_FILE_BYTES = 64 * 1024


class LogPutBack(StoreError):  # noqa: N818 - a state, read as "log put back"
    """What was published of the log is not in it any more: the database is an earlier state, or another log."""


async def check_standing(held: Connection, file: Path, text: str | None) -> int:
    """Check that the log has all that the file's text counts; return how many entries that is, 0 where it is empty.

    ``text`` was read before: what it counts had been committed by then. Raises ``LogPutBack`` where it is a checkpoint
    that this log did not grow out of, ``ConfigurationError`` where it is something else; the file is to be kept then.
    """
    if text is None or not text.strip():
        return 0
    try:
        standing = Checkpoint.parse(text)
    except NoteRefused as error:
        raise ConfigurationError(
            f"{SETTING}: nothing is written over {file}, which holds something else: {error}"
        ) from None
    keep = f"Keep {file}, which shows it, tell whoever audits the log, and name another file"
    head = await head_position(held)
    if standing.size > head:
        raise LogPutBack(
            f"the log was put back to an earlier state: {standing.size} entries were signed, and it has {head}. {keep}"
        )
    if await root_at(held, size=standing.size) != standing.root:
        raise LogPutBack(
            f"the log was put back to an earlier state and went on: its first {standing.size} entries are others than "
            f"those that were signed. {keep}"
        )
    return standing.size


def read_published(file: Path) -> str | None:
    """Return what the file holds; None: there is none. Raises ``ConfigurationError``."""
    try:
        with file.open("rb") as found:
            return found.read(_LONGEST_FILE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{SETTING}: {file} cannot be read: {error.strerror}") from None


def replace_file(path: Path, text: str) -> None:
    """Write a file so that whoever reads it sees the old text or the new one, whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{SETTING}: {path} cannot be written: {error.strerror}") from None
