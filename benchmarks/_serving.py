"""`indexer serve` as a process of its own, on a database of the benchmark."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from tools.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NOTIFICATIONS_TOKEN = "bench-notifications-token"  # noqa: S105 - as the other
TOKEN = "bench-token"  # noqa: S105 - guards a server that lives for a minute on 127.0.0.1


@contextmanager
def indexer(
    url: str, directory: Path, *, port: int | None = None, files: int | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run `indexer serve` on a database; yield its URL and process. ``files``: how many it may open."""
    listen = f"127.0.0.1:{port or free_port()}"
    environment = os.environ | {
        "INDEXER_DATABASE_URL": url,
        "INDEXER_NOTIFICATIONS_TOKEN": NOTIFICATIONS_TOKEN,
        "INDEXER_API_TOKENS": TOKEN,
        "INDEXER_LISTEN": listen,
        "INDEXER_DATA_DIR": str(directory / "spool"),
        "INDEXER_LOG_LEVEL": "error",
    }
    command = [str(Path(sys.executable).parent / "indexer"), "serve"]
    if files is not None:
        command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    process = subprocess.Popen(command, env=environment)
    try:
        yield f"http://{listen}", process
    finally:
        process.terminate()
        process.wait(30)


async def until_up(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(url) as response:
                    if response.status < 500:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
    sys.exit(f"nothing answers at {url}")


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory_together_mib(pids: Sequence[int]) -> float:
    """Return the resident memory of processes, pages of a file that several of them have counted once (Linux)."""
    own, files = 0, dict[tuple[str, str], int]()
    for pid in pids:
        place = ("", "")
        resident = 0
        for line in Path(f"/proc/{pid}/smaps").read_text(encoding="ascii", errors="replace").splitlines():
            first, *rest = line.split()
            if not first.endswith(":"):
                place = (" ".join(rest[4:]), rest[1])
            elif first == "Rss:":
                resident = int(rest[0])
            elif first == "Anonymous:":
                own += int(rest[0])
                files[place] = max(files.get(place, 0), resident - int(rest[0]))
    return (own + sum(files.values())) / 1024
