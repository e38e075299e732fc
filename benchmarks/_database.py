"""A PostgreSQL of the benchmark's own, as `indexer up` runs it, with databases that are copied and dropped."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.store.migrate import migrate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

TEMPLATE = "bench_template"
INVENTORY = "bench_inventory"


@dataclass(frozen=True, slots=True)
class Server:
    """The server; ``directory`` is scratch space beside it, ``pid`` its first process."""

    url: str
    directory: Path
    pid: int

    def processor_seconds(self) -> float:
        """Return the processor time of all its processes, past ones included; 0 where the system does not tell."""
        if not Path("/proc/self/stat").exists():
            return 0.0
        ticks = 0
        for process, parent, times in _processes():
            if process == self.pid:
                ticks += sum(times)
            elif parent == self.pid:
                ticks += sum(times[:2])
        return ticks / os.sysconf("SC_CLK_TCK")

    def database(self, name: str) -> str:
        """Return the URL of a database."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    async def template(self) -> str:
        """Make the database that the others are copies of; return its URL."""
        await self._execute(f"DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")
        await self._execute(f"CREATE DATABASE {TEMPLATE}")
        url = self.database(TEMPLATE)
        await migrate(url)
        return url

    @asynccontextmanager
    async def copy(self, name: str) -> AsyncIterator[str]:
        """Lend a copy of the template."""
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        try:
            yield self.database(name)
        finally:
            await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @asynccontextmanager
    async def inventory(self, *, kept: bool) -> AsyncIterator[str]:
        """Lend the database that holds the inventory, as it is if it was kept; else it ends with this."""
        if not kept:
            async with self.copy(INVENTORY) as url:
                yield url
            return
        if not await self._exists(INVENTORY):
            await self._execute(f"CREATE DATABASE {INVENTORY}")
        url = self.database(INVENTORY)
        await migrate(url)
        yield url

    async def _exists(self, name: str) -> bool:
        connection = await asyncpg.connect(self.url)
        try:
            return bool(
                await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name)
            )
        finally:
            await connection.close()

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def _processes() -> Iterator[tuple[int, int, list[int]]]:
    """Yield each process, its parent, and ticks in user mode, in the kernel, and both of its children that ended."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text(encoding="ascii", errors="replace").rpartition(") ")[2].split()
        except OSError:
            continue  # it has ended
        yield int(place.parent.name), int(fields[1]), [int(each) for each in fields[11:15]]


@asynccontextmanager
async def server(kept: Path | None = None) -> AsyncIterator[Server]:
    """Run a durable server on a directory of its own, removed afterwards; or on one that is ``kept``."""
    directory = Path(tempfile.mkdtemp(prefix="indexer-bench-")) if kept is None else kept.absolute()
    directory.mkdir(exist_ok=True)
    directory.chmod(0o711)  # as root, PostgreSQL runs as somebody else and has to reach its data
    postgres = EmbeddedPostgres(EmbeddedSettings(data_dir=directory / "data"))
    try:
        await postgres.start()
        assert postgres.pid is not None
        yield Server(postgres.database_url, directory, postgres.pid)
    finally:
        await postgres.stop()
        if kept is None:
            shutil.rmtree(directory, ignore_errors=True)
