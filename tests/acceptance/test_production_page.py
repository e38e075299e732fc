"""What "Run in production" says about the database, run as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from indexer.local.binaries import wheel_directories
from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.store.migrate import migrate, migrations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.postgres import PostgresServer

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-in-production.md"
SHELL = re.compile(r"^## From `indexer up`.*?^```shell\n(.*?)^```", re.MULTILINE | re.DOTALL)

ROLE = re.compile(r"^```sql\n(CREATE ROLE .*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place that another user gets to: as root, the embedded server runs as nobody."""
    path = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


async def fill(data_dir: Path) -> None:
    """Leave what ``indexer up`` leaves behind: a database with something in it, and its server stopped."""
    server = EmbeddedPostgres(EmbeddedSettings(data_dir=data_dir))
    await server.start()
    try:
        await migrate(server.database_url)
        connection = await asyncpg.connect(server.database_url)
        await connection.execute("INSERT INTO repository (name, created_at) VALUES ('team/app', now())")
        await connection.close()
    finally:
        await server.stop()


async def names(database_url: str) -> list[str]:
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch("SELECT name FROM repository")
        return [row["name"] for row in rows]
    finally:
        await connection.close()


def as_owner(cluster: Path) -> str:
    """The page's ``AS``: needed by root alone."""
    owner = cluster.stat()
    if owner.st_uid == os.geteuid():
        return ""
    return f"setpriv --reuid={owner.st_uid} --regid={owner.st_gid} --clear-groups"


def test_role__may_make_the_tables(postgres_server: PostgresServer) -> None:
    """The page's role may make tables in the page's database."""
    found = ROLE.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    name = f"{postgres_server.prefix}_page"
    statements = [each.strip() for each in found[1].replace("indexer", name).split(";") if each.strip()]
    assert 3 == len(statements)

    async def build() -> None:
        connection = await asyncpg.connect(postgres_server.database_url(name))
        try:
            await connection.execute(f"SET ROLE {name}")
            for migration in migrations():
                await connection.execute(migration.sql)
        finally:
            await connection.close()

    try:
        for statement in statements:
            postgres_server.run(postgres_server.execute(statement))
        postgres_server.run(build())
    finally:
        postgres_server.run(postgres_server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        postgres_server.run(postgres_server.execute(f"DROP ROLE IF EXISTS {name}"))


@pytest.mark.full
@pytest.mark.skipif(not [*wheel_directories()], reason="needs the embedded PostgreSQL")
def test_move__from_up_to_a_database_of_ones_own(directory: Path, empty_database_url: str) -> None:
    """The page's commands copy the embedded database into another one that the program takes; the old one is kept."""
    data = directory / "data"
    asyncio.run(fill(data))
    if os.geteuid() == 0 and (data / "postgres").stat().st_uid == 0:
        pytest.skip("here the embedded server runs in a user namespace, of which the page does not speak")
    found = SHELL.search(PAGE.read_text(encoding="utf-8"))
    assert found is not None
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", found[1]],
        cwd=directory,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATA": "data",
            "NEW_URL": empty_database_url,
            "AS": as_owner(data / "postgres"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "up to date" in done.stdout
    assert ["team/app"] == asyncio.run(names(empty_database_url))
    assert not (data / "postgres" / "postmaster.pid").exists()
