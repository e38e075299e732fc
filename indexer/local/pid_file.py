"""``postmaster.pid``, and the process that it names.

The file survives a crash, and its process id may belong to another program by then. Only a PostgreSQL whose working
directory is the data directory is ours; no other process is signalled.
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
    """The content of ``postmaster.pid``, which may be stale."""

    pid: int
    socket_dir: Path | None
    ready: bool

    @staticmethod
    def read(cluster: Path) -> PidFile | None:
        """Return the content; None where there is no file, or it cannot be read, or is just being written."""
        try:
            lines = (cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            return None
        if not lines[0].strip().isdigit():
            return None
        fields = [line.strip() for line in lines] + [""] * 8
        return PidFile(int(fields[0]), Path(fields[4]) if fields[4] else None, fields[7] == "ready")


def is_alive(pid: int) -> bool:
    """Return whether a process of that number exists, of whatever user."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def runs_in(pid: int, cluster: Path) -> bool:
    """Return whether a process is a PostgreSQL server of this data directory, which is its working directory."""
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").exists():
        return runs_in_by_arguments(pid, cluster)
    try:
        is_postgres = (process / "comm").read_text(encoding="utf-8", errors="replace").strip() == "postgres"
        return is_postgres and (process / "cwd").samefile(cluster) and not is_zombie(pid)
    except OSError:
        return False


def runs_in_by_arguments(pid: int, cluster: Path) -> bool:
    """Return the same where there is no /proc: the server's title has the arguments it was started with."""
    command = ["/bin/ps", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a number only
    return f"-D {cluster} " in f"{answer.stdout.strip()} "


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and its parent has not read its exit code."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in {"Z", "X"}


def disown_pid_file(cluster: Path) -> None:
    """Make PostgreSQL take a pid file for stale that names a process of another program.

    The server refuses to start while the named process exists, unless that is its parent: so the file gets our own id.
    The rest of it stays, since by the shared memory key in it the server notices backends that are still alive. To be
    called with the lock on the data directory.
    """
    path = cluster / "postmaster.pid"
    _, _, rest = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    held = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
    with os.fdopen(held, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n{rest}")


async def end_stranded(pid: int, cluster: Path, timeout_seconds: float) -> None:
    """Stop a server that is not our child: fast shutdown, then immediate, then SIGKILL.

    Before each signal it is checked that the process still is that server. Raises ``ConfigurationError`` where it does
    not end.
    """
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
