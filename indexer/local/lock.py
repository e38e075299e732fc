"""A lock on a directory that the kernel releases when its holder ends, for whatever reason."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from pathlib import Path

from indexer.common.errors import ConfigurationError

POLL_SECONDS = 0.02


class DirectoryLock:
    """Refuses a second process on a directory; one that is just ending may take ``patience_seconds``."""

    def __init__(self, path: Path, *, patience_seconds: float = 5.0) -> None:
        self._path = path
        self._patience_seconds = patience_seconds
        self._held: int | None = None

    async def acquire(self) -> None:
        """Take the lock; raise ``ConfigurationError`` that names its holder."""
        if self._held is not None:
            return
        held = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            await self._take(held)
        except BaseException:
            os.close(held)
            raise
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode(), 0)
        self._held = held

    async def _take(self, held: int) -> None:
        deadline = time.monotonic() + self._patience_seconds
        while not is_free(held):
            if time.monotonic() > deadline:
                holder = os.pread(held, 32, 0).decode("ascii", "replace").strip() or "unknown"
                directory = self._path.parent
                raise ConfigurationError(
                    f"{directory} is in use by process {holder}; stop it or set another INDEXER_DATA_DIR"
                )
            await asyncio.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Release the lock."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def is_free(descriptor: int) -> bool:
    """Take the lock if no process has it; return whether it is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
