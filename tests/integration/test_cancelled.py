"""Who is cancelled ends, whatever the database does meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import pytest

from indexer.audit import follow as room
from indexer.audit.follow import follow
from indexer.background import service as harness
from indexer.background.loop import IterationResult, WakeEvent
from indexer.background.service import Service
from indexer.common.errors import RegistryUnavailable, StoreUnavailable
from indexer.common.task_group import TaskGroup
from indexer.store import pool as pools
from indexer.store.pool import close_pool, open_pool, translated
from reconciler.registry.cache import RegistryKind
from reconciler.verify.loop import Verifier
from tests.fixtures.rows import TagRow, put_repository
from tests.fixtures.sealing import sealed

if TYPE_CHECKING:
    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool
    from reconciler.registry.protocol import Registry
    from tests.fixtures.fault_proxy import FaultProxy


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task once, and see that it takes it."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60)
    assert done
    assert task.cancelled()


@pytest.mark.full
async def test_follow__ends_while_the_database_is_silent(
    pool: Pool, proxy: FaultProxy, proxied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends it in the middle of a statement that nobody answers, and the pool with it."""
    monkeypatch.setattr(room, "REST_SECONDS", 0.01)
    monkeypatch.setattr(pools, "CLOSED_WITHIN_SECONDS", 0.5)
    await sealed(pool, 1)
    there = await open_pool(proxied_url, size=2, application="follow")
    shown = asyncio.Event()

    async def show(_part: bytes) -> None:
        shown.set()

    async def work() -> None:
        try:
            await follow(there, proxied_url, after_position=0, show=show)
        finally:
            await close_pool(there)

    task = asyncio.create_task(work())
    await shown.wait()
    proxy.stall()
    async with asyncio.timeout(60):
        while there.get_idle_size() == there.get_size():
            await asyncio.sleep(0)  # until a statement is under way
    await ended(task)


async def fails() -> None:
    await asyncio.sleep(0)
    raise ValueError


class Away:
    """A registry that does not answer."""

    async def head_tag(self, *_: object, **__: object) -> None:
        await asyncio.sleep(0)
        raise RegistryUnavailable("no answer")

    async def ping(self) -> None:
        raise RegistryUnavailable("no answer")

    async def kind(self, **_: object) -> RegistryKind:
        raise RegistryUnavailable("no answer")


async def test_task_group__leaves_no_request_to_cancel_behind() -> None:
    """A task whose group failed while it waited for it is not one that is being cancelled."""

    async def work() -> None:
        async with TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(3600))

    with pytest.raises(ExceptionGroup):
        await work()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_task_group__ends_with_its_task() -> None:
    """Who is cancelled while the group is waited for is cancelled, and the group's tasks with him."""
    inner = asyncio.Event()

    async def work() -> None:
        async with TaskGroup() as group:
            waiting = group.create_task(asyncio.sleep(3600))
            waiting.add_done_callback(lambda _: inner.set())

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await ended(task)
    assert inner.is_set()


async def test_translated__an_old_request_to_cancel_is_none() -> None:
    """What was asked of a task before, and is over, does not turn an outage into a cancellation."""

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        async with translated():
            raise OSError("the database went away")

    with pytest.raises(StoreUnavailable):
        await asyncio.create_task(work())


async def test_harness__goes_on_when_a_round_was_cancelled_from_within(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only who stops the service ends a loop: a round that cancels itself has failed, and is repeated."""
    monkeypatch.setattr(harness, "FIRST_WAIT_SECONDS", 0.01)
    again = asyncio.Event()

    class Cancelled:
        name = "cancelled"
        rounds = 0

        async def run_once(self) -> IterationResult:
            self.rounds += 1
            if self.rounds == 1:
                raise asyncio.CancelledError
            again.set()
            await asyncio.sleep(3600)
            raise AssertionError

    service = Service(pool, program="tests")
    service.start(Cancelled(), WakeEvent())
    async with asyncio.timeout(60):
        await again.wait()
    await service.stop(deadline_seconds=0)


async def test_verifier__outlives_a_registry_and_then_a_database_that_go_away(
    pool: Pool, lookups: Lookups, proxy: FaultProxy, proxied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After both came back what is due is looked at: the loop has failed twice, and has not ended."""
    monkeypatch.setattr(harness, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(harness, "LONGEST_WAIT_SECONDS", 0.05)
    await put_repository(pool, "team/app", [TagRow(name=name) for name in "abc"])
    await pool.execute(
        "INSERT INTO work_item (kind, repository_id, key, due_at, waiting_since)"
        " SELECT 'verify', repository_id, name, now(), now() FROM tag"
    )
    there = await open_pool(proxied_url, size=2, application="verify")
    failures: set[type[Exception]] = set()

    class Watched(Verifier):
        async def run_once(self) -> IterationResult:
            try:
                return await super().run_once()
            except Exception as error:
                failures.add(type(error))
                raise

    registry = cast("Registry", Away())
    service = Service(there, program="tests")
    service.start(Watched(there, lookups, registry, concurrency=4), WakeEvent())
    async with asyncio.timeout(60):
        for fault, expected in (
            ("", RegistryUnavailable),
            ("away", StoreUnavailable),
            ("", RegistryUnavailable),
        ):
            (proxy.refuse if fault else proxy.resume)()
            failures.clear()
            while expected not in failures:
                await asyncio.sleep(0.01)
    await service.stop(deadline_seconds=0)
    await close_pool(there)


async def test_translated__does_not_replace_a_cancellation() -> None:
    """What the driver says while a task is being cancelled is no reason to go on."""
    begun = asyncio.Event()

    async def work() -> None:
        async with translated():
            try:
                begun.set()
                await asyncio.sleep(3600)
            finally:
                raise OSError("the connection was lost while it was given back")

    task = asyncio.create_task(work())
    await begun.wait()
    await ended(task)
