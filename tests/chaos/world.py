"""The parts: a real registry, a real PostgreSQL, the real commands, and proxies that can fail in between."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.store.migrate import migrate
from tests.chaos.recorder import Recorder
from tests.chaos.storage import FilesystemStorage, S3Storage, Storage, choose
from tests.fixtures import programs
from tests.fixtures.fault_proxy import FaultProxy
from tools.ports import free_port
from tools.registry_binary import FoundRegistry
from tools.registry_server import Endpoint, RegistryServer, RegistrySettings

TOKEN, API_TOKEN = "chaos-notifications", "chaos-api"
LOG_LEVEL = "warning"
READY_SECONDS, SILENT_AFTER_SECONDS = 60, 10
READY, SILENT = "is ready", "is silent"
COPIES = 12
"""Names of copies in the storage: 3.1 on S3 lists no ``copied-10`` beside ``copied-1``."""


@dataclass
class Command:
    """One of our commands as a process that is started again after each kill."""

    arguments: list[str]
    environment: dict[str, str]
    log: Path
    process: programs.Process | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = programs.start(self.arguments, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]


@dataclass
class World:
    """Everything that runs, and what may happen to it."""

    registry_binary: FoundRegistry
    directory: Path
    seed: int
    on_s3: bool = False
    registry_processes: int = 1
    """Of one registry, on one storage; the reconciler asks the first, writers and clients ask any."""
    randomness: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.randomness = random.Random(self.seed)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.directory.chmod(0o711)
        self.postgres = EmbeddedPostgres(EmbeddedSettings(data_dir=self.directory))
        await self.postgres.start()
        self._stack.push_async_callback(self.postgres.stop)
        await migrate(self.postgres.database_url)
        self.database = await self._stack.enter_async_context(
            FaultProxy(_socket_of(self.postgres.database_url))
        )
        self.listen = f"127.0.0.1:{free_port()}"
        self.recorder = await self._stack.enter_async_context(Recorder(f"http://{self.listen}/notifications"))
        content = self.directory / "content"
        self.storage: Storage = (
            await asyncio.to_thread(S3Storage, self.directory) if self.on_s3 else FilesystemStorage(content)
        )
        self._stack.callback(self.storage.close)
        self.registries = [self._registry(number, content) for number in range(self.registry_processes)]
        for registry in self.registries:
            await asyncio.to_thread(registry.start)
            self._stack.callback(registry.kill)
        parts = urlsplit(self.registries[0].url)
        self.to_registry = await self._stack.enter_async_context(
            FaultProxy((parts.hostname or "127.0.0.1", parts.port or 80))
        )
        environment = self._environment()
        self.server = Command(["indexer", "serve"], environment, self.directory / "serve.log")
        self.reconciler = Command(["reconciler", "run"], environment, self.directory / "run.log")
        for command in (self.server, self.reconciler):
            command.start()
            self._stack.callback(command.kill)
        await self.until_ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _registry(self, number: int, content: Path) -> RegistryServer:
        directory = self.directory / f"registry-{number}"
        directory.mkdir()
        settings = RegistrySettings(
            directory=directory,
            storage_dir=content,
            port=free_port(),
            notifications=[Endpoint(self.recorder.url, token=TOKEN, backoff="100ms", timeout="3s")],
            extra=self.storage.settings(),
        )
        return RegistryServer(self.registry_binary, settings)

    @property
    def database_url(self) -> str:
        """The database as our commands see it: through the proxy."""
        name = urlsplit(self.postgres.database_url).path
        user = urlsplit(self.postgres.database_url).username or "indexer"
        return f"postgresql://{user}@127.0.0.1:{self.database.port}{name}?sslmode=disable"

    def _environment(self) -> dict[str, str]:
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("INDEXER_", "RECONCILER_"))
        }
        return ours | {
            "INDEXER_DATABASE_URL": self.database_url,
            "INDEXER_DATA_DIR": str(self.directory / "data"),
            "INDEXER_LISTEN": self.listen,
            "INDEXER_NOTIFICATIONS_TOKEN": TOKEN,
            "INDEXER_API_TOKENS": API_TOKEN,
            "INDEXER_LOG_LEVEL": LOG_LEVEL,
            "RECONCILER_REGISTRY_URL": f"http://127.0.0.1:{self.to_registry.port}",
            "RECONCILER_INTERVAL": "5s",
            "RECONCILER_BRAKE_SHARE": "1",
            "RECONCILER_REREAD_AFTER": "1s",
        }

    async def until_ready(self) -> None:
        """Wait for the server to answer that it is ready; where it does not, say what it did instead."""
        deadline = time.monotonic() + READY_SECONDS
        said = "was not asked"
        while time.monotonic() < deadline:
            said = await self._readiness()
            if said == READY:
                return
            process = self.server.process
            if process is not None and process.poll() is not None:
                said = f"ended with {process.poll()}"
                break
            if said == SILENT:
                said = f"{SILENT}, {self._state()}"
                self._show_where_it_is()
                break
            await asyncio.sleep(0.05)
        raise AssertionError(f"the server {said}:\n{self.server.last_words()}")

    async def _readiness(self) -> str:
        """Ask once: ready, refused, or silent; ``/readyz`` has to answer within a second, and the machine is busy."""
        limit = aiohttp.ClientTimeout(total=SILENT_AFTER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=limit) as session,
                session.get(f"http://{self.listen}/readyz") as answer,
            ):
                return READY if answer.status == 200 else f"answers {answer.status} {await answer.text()}"
        except TimeoutError:  # before the others: a time-out of the client is one of them, too
            return SILENT
        except aiohttp.ClientError as error:
            return f"is not reached: {error!r}"

    def _state(self) -> str:
        """Say whether the server runs, sleeps, waits for a disk, or was stopped by a signal from elsewhere (Linux)."""
        assert self.server.process is not None
        found = Path(f"/proc/{self.server.process.pid}/status")
        if not found.exists():
            return "in an unknown state"
        lines = found.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("State:"))

    def _show_where_it_is(self) -> None:
        """Have every thread of the server write down where it stands, which ends the server."""
        process = self.server.process
        assert process is not None
        process.send_signal(signal.SIGABRT)
        process.send_signal(signal.SIGCONT)  # or a stopped one would never get to it
        process.wait(timeout=READY_SECONDS)

    # --- faults ------------------------------------------------------------------------------------------

    async def fail_once(self) -> str:
        """Let one thing go wrong, chosen by the seed, and mend it after a moment; return what it was."""
        faults = [
            self.kill_registry,
            self.kill_server,
            self.kill_reconciler,
            self.kill_postgres,
            self.stall_database,
            self.cut_database,
            self.stall_registry,
            self.cut_registry,
            self.remove_tag_from_storage,
            self.copy_tag_in_storage,
        ]
        fault = self.randomness.choice(faults)
        await fault()
        return fault.__name__

    async def kill_registry(self) -> None:
        registry = self.randomness.choice(self.registries)
        await asyncio.to_thread(registry.kill)
        await asyncio.to_thread(registry.start)

    async def kill_server(self) -> None:
        self.server.kill()
        await asyncio.sleep(self.randomness.random() / 2)
        self.server.start()

    async def kill_reconciler(self) -> None:
        self.reconciler.kill()
        await asyncio.sleep(self.randomness.random() / 2)
        self.reconciler.start()

    async def kill_postgres(self) -> None:
        assert self.postgres.pid is not None
        os.kill(self.postgres.pid, signal.SIGKILL)
        await self.postgres.wait()
        await asyncio.sleep(self.randomness.random())
        await self.postgres.start()

    async def stall_database(self) -> None:
        self.database.stall()
        await asyncio.sleep(0.3 + self.randomness.random() * 3)
        self.database.resume()

    async def cut_database(self) -> None:
        self.database.refuse()
        await asyncio.sleep(self.randomness.random() * 2)
        self.database.resume()

    async def stall_registry(self) -> None:
        self.to_registry.stall()
        await asyncio.sleep(self.randomness.random() * 2)
        self.to_registry.resume()

    async def cut_registry(self) -> None:
        self.to_registry.refuse()
        await asyncio.sleep(self.randomness.random())
        self.to_registry.resume()

    async def remove_tag_from_storage(self) -> None:
        chosen = await asyncio.to_thread(choose, self.storage, self.randomness)
        if chosen is not None:
            await asyncio.to_thread(self.storage.remove_tag, *chosen)

    async def copy_tag_in_storage(self) -> None:
        chosen = await asyncio.to_thread(choose, self.storage, self.randomness)
        if chosen is not None:
            target = f"copied-{self.randomness.randrange(COPIES)}"
            await asyncio.to_thread(self.storage.copy_tag, *chosen, target)


def _socket_of(database_url: str) -> Path:
    query = dict(part.split("=", 1) for part in urlsplit(database_url).query.split("&"))
    return Path(query["host"].replace("%2F", "/")) / f".s.PGSQL.{query.get('port', '5432')}"
