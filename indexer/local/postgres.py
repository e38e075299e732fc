"""An embedded PostgreSQL for one machine: created, started, watched and stopped by ``indexer up``.

* It never runs as root, whoever starts it (``identity``).
* It ends with us (Linux); where that failed, the next start finds the orphan and stops it (``pid_file``).
* It listens only on a Unix socket, in a directory that only its user can enter (``layout``).
* A lock on the data directory refuses a second ``indexer up`` (``lock``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.common.errors import ConfigurationError, StoreUnavailable
from indexer.local.binaries import Binaries, find_binaries, require_same_major
from indexer.local.identity import Identity, choose_identity, shared_account
from indexer.local.layout import (
    DATABASE,
    make_private_directory,
    make_socket_directory,
    read_log_from,
    remove_temporary_directory,
    rotate_log,
    server_environment,
    server_options,
    socket_url,
    sync_directory,
    write_access_rules,
)
from indexer.local.lock import DirectoryLock
from indexer.local.pid_file import (
    POLL_SECONDS,
    PidFile,
    disown_pid_file,
    end_stranded,
    is_alive,
    runs_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """Settings of an embedded server.

    ``data_dir``: all files are in it; the cluster is in ``postgres``.
    ``bin_dir``: the directory of ``postgres`` and ``initdb``; None: they are searched.
    ``durable``: commits survive a power cut; only tests turn it off.
    ``start_timeout_seconds``: long enough for recovery, which replays up to ``max_wal_size`` of WAL.
    ``stop_timeout_seconds``: long enough for the checkpoint of a busy database; then it is shut down without one.
    ``lock_timeout_seconds``: how long a predecessor on the same directory may take to end.
    """

    data_dir: Path
    bin_dir: Path | None = None
    durable: bool = True
    start_timeout_seconds: float = 300.0
    stop_timeout_seconds: float = 30.0
    lock_timeout_seconds: float = 5.0


class EmbeddedPostgres:
    """One server on one data directory, from ``start`` to ``stop``.

    ``start`` may be called again after ``wait`` returned. It must be called from the main thread, since the kernel ends
    the server with the thread that started it.
    """

    def __init__(self, settings: EmbeddedSettings) -> None:
        self._settings = settings
        self._data_dir = settings.data_dir.absolute()
        self._cluster = self._data_dir / "postgres"
        self._log = self._data_dir / "postgres.log"
        self._process: asyncio.subprocess.Process | None = None
        self.shared_account: str | None = None
        """A warning about the user that the server runs as, if there is one; known once it was started."""
        self._socket_dir: Path | None = None
        self._lock = DirectoryLock(
            self._data_dir / "postgres.lock", patience_seconds=settings.lock_timeout_seconds
        )
        self._socket_name = f"indexer-pg-{secrets.token_hex(6)}"  # kept over restarts: clients know the URL

    @property
    def database_url(self) -> str:
        """The database's URL, for asyncpg and libpq; raises ``StoreUnavailable`` before ``start``."""
        if self._socket_dir is None:
            raise StoreUnavailable("the embedded PostgreSQL has not been started")
        return socket_url(self._socket_dir)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, else None."""
        if self._process is None or self._process.returncode is not None:
            return None
        return self._process.pid

    async def start(self) -> None:
        """Start the server, and return once it answers. Stops an orphan first; creates the cluster if there is none."""
        binaries = find_binaries(self._settings.bin_dir)
        make_private_directory(self._data_dir)
        await self._lock.acquire()
        try:
            identity = choose_identity(binaries, self._data_dir, self._cluster)
            self.shared_account = shared_account(identity)
            await self._stop_orphan()
            if not self._cluster.exists():
                await self._create_cluster(binaries, identity)
            require_same_major(binaries, self._cluster)
            write_access_rules(self._cluster, identity)
            self._socket_dir = make_socket_directory(self._data_dir, self._socket_name, identity)
            await self._launch(binaries, identity)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Shut down: fast, then immediate, then SIGKILL. What is committed is safe in each case."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            await end_process(process, self._settings.stop_timeout_seconds)
        if self._socket_dir is not None:
            remove_temporary_directory(self._socket_dir)
            self._socket_dir = None
        self._lock.release()

    async def wait(self) -> int:
        """Return the exit code once the server has ended, for whatever reason."""
        if self._process is None:
            raise StoreUnavailable("the embedded PostgreSQL has not been started")
        return await self._process.wait()

    async def _stop_orphan(self) -> None:
        """Stop a server that outlived the process that started it; never another program with its process id."""
        pid_file = PidFile.read(self._cluster)
        if pid_file is None:
            return
        if runs_in(pid_file.pid, self._cluster):
            await end_stranded(pid_file.pid, self._cluster, self._settings.stop_timeout_seconds)
        elif is_alive(pid_file.pid):
            disown_pid_file(self._cluster)
        if pid_file.socket_dir != self._socket_dir:
            remove_temporary_directory(pid_file.socket_dir)

    async def _create_cluster(self, binaries: Binaries, identity: Identity) -> None:
        """Create a cluster in ``postgres.new`` and rename it once it is complete: half a cluster is never used."""
        fresh = self._cluster.with_name("postgres.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        identity.own(fresh)
        initdb = [
            *(str(binaries.initdb), "-D", str(fresh), "-U", DATABASE, "--encoding=UTF8", "--locale=C"),
            *("--auth=reject", "--no-instructions", *(() if self._settings.durable else ("--no-sync",))),
        ]
        await self._run(identity, initdb)
        single = [
            str(binaries.postgres),
            "--single",
            "-D",
            str(fresh),
            "-c",
            "log_checkpoints=off",
            "postgres",
        ]
        await self._run(identity, single, f"CREATE DATABASE {DATABASE};\n")
        fresh.rename(self._cluster)
        if self._settings.durable:
            sync_directory(self._data_dir)

    async def _run(self, identity: Identity, command: Sequence[str], text: str = "") -> None:
        """Run one of PostgreSQL's programs to its end; raise ``ConfigurationError`` with its output where it fails."""
        process = await asyncio.create_subprocess_exec(
            *identity.wrap(command, signal.SIGKILL),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=server_environment(),
            cwd="/",
        )
        try:
            output, _ = await process.communicate(text.encode())
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            text = " ".join(output.decode("utf-8", "replace").split())
            raise ConfigurationError(
                f"{Path(command[0]).name} could not create {self._cluster}: {text[-600:]}"
            )

    async def _launch(self, binaries: Binaries, identity: Identity) -> None:
        """Start the server, and retry while the last processes of its predecessor end."""
        deadline = time.monotonic() + self._settings.lock_timeout_seconds
        while True:
            written = rotate_log(self._log)
            self._process = await self._spawn(binaries, identity)
            if await self._becomes_ready(self._process):
                return
            text = read_log_from(self._log, written)
            self._process = None
            if not is_predecessor_ending(text) or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"PostgreSQL did not start: {text[-600:]} (all of it in {self._log})"
                )
            await asyncio.sleep(0.2)

    async def _spawn(self, binaries: Binaries, identity: Identity) -> asyncio.subprocess.Process:
        options = server_options(self._socket_directory(), durable=self._settings.durable)
        command = [str(binaries.postgres), "-D", str(self._cluster)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            return await asyncio.create_subprocess_exec(
                *identity.wrap(command, signal.SIGINT),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=server_environment(),
                cwd="/",
                start_new_session=True,  # a Ctrl-C reaches only us; we stop the programs in their order
            )
        finally:
            os.close(log)

    async def _becomes_ready(self, process: asyncio.subprocess.Process) -> bool:
        """Wait until the pid file of this very process says "ready"; a stale one may say so, too. False: it ended."""
        deadline = time.monotonic() + self._settings.start_timeout_seconds
        while process.returncode is None:
            pid_file = PidFile.read(self._cluster)
            if pid_file is not None and pid_file.pid == process.pid and pid_file.ready:
                return True
            if time.monotonic() > deadline:
                await end_process(process, self._settings.stop_timeout_seconds)
                seconds = self._settings.start_timeout_seconds
                raise StoreUnavailable(f"PostgreSQL was not ready within {seconds:.0f} s; see {self._log}")
            await asyncio.sleep(POLL_SECONDS)
        return False

    def _socket_directory(self) -> Path:
        if self._socket_dir is None:
            raise StoreUnavailable("the embedded PostgreSQL has not been started")
        return self._socket_dir


def find_running(data_dir: Path) -> str | None:
    """Return the URL of the embedded server that runs on ``data_dir``; None where none is ready.

    For commands that run beside ``indexer up``. Reads files only. The pid file counts only if the process it names is
    the server of that directory.
    """
    cluster = data_dir.absolute() / "postgres"
    pid_file = PidFile.read(cluster)
    if pid_file is None or not pid_file.ready or pid_file.socket_dir is None:
        return None
    return socket_url(pid_file.socket_dir) if runs_in(pid_file.pid, cluster) else None


async def end_process(process: asyncio.subprocess.Process, timeout_seconds: float) -> None:
    """Stop our own server: fast shutdown, then immediate, then SIGKILL."""
    for signal_number, patience in ((signal.SIGINT, timeout_seconds), (signal.SIGQUIT, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal_number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await process.wait()
                return
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def is_predecessor_ending(text: str) -> bool:
    """Return whether a start failed because the last processes of a predecessor are still ending."""
    return "still in use" in text or "lock file" in text
