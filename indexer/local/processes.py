"""Programs of ours that are kept running: started, restarted when they end, stopped within a time.

A program ends with the process that started it (Linux). Where that fails, as after a SIGKILL on other systems, the
register of the last run names the processes to end first. A process counts as registered only if it began at the
registered time, since its id may belong to another program by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import structlog

from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.local import attach

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Restarting:
    """When to start a program again.

    ``first_delay_seconds`` doubles up to ``longest_delay_seconds``: a killed program is back within seconds, and one
    that ends at once each time does not fill the log. It is reset after ``calm_after_seconds`` of running.
    ``refusals``: after so many quick ends in a row with ``exit_codes.USAGE`` it is not started again.
    """

    first_delay_seconds: float = 0.2
    longest_delay_seconds: float = 4.0
    calm_after_seconds: float = 30.0
    refusals: int = 2


class Register:
    """The programs that run for a data directory, as ``name pid birth`` lines in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}

    def enter(self, name: str, pid: int) -> None:
        """Add a program that was just started."""
        self._lines[name] = f"{name}\t{pid}\t{birth(pid)}"
        fresh = self._path.with_suffix(".new")
        fresh.write_text("\n".join(self._lines.values()) + "\n", encoding="utf-8")
        fresh.replace(self._path)

    def clear(self) -> None:
        """Remove all, once they have ended."""
        self._lines.clear()
        self._path.unlink(missing_ok=True)

    async def end_leftovers(self, patience_seconds: float = 3.0) -> None:
        """End what an earlier run left running. What those programs acknowledged is durable, so the wait is short."""
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_text(encoding="utf-8").splitlines():
                fields = line.split("\t")
                if len(fields) == 3 and fields[1].isdigit():  # noqa: PLR2004 - name, pid, birth
                    await end_leftover(fields[0], int(fields[1]), fields[2], patience_seconds)
        self.clear()


async def end_leftover(name: str, pid: int, born: str, patience_seconds: float) -> None:
    """End a program of an earlier run: SIGTERM, then SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not born or birth(pid) != born:
            return
        log.warning("leftover_ended", process=name, pid=pid, signal=number.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
        deadline = time.monotonic() + patience_seconds
        while birth(pid) == born and time.monotonic() < deadline:  # noqa: ASYNC110 - not our child to wait for
            await asyncio.sleep(0.02)


def birth(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty where it has ended."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except FileNotFoundError:
        return birth_by_ps(pid) if not Path("/proc/self").exists() else ""
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else fields[19]


def birth_by_ps(pid: int) -> str:
    """Return the same as a date where there is no /proc."""
    command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - a number only


class Program:
    """One program of ours, kept running until it is stopped."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        register: Register,
        restarting: Restarting | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._register = register
        self._restarting = restarting or Restarting()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id while it runs, else None."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def keep_running(self) -> NoReturn:
        """Start the program, and again whenever it ends; raise ``ConfigurationError`` where it refuses its settings."""
        delay, refused = self._restarting.first_delay_seconds, 0
        while True:
            began = time.monotonic()
            exit_code = await self._run()
            lasted = time.monotonic() - began
            if lasted >= self._restarting.calm_after_seconds:
                delay, refused = self._restarting.first_delay_seconds, 0
            refused = refused + 1 if exit_code == exit_codes.USAGE else 0
            if refused >= self._restarting.refusals:
                raise ConfigurationError(f"{self.name} refuses its configuration; its own message is above")
            log.warning("process_ended", process=self.name, exit_code=exit_code, restart_in_seconds=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._restarting.longest_delay_seconds)

    async def _run(self) -> int:
        launcher = [sys.executable, "-I", "-S", attach.__file__, "--signal", str(int(signal.SIGTERM))]
        self._process = await asyncio.create_subprocess_exec(
            *(*launcher, "--parent", str(os.getpid()), "--", *self._command),
            stdin=subprocess.DEVNULL,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C reaches only us; we stop the programs in their order
        )
        self._register.enter(self.name, self._process.pid)
        log.info("process_started", process=self.name, pid=self._process.pid)
        return await self._process.wait()

    async def stop(self, patience_seconds: float, hurry: asyncio.Event) -> None:
        """Stop the program: SIGTERM, and SIGKILL after ``patience_seconds``, or at once when ``hurry`` is set."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended, hurried = asyncio.ensure_future(process.wait()), asyncio.ensure_future(hurry.wait())
        await asyncio.wait({ended, hurried}, timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not ended.done():
            log.warning("process_killed", process=self.name, pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await ended
