"""A populated database of a release, as a file: ``python -m tests.migration.samples VERSION`` writes it at the release.

The file holds the migrations of that release, word by word, every row of every table in PostgreSQL's text format, and
what the release answered about them. ``test_upgrade`` builds such a database and upgrades it, for ever after.
"""

from __future__ import annotations

import asyncio
import io
import json
import lzma
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from indexer.audit.checkpoint import Checkpointer
from indexer.audit.seal import seal
from indexer.store.inbox import Delivery, put_deliveries
from indexer.store.lookups import Lookups
from indexer.store.migrate import Migration, migrations
from indexer.store.pool import Connection, open_pool
from tests.fixtures import captures, everything
from tests.fixtures.everything import EAGER, KEY
from tests.fixtures.ingesting import ingest
from tests.fixtures.postgres import embedded, programs
from tests.fixtures.rows import at

RELEASES = Path(__file__).parent / "releases"
RECORDINGS = ("random-workload-a.2.8.2", "multiarch-index-and-list.3.1.1", "cosign-signature-tags.3.1.1")

TABLES = """
SELECT c.relname FROM pg_class AS c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.relname <> 'schema_migration' ORDER BY 1
"""
COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
IDENTITIES = """
SELECT c.relname, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attidentity <> '' AND NOT a.attisdropped
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a file holds. ``answers``: see :func:`answers`."""

    version: str
    migrations: list[dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    answers: dict[str, Any]

    def released(self) -> list[Migration]:
        """Return the migrations as they were released."""
        return [Migration(**each) for each in self.migrations]


def read(path: Path) -> Sample:
    """Read a file."""
    return Sample(**json.loads(lzma.decompress(path.read_bytes())))


async def restore(database_url: str, sample: Sample) -> None:
    """Write a sample's rows into a database that its migrations have built."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("SET session_replication_role = replica")  # rows in any order
        await connection.execute(f"TRUNCATE {', '.join(sample.tables)} CASCADE")  # what migrations put there
        for name, table in sample.tables.items():
            await connection.copy_to_table(
                name, source=io.BytesIO(table["rows"].encode()), columns=table["columns"], format="text"
            )
        await restart_identities(connection)
    finally:
        await connection.close()


async def restart_identities(connection: Connection) -> None:
    """Let new rows get ids behind those that were written with theirs."""
    for table, column in await connection.fetch(IDENTITIES):
        await connection.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'),"
            f" greatest((SELECT coalesce(max({column}), 0) + 1 FROM {table}), 1000), false)"
        )


async def answers(database_url: str) -> dict[str, Any]:
    """Return what the database says, in words that outlive its tables: tags, sizes, sealed positions, checkpoint."""
    connection = await asyncpg.connect(database_url)
    try:
        tags = await connection.fetch(
            "SELECT r.name AS repository, t.name, encode(m.digest, 'hex') AS digest, t.size_bytes FROM tag AS t"
            " JOIN repository AS r ON r.id = t.repository_id LEFT JOIN manifest AS m ON m.id = t.manifest_id"
            " ORDER BY 1, 2"
        )
        intervals = await connection.fetchval("SELECT count(*) FROM tag_history")
        sealed = await connection.fetchval("SELECT max(position) FROM audit_entry")
        note = await connection.fetchval("SELECT note FROM audit_checkpoint ORDER BY size DESC LIMIT 1")
    finally:
        await connection.close()
    return {
        "tags": [list(row.values()) for row in tags],
        "intervals": intervals,
        "sealed": sealed,
        "checkpoint": note,
    }


async def fill(database_url: str) -> None:
    """Fill a database with recordings, a sealed and signed log, and something of everything else."""
    pool = await open_pool(database_url, size=4, application="sample")
    words = await open_pool(database_url, size=2, application="sample lookups")
    try:
        await everything.fill(pool)
        async with pool.acquire() as connection:
            await restart_identities(connection)
        lookups = Lookups(words)
        for name in RECORDINGS:
            await ingest(pool, lookups, captures.load(name), batch=50)
        rubbish = Delivery(received_at=at(90), content_type="application/json", body=b"{")
        async with pool.acquire() as connection:
            await put_deliveries(connection, deliveries=[rubbish])
        while await seal(pool, limit=1000):
            pass
        await Checkpointer(pool, KEY, EAGER).run_once()
    finally:
        await pool.close()
        await words.close()


async def dump(database_url: str, version: str) -> Sample:
    """Return everything that is in a database."""
    connection = await asyncpg.connect(database_url)
    try:
        tables = {}
        for (name,) in await connection.fetch(TABLES):
            columns = [row["attname"] for row in await connection.fetch(COLUMNS, name)]
            rows = io.BytesIO()
            await connection.copy_from_table(name, output=rows, columns=columns, format="text")
            if rows.getvalue():
                tables[name] = {"columns": columns, "rows": rows.getvalue().decode()}
    finally:
        await connection.close()
    return Sample(
        version=version,
        migrations=[{"version": m.version, "name": m.name, "sql": m.sql} for m in migrations()],
        tables=tables,
        answers=await answers(database_url),
    )


def write(version: str) -> Path:
    """Make the file of a release, which must not exist; return its path."""
    path = RELEASES / f"{version}.json.xz"
    with asyncio.Runner() as runner, embedded(runner, programs("auto")) as server:

        async def make() -> Sample:
            from indexer.store.migrate import migrate  # noqa: PLC0415 - beside its use

            await migrate(server)
            await fill(server)
            return await dump(server, version)

        sample = runner.run(make())
    content = {name: getattr(sample, name) for name in Sample.__slots__}
    with path.open("xb") as file:
        file.write(lzma.compress(json.dumps(content, sort_keys=True).encode(), preset=9))
    return path


if __name__ == "__main__":
    print(write(sys.argv[1]))
