"""Instants that PostgreSQL writes as text are those that this program writes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from indexer.common.rfc3339 import format_time
from indexer.store.instants import FOR_EVER, NEVER, read_instant, show_instant
from indexer.store.pool import connect

INSTANTS = [
    datetime(2026, 1, 31, 12, 0, 0, microsecond, tzinfo=UTC)
    for microsecond in (0, 1, 10, 123_456, 120_000, 500_000, 999_999, 100)
] + [
    datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_998, tzinfo=UTC),
    datetime(1969, 12, 31, 23, tzinfo=UTC),
]


@pytest.mark.parametrize("style", ["ISO", "SQL, DMY", "German"])
async def test_show_instant__as_format_time_writes_it(database_url: str, style: str) -> None:
    """Fractions of any length, the first years and the last, and a database that prefers another style of dates."""
    admin = await connect(database_url, application="tests")
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE \"{name}\" SET datestyle = '{style}'")
    await admin.close()
    connection = await connect(database_url, application="tests")
    written = await connection.fetchval(
        "SELECT array_agg(at::text) FROM unnest($1::timestamptz[]) AS at", INSTANTS
    )
    assert [format_time(at) for at in INSTANTS] == [show_instant(text) for text in written]
    assert INSTANTS == [read_instant(text) for text in written]
    edges = await connection.fetchval(
        "SELECT array_agg(at::text) FROM unnest($1::timestamptz[]) AS at", [NEVER, FOR_EVER]
    )
    await connection.close()
    assert [None] * 4 == [show(text) for text in edges for show in (show_instant, read_instant)]
    assert show_instant(None) is None
