"""Every named statement fits the schema, and the schema's words are the program's."""

from __future__ import annotations

import asyncpg

from indexer.inventory.changes import AuditAction, AuditSource
from indexer.store import queries
from indexer.store.listing.audit import COMMON_ACTIONS
from indexer.store.pool import Pool


async def test_statements__all_prepare_against_the_schema(database_url: str) -> None:
    """A statement that names a column or type the schema lacks fails here, not in production."""
    connection = await asyncpg.connect(database_url)
    refused, foreign = {}, []
    try:
        for resource in queries.statement_files():
            for name, statement in queries.load(resource).items():
                try:
                    prepared = await connection.prepare(statement)
                except asyncpg.PostgresError as error:
                    refused[f"{resource}.{name}"] = str(error)
                    continue
                types = (*prepared.get_parameters(), *(a.type for a in prepared.get_attributes()))
                if any(one.schema != "pg_catalog" for one in types):
                    foreign.append(f"{resource}.{name}")
    finally:
        await connection.close()
    assert refused == {}
    assert foreign == [], "the driver asks each connection what a type of ours is: cast it in the statement"


async def test_words__are_the_programs(pool: Pool) -> None:
    """The log takes the actions and sources that the program knows, and no others."""
    actions = await pool.fetchval("SELECT enum_range(NULL::audit_action)::text[]")
    sources = await pool.fetchval("SELECT enum_range(NULL::audit_source)::text[]")
    assert sorted(AuditAction) == sorted(actions)
    assert sorted(AuditSource) == sorted(sources)


async def test_index_by_action__leaves_out_what_pages_walk_for(pool: Pool) -> None:
    """A page of an action that no index has is bounded; of any other it is found at once."""
    indexed = await pool.fetchval(
        "SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'audit_by_action'::regclass"
    )
    assert COMMON_ACTIONS == {action for action in AuditAction if f"'{action}'" in indexed}
