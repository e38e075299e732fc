"""Migrations lead to ``schema.sql``, once each, from however many runners, and nothing else is accepted."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator

import asyncpg
import pytest

from indexer.common.errors import ConfigurationError, StoreFault, StoreOutdated, StoreRefused
from indexer.store import migrate as migrations
from indexer.store import pool as pools
from indexer.store.migrate import Migration, check, migrate
from tools.schema import SCHEMA, schema

DESCRIPTION = """
SELECT 'column' AS kind, c.relname AS relation, a.attnum || ' ' || a.attname || ' '
       || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text
       || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(l.collname, '') AS definition
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind = 'r'
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', c.relname, pg_get_indexdef(i.indexrelid) || ' ' || coalesce(x.reloptions::text, '')
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid JOIN pg_class AS x ON x.oid = i.indexrelid
WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', c.relname, n.conname || ' ' || pg_get_constraintdef(n.oid)
FROM pg_constraint AS n JOIN pg_class AS c ON c.oid = n.conrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'options', c.relname, c.reloptions::text
FROM pg_class AS c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND c.reloptions IS NOT NULL
ORDER BY 1, 2, 3
"""

NEXT = migrations.migrations()[-1].version + 1
"""The number of a migration behind those that ship."""


async def describe(database_url: str) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(database_url)
    try:
        return [tuple(row) for row in await connection.fetch(DESCRIPTION)]
    finally:
        await connection.close()


async def check_at(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        await check(connection)
    finally:
        await connection.close()


async def test_migrations__lead_to_the_schema(database_url: str, empty_database_url: str) -> None:
    """A database built by the migrations is the one that schema.sql describes."""
    assert await migrate(empty_database_url)
    built, described = await describe(empty_database_url), await describe(database_url)
    assert described == built
    assert len(described) > 100


def test_schema__is_generated() -> None:
    """What is in the repository is what `dev.py schema` writes: a migration is changed in one place."""
    assert SCHEMA.read_text(encoding="utf-8") == schema(migrations.migrations())


async def test_schema__of_several_migrations(
    database_url: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later migrations follow in order; what runs outside a transaction is fit to be run in one."""
    files = [
        *migrations.migrations(),
        Migration(
            version=NEXT,
            name="index",
            sql="-- not transactional\nCREATE INDEX CONCURRENTLY IF NOT EXISTS extra ON actor (id);\n",
        ),
        Migration(version=NEXT + 1, name="column", sql="ALTER TABLE actor ADD COLUMN extra integer;\n"),
    ]
    monkeypatch.setattr(migrations, "migrations", lambda: files)
    await migrate(empty_database_url)
    built = await describe(empty_database_url)
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public;")
    await connection.execute(schema(files))
    await connection.close()
    assert await describe(database_url) == built


async def test_migrate__twice_applies_nothing(empty_database_url: str) -> None:
    """What was applied stays applied."""
    first = await migrate(empty_database_url)
    assert first == [f"{m.version:04d}_{m.name}" for m in migrations.migrations()]
    assert await migrate(empty_database_url) == []
    await check_at(empty_database_url)


async def test_migrate__by_three_at_once(empty_database_url: str) -> None:
    """Servers that start together do not meet: one applies, the others wait and find it done."""
    applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(3)))
    assert sorted(map(len, applied)) == [0, 0, len(migrations.migrations())]


async def test_check__an_empty_database_is_behind(empty_database_url: str) -> None:
    """The message says what to run."""
    with pytest.raises(StoreOutdated, match="indexer migrate"):
        await check_at(empty_database_url)


