from __future__ import annotations

import asyncpg


async def test_database_url__holds_the_schema(database_url: str) -> None:
    """A test's database has the tables of schema.sql and is empty."""
    connection = await asyncpg.connect(database_url)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await connection.close()
    assert tables > 0


def test_empty_database_url__holds_nothing(empty_database_url: str) -> None:
    """A test may ask for a database without any schema."""
    assert "://" in empty_database_url
