"""``indexer up``: all programs on one machine, in one terminal, stopped by one Ctrl-C.

An embedded PostgreSQL (unless a database is named), ``indexer serve`` and ``reconciler run``, each in a process of its
own: if one is killed, the others go on, and it is back within seconds. They are stopped in the order reconciler,
server, database, so that each can finish its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from indexer.common.errors import ConfigurationError, IndexerError, StoreUnavailable
from indexer.common.values import parse_address
from indexer.local.announcement import announcement, reachable_url, until_ready
from indexer.local.layout import make_private_directory
from indexer.local.lock import DirectoryLock
from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.local.processes import Program, Register
from indexer.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

log = structlog.get_logger(__name__)

TOKEN_FILE: Final = "notifications-token"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class UpSettings:
    """Settings of ``indexer up``.

    ``environment``: of the programs, which read their own settings from it; the database's URL and the token are added.
    ``database_url``: None for the embedded server. ``notifications_token``: None for a generated one. ``listen``: the
    address of ``indexer serve``. ``readable``: a setting lets somebody read the API.
    ``database_patience_seconds``: how long a database may take to answer at the start.
    ``stop_patience_seconds``: how long a program may take to drain before it is killed.
    """

    data_dir: Path
    registry_url: str | None
    database_url: str | None = None
    notifications_token: str | None = None
    listen: str = "127.0.0.1:5005"
    readable: bool = True
    postgres_bin_dir: Path | None = None
    database_patience_seconds: float = 30.0
    stop_patience_seconds: float = 20.0
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))


async def up(settings: UpSettings) -> int:
    """Run until a signal, and return 0; raise where a part cannot be kept running."""
    if not settings.registry_url:
        raise ConfigurationError(
            "RECONCILER_REGISTRY_URL is not set: say where the registry is, for example "
            "RECONCILER_REGISTRY_URL=http://127.0.0.1:5000 indexer up"
        )
    data_dir = settings.data_dir.absolute()
    make_private_directory(data_dir)
    lock = DirectoryLock(data_dir / "up.lock")
    await lock.acquire()
    try:
        return await Supervisor(settings, data_dir).run()
    finally:
        lock.release()


class Supervisor:
    """The database and the programs, from the first start to the last stop."""

    def __init__(self, settings: UpSettings, data_dir: Path) -> None:
        self._settings = settings
        self._data_dir = data_dir
        self._asked_to_end = asyncio.Event()
        self._hurry = asyncio.Event()
        self._register = Register(data_dir / "up.processes")
        self._postgres: EmbeddedPostgres | None = None
        self._programs: list[Program] = []

    async def run(self) -> int:
        """Start all parts, wait for a signal or a failure, stop all parts."""
        self._listen_for_signals()
        work = asyncio.create_task(self._work(), name="up")
        ending = asyncio.create_task(self._asked_to_end.wait(), name="ending")
        try:
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            ending.cancel()
            work.cancel()
            await asyncio.gather(work, ending, return_exceptions=True)
            await self._stop()
        return 0

    async def _work(self) -> None:
        """Start the parts in the order in which they depend on each other, and keep them running."""
        await self._register.end_leftovers()
        token, token_place = notifications_token(self._settings.notifications_token, self._data_dir)
        ensure_free(self._settings.listen)
        database_url = await self._start_database()
        for name in await migrate_when_reachable(database_url, self._settings.database_patience_seconds):
            log.info("migrated", migration=name)
        environment = {
            **self._settings.environment,
            "INDEXER_DATABASE_URL": database_url,
            "INDEXER_NOTIFICATIONS_TOKEN": token,
        }
        self._programs = [
            Program("indexer serve", python("indexer", "serve"), environment, self._register),
            Program("reconciler run", python("reconciler", "run"), environment, self._register),
        ]
        keepers = [program.keep_running() for program in self._programs]
        await until_one_fails(*keepers, self._keep_database(), self._announce(token_place))

    async def _start_database(self) -> str:
        if self._settings.database_url is not None:
            return self._settings.database_url
        self._postgres = EmbeddedPostgres(
            EmbeddedSettings(data_dir=self._data_dir, bin_dir=self._settings.postgres_bin_dir)
        )
        await self._postgres.start()
        log.info("postgres_started", pid=self._postgres.pid, directory=str(self._data_dir / "postgres"))
        if self._postgres.shared_account is not None:
            log.warning("postgres_shares_its_user", error=self._postgres.shared_account)
        return self._postgres.database_url

    async def _keep_database(self) -> None:
        """Start the embedded server again whenever it ends."""
        while self._postgres is not None:
            exit_code = await self._postgres.wait()
            log.warning("postgres_ended", exit_code=exit_code)
            await start_again(self._postgres)
            log.info("postgres_started", pid=self._postgres.pid)

    async def _announce(self, token_place: str) -> None:
        """Once the server is ready, print the addresses and the registry's configuration."""
        await until_ready(self._settings.listen)
        log.info("up_ready", listen=self._settings.listen, registry=self._settings.registry_url)
        database = "as INDEXER_DATABASE_URL says"
        if self._postgres is not None:
            database = f"embedded PostgreSQL in {self._data_dir / 'postgres'}"
        text = announcement(
            base_url=reachable_url(self._settings.listen),
            registry_url=self._settings.registry_url or "",
            database=database,
            token_place=token_place,
            readable=self._settings.readable,
        )
        sys.stdout.write(text)
        sys.stdout.flush()

    async def _stop(self) -> None:
        """Stop all parts, each within its time; a second signal kills the programs at once."""
        for program in reversed(self._programs):
            await program.stop(self._settings.stop_patience_seconds, self._hurry)
        self._register.clear()
        if self._postgres is not None:
            await self._postgres.stop()
        log.info("up_stopped")

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # as nohup wants; an ignored SIGINT says nothing: shells set it for every background job
            loop.add_signal_handler(number, self._end, number)

    def _end(self, number: signal.Signals) -> None:
        if self._asked_to_end.is_set():
            self._hurry.set()
        log.info("up_stopping", signal=number.name, hurry=self._hurry.is_set())
        self._asked_to_end.set()


