"""A populated database of every release so far upgrades to today's, and nothing in it is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from indexer.audit.self_check import check_everything
from indexer.store import migrate as migrations
from indexer.store.migrate import migrate
from indexer.store.pool import connection, open_pool
from tests.fixtures import invariants
from tests.migration import samples
from tests.migration.test_migrations import describe

FILES = sorted(samples.RELEASES.glob("*.json.xz"))


def test_releases__have_samples() -> None:
    """There is something to upgrade from."""
    assert FILES


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".json.xz"))
def test_migrations__of_a_release_are_frozen(file: Path) -> None:
    """What was released is not changed any more: the schema changes by new migrations only."""
    released = samples.read(file).released()
    assert released == migrations.migrations()[: len(released)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.removesuffix(".json.xz"))
async def test_upgrade__of_a_populated_database(
    file: Path, database_url: str, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built and filled by a release, upgraded by this one: the schema is today's, and every answer is what it was."""
    sample = samples.read(file)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "migrations", sample.released)
        await migrate(empty_database_url)
        await samples.restore(empty_database_url, sample)
        assert await samples.answers(empty_database_url) == sample.answers

    await migrate(empty_database_url)

    assert await describe(empty_database_url) == await describe(database_url)
    assert await samples.answers(empty_database_url) == sample.answers
    pool = await open_pool(empty_database_url, size=2, application="tests")
    try:
        damages = [
            damage
            async for _, _, found in check_everything(partial(connection, pool), verifier=None)
            for damage in found
        ]
        assert damages == []
        async with pool.acquire() as held:
            assert await invariants.miscounted(held) == []
    finally:
        await pool.close()
