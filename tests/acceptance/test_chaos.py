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


async def check(
    config: pytest.Config, version: int, directory: Path, *, on_s3: bool = False, registry_processes: int = 1
) -> None:
    """Let chaos reign for a moment, and want nothing lost and no difference."""
    outcome = await run(
        found_registry(config, version),
        directory,
        seed=SEEDS[version],
        seconds=SECONDS,
        say=print,
        on_s3=on_s3,
        registry_processes=registry_processes,
    )
    print(f"{outcome.operations} operations, {outcome.acknowledged} events, {outcome.tags} tags")
    assert outcome.differences == []
    assert outcome.missing == []
    assert outcome.wrong == []
    assert outcome.tags
    assert outcome.acknowledged


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("version", [2, 3], ids=["2.8", "3.x"])
async def test_chaos__nothing_acknowledged_is_lost_and_the_inventory_is_the_registry(
    pytestconfig: pytest.Config, version: int, directory: Path
) -> None:
    """Writers race while registry, server, reconciler, PostgreSQL and the wires between them fail."""
    await check(pytestconfig, version, directory)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("version", [2, 3], ids=["2.8", "3.x"])
@pytest.mark.parametrize("registry_processes", [1, 2])
async def test_chaos__on_s3(
    pytestconfig: pytest.Config, version: int, directory: Path, registry_processes: int
) -> None:
    """The same where the registry keeps its content in an S3: 3.1 hides tags there from its own listing."""
    await check(pytestconfig, version, directory, on_s3=True, registry_processes=registry_processes)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.registry
@pytest.mark.parametrize("version", [2, 3], ids=["2.8", "3.x"])
async def test_chaos__two_registry_processes_on_one_storage(
    pytestconfig: pytest.Config, version: int, directory: Path
) -> None:
    """The same where clients push to either of two processes, and events of one tag come from both."""
    await check(pytestconfig, version, directory, registry_processes=2)