async def until_one_fails(*work: Coroutine[object, object, None]) -> None:
    """Run all; the first error cancels the others and is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def migrate_when_reachable(database_url: str, patience_seconds: float) -> list[str]:
    """Migrate the database, and return what was applied; one that is starting may take ``patience_seconds``."""
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return await migrate(database_url)
        except StoreUnavailable as error:
            if time.monotonic() > deadline:
                raise
            log.warning("database_not_reachable", error=str(error))
            await asyncio.sleep(1)


async def start_again(postgres: EmbeddedPostgres, attempts: int = 10) -> None:
    """Start a server that ended; retry, since the machine may be short of memory or disk for a moment."""
    for attempt in range(1, attempts + 1):
        try:
            await postgres.start()
        except (IndexerError, OSError) as error:
            if attempt == attempts:
                raise
            log.warning("postgres_did_not_start", error=str(error), attempt=attempt)
            await asyncio.sleep(min(0.2 * 2**attempt, 4.0))
        else:
            return


def notifications_token(given: str | None, data_dir: Path) -> tuple[str, str]:
    """Return the token and where it is written: the operator's, else an earlier start's, else a new one."""
    if given:
        return given, "INDEXER_NOTIFICATIONS_TOKEN"
    path = data_dir / TOKEN_FILE
    with contextlib.suppress(FileNotFoundError):
        kept = path.read_text(encoding="ascii").strip()
        if kept:
            return kept, str(path)
    token = secrets.token_urlsafe(32)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    held = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(held, "w", encoding="ascii") as file:
        file.write(f"{token}\n")
    fresh.replace(path)
    return token, str(path)


def python(module: str, verb: str) -> list[str]:
    """Return the command of one of our modules; -P: nothing is imported from the working directory."""
    return [sys.executable, "-P", "-m", module, verb]


def ensure_free(listen: str) -> None:
    """Raise ``ConfigurationError`` where our server cannot listen at its address, mostly since another process does.

    Checked before anything is started: that process would answer ``/readyz``, and be announced as our server.
    """
    host, port = parse_address(listen)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tried.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"INDEXER_LISTEN: cannot listen on {listen}: {error.strerror}; another `indexer up` or `indexer serve` may "
            "run there: end it, or set another address"
        ) from None
