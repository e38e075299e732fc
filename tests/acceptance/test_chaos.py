"""A moment of chaos: everything real, everything killed, and at the end everything equal."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.fixtures.registries import found_registry

SECONDS = 12.0
SEEDS = {2: 20260501, 3: 20260502}


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not below pytest's own directory, which is closed to the user that runs PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="indexer-chaos-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("version", [2, 3], ids=["2.8", "3.x"])
async def test_chaos__nothing_acknowledged_is_lost_and_the_inventory_is_the_registry(
    pytestconfig: pytest.Config, version: int, directory: Path
) -> None:
    """Writers race while registry, server, reconciler, PostgreSQL and the wires between them fail."""
    outcome = await run(
        found_registry(pytestconfig, version), directory, seed=SEEDS[version], seconds=SECONDS, say=print
    )
    print(f"{outcome.operations} operations, {outcome.acknowledged} events, {outcome.tags} tags")
    assert outcome.differences == []
    assert outcome.missing == []
    assert outcome.wrong == []
    assert outcome.tags
    assert outcome.acknowledged
