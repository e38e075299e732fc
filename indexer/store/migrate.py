"""Numbered migrations: ``migrations/NNNN_title.sql``, each applied once, in order, in its own transaction.

A file whose first line is ``-- not transactional`` is one statement that runs outside of a transaction (CREATE INDEX
CONCURRENTLY). It may be interrupted at any point, and is then run again: an index that it left invalid is dropped
before, and it must accept what it had done (IF NOT EXISTS). No statement has a time limit here, since its time depends
on the data. The checksum of an applied file is kept, and a changed file is refused.

Several runners may start at once. The lock is polled: waiting in pg_advisory_lock() holds a snapshot, and CREATE INDEX
CONCURRENTLY of the one that has the lock would wait for that snapshot for ever (happened).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import asyncpg

from indexer.common.errors import ConfigurationError, StoreOutdated
from indexer.store.pool import Connection, connect, translated

_FILE = re.compile(r"(\d{4})_(\w+)\.sql\Z")
_INDEX = re.compile(
    r"^CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS\s+(\w+)\s",
    re.IGNORECASE | re.MULTILINE,
)
_TABLE = re.compile(r"^CREATE TABLE (\w+)", re.MULTILINE)
_LOCK_KEY = 0x696E6465786572  # "indexer"
_LOCK_POLL_SECONDS = 0.2
MIN_SERVER_VERSION = 150000


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: its number, its title and its text."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> bytes:
        """SHA-256 of the text."""
        return hashlib.sha256(self.sql.encode()).digest()

    @property
    def transactional(self) -> bool:
        """False where the first line says so."""
        return not self.sql.startswith("-- not transactional")


def migrations() -> list[Migration]:
    """Return every migration that ships with this program, in order."""
    found = []
    for file in (files("indexer.store") / "migrations").iterdir():
        match = _FILE.match(file.name)
        if match:
            found.append(Migration(version=int(match[1]), name=match[2], sql=file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.version)


async def migrate(database_url: str) -> list[str]:
    """Bring the database up to date and return the names of what was applied, in order.

    Raises ``StoreUnavailable`` if it cannot be reached, ``ConfigurationError`` if we may not create tables in it, and
    ``StoreOutdated`` if it is newer than this program, was built by other files of the same number, or the server is
    older than PostgreSQL 15.
    """
    connection = await connect(database_url, application="indexer migrate", limited=False)
    try:
        async with translated():
            version = await connection.fetchval("SELECT current_setting('server_version_num')::integer")
            if version < MIN_SERVER_VERSION:
                raise StoreOutdated(f"PostgreSQL {version // 10000} is too old: 15 or newer is needed")
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):  # noqa: ASYNC110 - why is above
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            return await _apply_pending(connection)
    finally:
        await connection.close()


async def check(connection: Connection) -> None:
    """Raise ``StoreOutdated`` unless the database is exactly at this program's version."""
    pending = _pending(await _applied(connection))
    if pending:
        raise StoreOutdated(
            f"the database lacks migration {pending[0].version:04d}_{pending[0].name}: run `indexer migrate`"
        )


async def obstacle(connection: Connection) -> str | None:
    """Return why `indexer migrate` cannot create its tables, with the statement that helps; None if it can or need not.

    Since PostgreSQL 15 a role may create nothing in the schema ``public`` of a database of another owner, whatever it
    was granted on the database itself. The driver's own errors name neither role nor remedy.
    """
    pending = _pending(await _applied(connection))
    if not pending:
        return None
    names = [name for migration in pending for name in _TABLE.findall(migration.sql)]
    row = await connection.fetchrow(
        """
        SELECT quote_ident(current_user) AS role, quote_ident(current_database()) AS database,
               quote_ident(coalesce(current_schema(), 'public')) AS schema,
               coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
               ARRAY(SELECT relname::text FROM pg_class WHERE relname = ANY ($1::text[])
                     AND relnamespace = to_regnamespace(quote_ident(current_schema())) ORDER BY relname) AS taken
        """,
        names,
    )
    assert row is not None  # noqa: S101 - it selects from nothing; tells mypy
    role, database, schema = row["role"], row["database"], row["schema"]
    if not row["may_create"]:
        return (
            f"role {role} may not create tables in schema {schema} of database {database}; as a superuser: "
            f"`ALTER DATABASE {database} OWNER TO {role}`, or, connected to {database}: "
            f"`GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}`"
        )
    if row["taken"]:
        return (
            f"schema {schema} of database {database} holds tables of somebody else's under names that we need "
            f"({', '.join(row['taken'])}); give us a database of our own: `CREATE DATABASE indexer OWNER {role}`"
        )
    return None


async def _apply_pending(connection: Connection) -> list[str]:
    names = []
    if (why := await obstacle(connection)) is not None:
        raise ConfigurationError(f"INDEXER_DATABASE_URL: {why}")
    for migration in _pending(await _applied(connection)):
        if migration.transactional:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await _record(connection, migration)
        else:
            await _drop_invalid(connection, migration)
            await connection.execute(migration.sql)
            await _record(connection, migration)
        names.append(f"{migration.version:04d}_{migration.name}")
    return names


async def _drop_invalid(connection: Connection, migration: Migration) -> None:
    """Drop the invalid index that an earlier try left: it is never used, and IF NOT EXISTS would keep it."""
    for name in _INDEX.findall(migration.sql):
        left = await connection.fetchval(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid",
            name,
        )
        if left is not None:
            await connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {left}")


async def _applied(connection: Connection) -> dict[int, bytes]:
    try:
        rows = await connection.fetch("SELECT version, checksum FROM schema_migration ORDER BY version")
    except asyncpg.UndefinedTableError:
        return {}
    return {row["version"]: row["checksum"] for row in rows}


def _pending(applied: dict[int, bytes]) -> list[Migration]:
    known = {migration.version: migration for migration in migrations()}
    for version, checksum in applied.items():
        if version not in known:
            raise StoreOutdated(
                f"the database is at migration {version:04d}, which this program does not know: "
                "it was made by a newer release; upgrade the program"
            )
        if known[version].checksum != checksum:
            raise StoreOutdated(
                f"migration {version:04d}_{known[version].name} was applied from a different file: "
                "the program and the database do not belong together"
            )
    return [migration for version, migration in sorted(known.items()) if version not in applied]


async def _record(connection: Connection, migration: Migration) -> None:
    await connection.execute(
        "INSERT INTO schema_migration (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )
