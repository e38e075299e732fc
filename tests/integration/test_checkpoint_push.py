"""Checkpoints pushed into the registry: when, over what, and by whom of several."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from indexer.audit.checkpoint import Checkpointer, CheckpointSettings
from indexer.audit.note import SignerKey
from indexer.audit.seal import seal
from indexer.common.errors import ConfigurationError, Postponed, RegistryDenied
from indexer.oci.media_types import OCI_MANIFEST
from indexer.oci.reference import parse_repository_name
from indexer.settings import Settings
from indexer.store.checkpoints import list_conflicts, newest_checkpoint
from indexer.store.pool import connection
from reconciler.checkpoints.artifact import LATEST
from reconciler.checkpoints.loop import CheckpointPusher, PushSettings, push_settings
from reconciler.checkpoints.push import push_newest
from tests.fixtures.sealing import sealed
from tests.simulators.direct import DirectRegistry
from tests.simulators.events import Version
from tests.simulators.state import RegistryState

if TYPE_CHECKING:
    from indexer.store.pool import Pool

REPOSITORY = parse_repository_name("audit/checkpoints")
KEY = SignerKey.generate("log.example/registry")
ALWAYS = PushSettings(repository=REPOSITORY, interval=timedelta(0))


@pytest.fixture
def registry() -> DirectRegistry:
    return DirectRegistry(RegistryState(Version.V3))


async def sign(pool: Pool) -> None:
    await Checkpointer(pool, KEY, CheckpointSettings(interval=timedelta(0), entries=1, file=None)).run_once()


async def own_entry(pool: Pool) -> None:
    """An entry about the repository of the checkpoints, as each push of ours makes some."""
    await pool.execute(
        "INSERT INTO repository (name, created_at) VALUES ($1, now()) ON CONFLICT DO NOTHING", REPOSITORY
    )
    await pool.execute(
        "INSERT INTO audit_staged (occurred_at, recorded_at, repository_id, source, action, tag) "
        "SELECT now(), now(), id, 'notification', 'tag.moved', 'latest' FROM repository WHERE name = $1",
        REPOSITORY,
    )
    await seal(pool, limit=1000)


def tags(registry: DirectRegistry) -> list[str]:
    return registry.state.list_tags(REPOSITORY) or []


async def test_push__follows_the_log_and_not_itself(pool: Pool, registry: DirectRegistry) -> None:
    """Each growth of the log is pushed once, under its size and latest; entries about our own pushes are no growth."""
    loop = CheckpointPusher(pool, registry, ALWAYS)
    assert 0 == (await loop.run_once()).items  # nothing is signed yet
    await sealed(pool, 3)
    await sign(pool)
    made = []
    for step in (None, own_entry, own_entry, None, sealed, None):
        if step is own_entry:
            await own_entry(pool)
        elif step is sealed:
            await sealed(pool, 1)
        await sign(pool)
        made.append((await loop.run_once()).items)
    assert [1, 0, 0, 0, 1, 0] == made
    assert ["3", "6", "latest"] == tags(registry)
    link = registry.state.link_of
    assert link(REPOSITORY, "6") == link(REPOSITORY, "latest") != link(REPOSITORY, "3")
    assert [6] == [row["size"] for row in await pool.fetch("SELECT size FROM audit_checkpoint_push")]


async def test_push__waits_for_its_interval_across_processes(pool: Pool, registry: DirectRegistry) -> None:
    """Whoever pushes next keeps to what another did; a process that starts again does not push at once."""
    hourly = replace(ALWAYS, interval=timedelta(hours=1))
    await sealed(pool, 3)
    await sign(pool)
    assert 1 == (await CheckpointPusher(pool, registry, hourly).run_once()).items
    await sealed(pool, 3)
    await sign(pool)
    assert 0 == (await CheckpointPusher(pool, registry, hourly).run_once()).items
    await pool.execute("UPDATE audit_checkpoint_push SET observed_at = observed_at - interval '1 hour'")
    assert 1 == (await CheckpointPusher(pool, registry, hourly).run_once()).items
    assert ["3", "6", "latest"] == tags(registry)


async def test_push__says_what_stands_in_the_registry(pool: Pool, registry: DirectRegistry) -> None:
    """What is named can be pulled, whether it was pushed just now or stood there before."""
    await sealed(pool, 3)
    await sign(pool)
    for outcome, size, newest in (
        ("pushed", 3, 3),
        ("present", 3, 3),
        ("own_entries_only", 3, 4),
        ("pushed", 6, 6),
    ):
        if outcome == "own_entries_only":
            await own_entry(pool)
        elif newest == 6:
            await sealed(pool, 2)
        await sign(pool)
        async with connection(pool) as held:
            signed = await newest_checkpoint(held)
            assert signed is not None
            result = await push_newest(
                held, registry, repository=REPOSITORY, newest=signed, now=datetime.now(UTC)
            )
        assert (outcome, size, newest) == (result.outcome, result.size, result.newest_size)
        assert result.digest == registry.state.link_of(REPOSITORY, result.tag)
    await pool.execute("UPDATE audit_checkpoint_push SET observed_at = '2999-01-01'")
    await sealed(pool, 1)
    await sign(pool)
    hourly = replace(ALWAYS, interval=timedelta(hours=1))
    assert 1 == (await CheckpointPusher(pool, registry, hourly).run_once()).items


async def test_push__is_made_by_one_process(pool: Pool, registry: DirectRegistry) -> None:
    """While one is pushing another leaves it be."""
    await sealed(pool, 3)
    await sign(pool)
    loops = [CheckpointPusher(pool, registry, ALWAYS) for _ in range(3)]
    rounds = await asyncio.gather(*(loop.run_once() for loop in loops))
    assert 1 == sum(done.items for done in rounds)
    assert 2 == len([call for call in registry.asked if call[0] == "put_manifest"])


async def test_push__is_repeated_where_it_went(pool: Pool, registry: DirectRegistry) -> None:
    """A checkpoint that was deleted, or a registry that is empty, gets it again, though the log did not grow."""
    await sealed(pool, 3)
    await sign(pool)
    loop = CheckpointPusher(pool, registry, ALWAYS)
    await loop.run_once()
    registry.state.delete_tag(REPOSITORY, "latest")
    assert 1 == (await loop.run_once()).items
    assert 0 == (await loop.run_once()).items
    assert ["3", "latest"] == tags(registry)


async def test_push__recognises_what_a_process_that_died_had_pushed(
    pool: Pool, registry: DirectRegistry
) -> None:
    """What stands there is ours if this log signed it, whether that was recorded or not."""
    await sealed(pool, 3)
    await sign(pool)
    loop = CheckpointPusher(pool, registry, ALWAYS)
    await loop.run_once()
    for more, pushed in ((0, 0), (2, 1)):
        await pool.execute("DELETE FROM audit_checkpoint_push")
        await sealed(pool, more)
        await sign(pool)
        assert pushed == (await loop.run_once()).items
    assert ["3", "5", "latest"] == tags(registry)


@pytest.mark.parametrize("what", ["an image", "a log put back", "another log"])
async def test_push__never_goes_over_what_is_not_ours(
    pool: Pool, registry: DirectRegistry, what: str
) -> None:
    """An image, a checkpoint that this database does not know (it was restored), one of another log: said, and kept."""
    if what == "an image":
        registry.state.push(REPOSITORY, b'{"schemaVersion":2}', media_type=OCI_MANIFEST, tag="latest")
    else:
        await sealed(pool, 5)
        await sign(pool)
        await CheckpointPusher(pool, registry, ALWAYS).run_once()
        await pool.execute("DELETE FROM audit_checkpoint")
        await pool.execute("DELETE FROM audit_checkpoint_push")
        if what == "another log":  # of the same size
            await pool.execute(
                "INSERT INTO audit_checkpoint (size, signed_at, verifier, note) VALUES (5, $1, 'v', 'n')",
                datetime.now(UTC),
            )
    before = registry.state.link_of(REPOSITORY, LATEST)
    if what != "another log":
        await sealed(pool, 3)
        await sign(pool)
    with pytest.raises(Postponed, match=r"audit/checkpoints:latest is sha256:.* no checkpoint that this log"):
        await CheckpointPusher(pool, registry, ALWAYS).run_once()
    assert before == registry.state.link_of(REPOSITORY, LATEST)
    assert 0 == await pool.fetchval("SELECT count(*) FROM audit_checkpoint_push")
    async with connection(pool) as held:
        told = [conflict.place for conflict in await list_conflicts(held)]
    assert ([] if what == "an image" else ["audit/checkpoints:latest"]) == told
    registry.state.delete_tag(REPOSITORY, "latest")
    if what != "another log":
        assert 1 == (await CheckpointPusher(pool, registry, ALWAYS).run_once()).items
        async with connection(pool) as held:
            assert [] == await list_conflicts(held)


async def test_push__that_is_refused_says_what_is_missing(pool: Pool, registry: DirectRegistry) -> None:
    """The error names the repository and the setting, and the lock is free again."""
    await sealed(pool, 3)
    await sign(pool)
    registry.before_answer = lambda: (
        registry.failures.append(RegistryDenied("POST …: 403 DENIED"))
        if registry.asked[-1][0] == "put_blob"
        else None
    )
    loop = CheckpointPusher(pool, registry, ALWAYS)
    with pytest.raises(
        Postponed, match=r"refuses the checkpoint in audit/checkpoints: give RECONCILER_REGISTRY_USERNAME"
    ):
        await loop.run_once()
    registry.before_answer = lambda: None
    registry.failures.clear()
    assert 1 == (await loop.run_once()).items


def test_settings__a_name_that_is_no_repository_stops_the_start() -> None:
    """Nothing is pushed unless a repository was named, and it must be one."""
    assert push_settings(Settings()) is None
    with pytest.raises(ConfigurationError, match="RECONCILER_CHECKPOINT_REPOSITORY"):
        push_settings(Settings(reconciler_checkpoint_repository="Audit/Log"))
