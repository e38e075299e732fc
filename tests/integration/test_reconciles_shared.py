"""A walk that several workers share and that outlives them: each repository is done once, the brake is asked once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from indexer.oci.reference import RepositoryName
from indexer.store import pending_deletions, reconcile_runs
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.listing.runs import latest_runs
from indexer.store.lookups import Lookups
from indexer.store.pending_deletions import PendingDeletion
from indexer.store.pool import Pool
from reconciler.drift import finishing
from reconciler.drift.joining import join_if_due
from reconciler.drift.loop import ReconcileLoop
from reconciler.drift.report import RunReport, RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.answers import TagListing
from tests.fixtures.ingesting import check_counters, check_history, recorded_tags
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import docker_image

NAMES = [RepositoryName(f"team/app{number:02}") for number in range(24)]
ONCE = RunSettings(mode=RunMode.ONCE, concurrency=32, brake_share=0.1, reread_after=timedelta(0))
SHARED = replace(ONCE, mode=RunMode.RUN)
YOUNG = timedelta(hours=1)
IMAGE = docker_image("one")


class Gate(DirectRegistry):
    """A registry whose listings of tags wait for ``opened``, once ``closed_after`` of them were answered.

    Those that wait take up requests that may be under way at once; there must be more of these than repositories.
    """

    def __init__(self, state: RegistryState, *, closed_after: int) -> None:
        super().__init__(state)
        self.opened = asyncio.Event()
        self.left = closed_after
        self.reached = asyncio.Event()

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """Answer, or wait."""
        if self.left == 0:
            self.reached.set()
            await self.opened.wait()
        else:
            self.left -= 1
        return await super().list_tags(repository)


def filled() -> RegistryState:
    state = RegistryState()
    for name in NAMES:
        for tag in ("v1", "v2"):
            state.push(name, IMAGE.manifest.data, media_type=IMAGE.media_type, tag=tag)
    return state


def listed(*registries: DirectRegistry) -> Counter[str]:
    """How often each repository was listed."""
    return Counter(call[1] for each in registries for call in each.asked if call[0] == "list_tags")


def truth(state: RegistryState) -> dict[tuple[str, str], str]:
    return {
        (name, tag): digest for name, held in state.repositories.items() for tag, digest in held.tags.items()
    }


class Killed(Exception):  # noqa: N818 - not an error of the program
    """The process ends here."""


def once_only(
    call: Callable[..., Awaitable[list[PendingDeletion]]],
) -> Callable[..., Awaitable[list[PendingDeletion]]]:
    """Let the second call be where the process is killed."""
    calls: list[int] = []

    async def wrapped(*args: Any, **more: Any) -> list[PendingDeletion]:
        calls.append(1)
        if len(calls) > 1:
            raise Killed
        return await call(*args, **more)

    return wrapped


async def always(_: object) -> str:
    return "start"


async def outcomes(pool: Pool) -> list[str | None]:
    async with pool.acquire() as held:
        return [row["outcome"] for row in await latest_runs(held, limit=9)]


async def take_part(
    pool: Pool, lookups: Lookups, registry: DirectRegistry, settings: RunSettings = SHARED
) -> RunReport:
    async with reconcile_runs.working(pool) as worker:
        entered = await join_if_due(worker, settings, young=YOUNG, why_now=always)
        assert entered is not None
        return await ReconcileRun(pool, lookups, registry, settings).take_part(worker, entered)


async def test_sharing__each_repository_once(pool: Pool, lookups: Lookups) -> None:
    """Two workers of one walk: every repository is compared by exactly one, and both report the whole."""
    state = filled()
    first, second = Gate(state, closed_after=2), DirectRegistry(state)
    async with asyncio.TaskGroup() as group:
        one = group.create_task(take_part(pool, lookups, first))
        await first.reached.wait()
        other = group.create_task(take_part(pool, lookups, second))
        while len(listed(second)) < 8:
            await asyncio.sleep(0.01)
        first.opened.set()
    assert dict.fromkeys(NAMES, 1) == dict(listed(first, second))
    assert one.result().counts == other.result().counts
    assert len(NAMES) == one.result().counts["repositories"]
    assert truth(state) == await recorded_tags(pool)
    assert ["complete"] == await outcomes(pool)
    assert 0 == await pool.fetchval("SELECT count(*) FROM reconcile_repository")
    assert 1 == len([call for call in [*first.asked, *second.asked] if call[0] == "list_repositories"])
    await check_history(pool)
    await check_counters(pool)


async def killed_in_the_middle(
    pool: Pool, lookups: Lookups, state: RegistryState, settings: RunSettings, *, after: int
) -> Counter[str]:
    """Let a walk go no further than ``after`` repositories, and end who made it; return what was listed in full."""
    registry = Gate(state, closed_after=after)
    task = asyncio.create_task(ReconcileRun(pool, lookups, registry, settings).run())
    await registry.reached.wait()
    while await pool.fetchval("SELECT count(*) FROM reconcile_repository WHERE done_at IS NOT NULL") < after:
        await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert after == sum(listed(registry).values())
    return listed(registry)


async def test_resume__by_whoever_walks_by_itself(pool: Pool, lookups: Lookups) -> None:
    """What a dead process had left is gone on with by the next: the same walk, no repository done twice."""
    state = filled()
    first = await killed_in_the_middle(pool, lookups, state, SHARED, after=10)
    assert ["interrupted"] == await outcomes(pool)
    second = DirectRegistry(state)
    walker = ReconcileLoop(pool, lookups, second, SHARED, interval=YOUNG)
    assert len(NAMES) == (await walker.run_once()).items
    assert dict.fromkeys(NAMES, 1) == dict(first + listed(second))
    assert ["complete"] == await outcomes(pool)
    assert truth(state) == await recorded_tags(pool)


async def test_resume__not_if_it_is_old(pool: Pool, lookups: Lookups) -> None:
    """A walk that nobody worked at for longer than the interval is closed, and a new one compares everything."""
    state = filled()
    await killed_in_the_middle(pool, lookups, state, SHARED, after=10)
    await pool.execute(
        "UPDATE reconcile_run SET started_at = started_at - interval '2 h', listed_at = listed_at - interval '2 h'"
    )
    await pool.execute("UPDATE reconcile_repository SET done_at = done_at - interval '2 h'")
    registry = DirectRegistry(state)
    await ReconcileLoop(pool, lookups, registry, SHARED, interval=YOUNG).run_once()
    assert dict.fromkeys(NAMES, 1) == dict(listed(registry))
    assert ["complete", "interrupted"] == await outcomes(pool)
    assert 0 == await pool.fetchval("SELECT count(*) FROM reconcile_repository")


async def test_once__anew_unless_told_to_resume(pool: Pool, lookups: Lookups) -> None:
    """Asked for, a walk compares everything after it began; told to resume, it goes on, and says so."""
    state = filled()
    first = await killed_in_the_middle(pool, lookups, state, ONCE, after=10)
    second = DirectRegistry(state)
    report = await ReconcileRun(pool, lookups, second, replace(ONCE, resume=True)).run()
    assert dict.fromkeys(NAMES, 1) == dict(first + listed(second))
    assert report.resumed_from is not None
    assert (RunOutcome.COMPLETE, len(NAMES)) == (report.outcome, report.counts["repositories"])
    await killed_in_the_middle(pool, lookups, state, ONCE, after=10)
    third = DirectRegistry(state)
    assert (await ReconcileRun(pool, lookups, third, ONCE).run()).resumed_from is None
    assert dict.fromkeys(NAMES, 1) == dict(listed(third))
    assert ["complete", "interrupted", "complete"] == await outcomes(pool)


async def test_once__resumes_only_what_was_asked_for(pool: Pool, lookups: Lookups) -> None:
    """An interrupted walk of everything is not what was asked for with a scope, and stays there to be resumed."""
    state = filled()
    await killed_in_the_middle(pool, lookups, state, ONCE, after=10)
    registry = DirectRegistry(state)
    scope = [NAMES[3], NAMES[1], NAMES[3]]
    report = await ReconcileRun(pool, lookups, registry, replace(ONCE, resume=True, scope=scope)).run()
    assert {NAMES[1]: 1, NAMES[3]: 1} == dict(listed(registry))
    assert report.resumed_from is None
    assert ["complete", "interrupted"] == await outcomes(pool)
    rest = DirectRegistry(state)
    assert (
        await ReconcileRun(pool, lookups, rest, replace(ONCE, resume=True)).run()
    ).resumed_from is not None
    assert len(NAMES) - 10 == len(listed(rest))


async def test_brake__over_all_workers(pool: Pool, lookups: Lookups) -> None:
    """What two workers miss counts together: neither alone missed enough to pull the brake; nothing is deleted."""
    state = filled()
    await ReconcileRun(pool, lookups, DirectRegistry(state), ONCE).run()
    before = await recorded_tags(pool)
    for name in NAMES[:16]:
        state.remove_silently(name, tag="v2")
    first, second = Gate(state, closed_after=8), DirectRegistry(state)
    settings = replace(SHARED, brake_share=0.25)
    async with asyncio.TaskGroup() as group:
        one = group.create_task(take_part(pool, lookups, first, settings))
        await first.reached.wait()
        other = group.create_task(take_part(pool, lookups, second, settings))
        while await pool.fetchval("SELECT count(*) FROM reconcile_repository WHERE done_at IS NULL") > 8:
            await asyncio.sleep(0.01)
        first.opened.set()
    reports = [one.result(), other.result()]
    assert ["16 of 48 tags are gone from the registry (allowed: 25%)"] * 2 == [each.brake for each in reports]
    assert [16, 16] == [len(each.held_back) for each in reports]
    assert before == await recorded_tags(pool)
    assert ["braked", "complete"] == await outcomes(pool)


async def test_end__died_in_the_middle(pool: Pool, lookups: Lookups, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on where the deletions broke off makes the rest of them, by the brake's same word."""
    state = filled()
    await ReconcileRun(pool, lookups, DirectRegistry(state), ONCE).run()
    for name in NAMES[:16]:
        state.remove_silently(name, tag="v2")
    monkeypatch.setattr(finishing, "STORE_CHUNK", 5)
    with monkeypatch.context() as patch:
        patch.setattr(pending_deletions, "list_pending", once_only(pending_deletions.list_pending))
        with pytest.raises(Killed):
            await take_part(pool, lookups, DirectRegistry(state), replace(SHARED, brake_share=0.5))
    assert 11 == await pool.fetchval("SELECT count(*) FROM pending_deletion")
    # By now 11 of 43 are missing, which a brake asked anew would not allow.
    report = await take_part(pool, lookups, DirectRegistry(state), replace(SHARED, brake_share=0.1))
    assert RunOutcome.COMPLETE is report.outcome
    assert truth(state) == await recorded_tags(pool)
    deleted = await pool.fetch("SELECT repository_id FROM audit_staged WHERE action = 'tag.deleted'")
    assert 16 == len(deleted) == len(set(deleted))
    await check_history(pool)
    await check_counters(pool)
