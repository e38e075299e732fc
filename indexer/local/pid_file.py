"""``postmaster.pid``, and the process behind it.

The file survives a crash, and its process id may by then be someone else's. Only a PostgreSQL that works *in*
the data directory is ours; a stranger is neither believed nor touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from indexer.common.errors import ConfigurationError

POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class PidFile:
    """What ``postmaster.pid`` says; whether it is true is another question."""

    pid: int
    socket_dir: Path | None
    ready: bool

    @staticmethod
    def read(cluster: Path) -> PidFile | None:
        """Read it; None where there is none, or none that can be read, or it is just being written."""
        try:
            lines = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return None
        if not lines[0].strip().isdigit():
            return None
        fields = [line.strip() for line in lines] + [""] * 8
        return PidFile(int(fields[0]), Path(fields[4]) if fields[4] else None, fields[7] == "ready")


def is_alive(pid: int) -> bool:
    """Tell whether a process of that number exists, whoever owns it."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def runs_in(pid: int, cluster: Path) -> bool:
    """Tell whether a process is a PostgreSQL at work in this data directory; every one of them goes there."""
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        return runs_in_by_arguments(pid, cluster)
    try:
        is_postgres = (process / "comm").read_text(encoding="utf-8", errors="replace").strip() == "postgres"
        return is_postgres and (process / "cwd").samefile(cluster) and not is_zombie(pid)
    except OSError:
        return False


def runs_in_by_arguments(pid: int, cluster: Path) -> bool:
    """Tell the same where there is no /proc: the server's title keeps the arguments it was started with."""
    asked = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603 - a number only
    return f"-D {cluster} " in f"{answer.stdout.strip()} "


def is_zombie(pid: int) -> bool:
    """Tell whether a process has ended and only waits to be counted."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in {"Z", "X"}


def disown_pid_file(cluster: Path) -> None:
    """Make a pid file that names a stranger read as stale, without taking PostgreSQL's own safety from it.

    The server refuses to start while the named process lives, unless that is its parent: so we name
    ourselves. Removing the file would also remove the shared memory key by which it notices backends that are
    still alive. Called with the lock on the data directory held.
    """
    path = cluster / "postmaster.pid"
    _, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    held = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(held, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n{rest}")


async def end_stranded(pid: int, cluster: Path, timeout_seconds: float) -> None:
    """Stop a server that is not our child: ask, insist, force; each time make sure it still is ours."""
    for signal_number, patience in (
        (signal.SIGINT, timeout_seconds),
        (signal.SIGQUIT, 5.0),
        (signal.SIGKILL, 5.0),
    ):
        if runs_in(pid, cluster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_number)
        deadline = time.monotonic() + patience
        while runs_in(pid, cluster):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(POLL_SECONDS)
        else:
            return
    raise ConfigurationError(f"PostgreSQL of an earlier run (process {pid}) does not end; end it by hand")