async def test_migrate__refuses_a_changed_file(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was built by other files does not belong to this program."""
    await migrate(empty_database_url)
    changed = [Migration(version=m.version, name=m.name, sql=m.sql + "\n") for m in migrations.migrations()]
    monkeypatch.setattr(migrations, "migrations", lambda: changed)
    with pytest.raises(StoreOutdated, match="different file"):
        await migrate(empty_database_url)


async def test_migrate__refuses_a_newer_database(empty_database_url: str) -> None:
    """A newer release made it: the program must be upgraded, the database must not be touched."""
    await migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(
        "INSERT INTO schema_migration (version, name, checksum) VALUES (9999, 'future', '')"
    )
    await connection.close()
    with pytest.raises(StoreOutdated, match="newer release"):
        await migrate(empty_database_url)


async def test_migrate__a_failing_migration_leaves_nothing_half_done(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration is one transaction."""
    broken = Migration(
        version=1, name="broken", sql="CREATE TABLE half (id integer); SELECT no_such_function();"
    )
    monkeypatch.setattr(migrations, "migrations", lambda: [broken])
    with pytest.raises(StoreFault):
        await migrate(empty_database_url)
    assert await describe(empty_database_url) == []


async def test_migrate__a_file_outside_a_transaction(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index can be built concurrently, while several runners wait for the lock."""
    files = [
        *migrations.migrations(),
        Migration(
            version=NEXT,
            name="index",
            sql="-- not transactional\nCREATE INDEX CONCURRENTLY IF NOT EXISTS extra ON actor (id);\n",
        ),
    ]
    monkeypatch.setattr(migrations, "migrations", lambda: files)
    async with asyncio.timeout(60):
        applied = await asyncio.gather(*(migrate(empty_database_url) for _ in range(2)))
    assert sorted(map(len, applied)) == [0, len(files)]


async def test_migrate__takes_the_time_it_needs(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a statement of a migration may take has no limit; all others have one."""
    monkeypatch.setattr(pools, "COMMAND_TIMEOUT_SECONDS", 0.05)
    slow = [
        Migration(version=1, name="slow", sql=migrations.migrations()[0].sql + "SELECT pg_sleep(0.2);"),
        Migration(version=2, name="slower", sql="-- not transactional\nSELECT pg_sleep(0.2);\n"),
    ]
    monkeypatch.setattr(migrations, "migrations", lambda: slow)
    assert await migrate(empty_database_url) == ["0001_slow", "0002_slower"]


async def test_migrate__an_index_that_was_left_invalid_is_built_anew(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration outside a transaction may be cut at any point; the next try ends with an index that is used."""
    await migrate(empty_database_url)
    index = Migration(
        version=NEXT,
        name="index",
        sql="-- not transactional\nCREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS extra ON actor (length(name));\n",
    )
    files = [*migrations.migrations(), index]
    monkeypatch.setattr(migrations, "migrations", lambda: files)
    connection = await asyncpg.connect(empty_database_url)
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('extra')"
    await connection.execute("INSERT INTO actor (name) VALUES ('ada'), ('bob')")
    with pytest.raises(StoreRefused, match="duplicated"):
        await migrate(empty_database_url)
    assert await connection.fetchval(valid) is False
    await connection.execute("DELETE FROM actor WHERE name = 'bob'")
    assert await migrate(empty_database_url) == [f"{NEXT:04d}_index"]
    assert await connection.fetchval(valid) is True
    await connection.close()


async def test_migrate__an_index_that_was_built_and_not_recorded(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut between the statement and its record, a file is run again and changes nothing."""
    await migrate(empty_database_url)
    sql = "-- not transactional\nCREATE INDEX CONCURRENTLY IF NOT EXISTS extra ON actor (id);\n"
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(sql)
    await connection.close()
    files = [*migrations.migrations(), Migration(version=NEXT, name="index", sql=sql)]
    monkeypatch.setattr(migrations, "migrations", lambda: files)
    assert await migrate(empty_database_url) == [f"{NEXT:04d}_index"]


async def test_migrate__a_statement_is_not_cut_at_its_semicolons(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file outside a transaction is one statement, whatever stands in it."""
    sql = (
        "-- not transactional\nCREATE FUNCTION two() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN\n"
        "    PERFORM 1;\n    RETURN 2;\nEND $$;\n"
    )
    files = [*migrations.migrations(), Migration(version=NEXT, name="function", sql=sql)]
    monkeypatch.setattr(migrations, "migrations", lambda: files)
    assert (await migrate(empty_database_url))[-1] == f"{NEXT:04d}_function"


def test_migrations__outside_a_transaction_can_be_run_again() -> None:
    """What is shipped builds and drops indexes only by names that may be there, or be gone."""
    repeatable = re.compile(
        r"CREATE (UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS \w+ |DROP INDEX CONCURRENTLY IF EXISTS "
    )
    outside = [each for each in migrations.migrations() if not each.transactional]
    assert [each.name for each in outside if not repeatable.match(each.sql.partition("\n")[2])] == []


@pytest.fixture
async def poor_role(empty_database_url: str) -> AsyncIterator[tuple[str, str]]:
    """A role with all rights on the database, and thus none in its schema; its name, and a URL that is its own."""
    name = f"poor_{secrets.token_hex(4)}"
    connection = await asyncpg.connect(empty_database_url)
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    await connection.execute(f"CREATE ROLE {name}")
    await connection.execute(f"GRANT ALL PRIVILEGES ON DATABASE {database} TO {name}")
    sign = "&" if "?" in empty_database_url else "?"
    try:
        yield (
            name,
            f"{empty_database_url}{sign}role={name}",
        )  # a server setting; a login would need its own way in
    finally:
        await connection.execute(f"DROP OWNED BY {name} CASCADE")
        await connection.execute(f"DROP ROLE {name}")
        await connection.close()


async def test_migrations__role_that_may_create_nothing(
    empty_database_url: str, poor_role: tuple[str, str]
) -> None:
    """Which right is missing is one line, and the statement in it is what helps."""
    name, url = poor_role
    with pytest.raises(
        ConfigurationError, match=f"role {name} may not create tables in schema public"
    ) as refused:
        await migrate(url)
    statement = re.search(r"`(GRANT [^`]+)`", str(refused.value))
    assert statement is not None
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(statement[1])
    finally:
        await connection.close()
    assert await migrate(url)


async def test_migrations__role_that_did_not_migrate(
    empty_database_url: str, poor_role: tuple[str, str]
) -> None:
    """Tables of another role: one line that says whose role to use, at the first question already."""
    await migrate(empty_database_url)
    _, url = poor_role
    with pytest.raises(StoreFault, match="must be the one that ran `indexer migrate`"):
        await migrate(url)


async def test_migrations__somebody_elses_tables(empty_database_url: str) -> None:
    """A database that holds a table of a name that we need is refused before anything is built, by the name."""
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute("CREATE TABLE tag (x integer)")
        with pytest.raises(
            ConfigurationError, match=r"\(tag\); give us a database of our own: `CREATE DATABASE"
        ):
            await migrate(empty_database_url)
        assert await connection.fetchval("SELECT to_regclass('repository')") is None
    finally:
        await connection.close()
