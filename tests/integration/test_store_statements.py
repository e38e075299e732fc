"""Every named statement fits the schema."""

from __future__ import annotations

import asyncpg

from indexer.store import queries


async def test_statements__all_prepare_against_the_schema(database_url: str) -> None:
    """A statement that names a column or type the schema lacks fails here, not in production."""
    connection = await asyncpg.connect(database_url)
    refused = {}
    try:
        for noun in queries.nouns():
            for name, statement in queries.load(noun).items():
                try:
                    await connection.prepare(statement)
                except asyncpg.PostgresError as error:
                    refused[f"{noun}.{name}"] = str(error)
    finally:
        await connection.close()
    assert refused == {}
