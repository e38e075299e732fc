"""Questions wait for writes under way: for those before them, however they end, and for no others."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api import barrier as module
from indexer.api.barrier import Barrier
from indexer.background.housekeeping import NOTICE_RETENTION
from indexer.ingest.worker import IngestWorker
from indexer.oci.reference import RepositoryName
from indexer.store import inbox, write_notices
from indexer.store.write_notices import MOST_PER_REPOSITORY, Scope
from tests.fixtures.floods import EPOCH, REPOSITORY, delivery, event
from tests.fixtures.rows import digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from indexer.store.lookups import Lookups
    from indexer.store.pool import Connection, Pool

APP = Scope(repository=REPOSITORY)
LATER = EPOCH + timedelta(minutes=1)


@pytest.fixture
def barrier(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Barrier:
    """One of a process that has been up for long."""
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 0.0)
    monkeypatch.setattr(module, "PATIENT_SECONDS", 5.0)
    return Barrier(pool)


async def note(
    pool: Pool, number: str, reference: str, method: str = "PUT", repository: str = REPOSITORY
) -> None:
    async with pool.acquire() as held:
        await write_notices.put_notice(
            held, number=number, repository=RepositoryName(repository), reference=reference, method=method
        )


async def noted(pool: Pool) -> set[tuple[str, str]]:
    return {
        (row["id"], row["reference"]) for row in await pool.fetch("SELECT id, reference FROM write_notice")
    }


def by(number: str, event: dict[str, Any], agent: str = "docker/27") -> dict[str, Any]:
    """The event of the write with this id."""
    return event | {"request": event["request"] | {"useragent": f"{agent} indexer-write/{number}"}}


def deleted(number: int, *, tag: str | None = None, of: str | None = None) -> dict[str, Any]:
    """The deletion of a tag, or of the digest that is that of ``of``."""
    made = event("delete", tag=tag or "", at=LATER, number=number, method="DELETE")
    return made | {
        "target": {"repository": REPOSITORY, **({"tag": tag} if tag else {"digest": digest(of or "")})}
    }


async def apply(pool: Pool, lookups: Lookups, *events: dict[str, Any]) -> None:
    async with pool.acquire() as held:
        await inbox.put_deliveries(held, deliveries=[delivery(each, can_wait=False) for each in events])
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass


async def test_event__ends_its_notice_with_what_it_changes(
    pool: Pool, lookups: Lookups, barrier: Barrier
) -> None:
    """The notice ends in the transaction that applies its event; a forged or foreign id ends nothing."""
    await note(pool, "write-0001", "v0")
    await apply(pool, lookups, by("write-0002", event("push", tag="v0", at=EPOCH, number=1)))
    await apply(pool, lookups, by("write-0001", event("push", tag="v1", at=EPOCH, number=2)))
    assert {("write-0001", "v0")} == await noted(pool)
    assert not await barrier.passes(APP, patient=False)

    long_agent = "x" * 5000
    await apply(pool, lookups, by("write-0001", event("push", tag="v0", at=LATER, number=3), long_agent))
    assert set() == await noted(pool)
    assert await barrier.passes(APP, patient=True)
    agents = await pool.fetch("SELECT DISTINCT user_agent FROM client")
    assert not [row for row in agents if "indexer-write" in row["user_agent"]]


async def test_deletion_of_a_digest__goes_on_as_deletions_of_its_tags(
    pool: Pool, lookups: Lookups, barrier: Barrier
) -> None:
    """It is over when the last tag that pointed to the digest is: the registry announces each by itself."""
    pushed = [event("push", tag=tag, of="image", at=EPOCH, number=tag) for tag in ("a", "b")]
    await apply(pool, lookups, *pushed, event("push", tag="c", at=EPOCH, number="c"))
    await note(pool, "write-0001", digest("image"), "DELETE")
    await apply(pool, lookups, by("write-0001", deleted(1, of="image")))
    assert {("write-0001", "a"), ("write-0001", "b")} == await noted(pool)
    await apply(pool, lookups, by("write-0001", deleted(2, tag="b")))
    assert not await barrier.passes(APP, patient=False)
    await apply(pool, lookups, by("write-0001", deleted(3, tag="a")))
    assert set() == await noted(pool)
    assert await barrier.passes(APP, patient=True)


async def test_question__waits_for_older_writes_alone(pool: Pool, barrier: Barrier) -> None:
    """A question goes on when what it found is over, though the next write has begun. Others do not hold it up."""
    await note(pool, "write-0001", "v0")
    await note(pool, "write-0002", "v0", repository="team/app/below")
    waiting = asyncio.create_task(barrier.passes(APP, patient=True))
    await until_counted(pool)
    await note(pool, "write-0003", "v1")
    await pool.execute("DELETE FROM write_notice WHERE id = 'write-0001'")
    barrier.wake()
    assert await waiting
    assert await barrier.passes(Scope(repository="team/ap"), patient=True)
    assert await barrier.passes(Scope(repository="team/ap", below=True), patient=True)
    assert not await barrier.passes(Scope(repository="team", below=True), patient=False)


async def until_counted(pool: Pool) -> None:
    """Wait until a question has taken its number."""
    while not await pool.fetchval("SELECT is_called FROM write_question"):
        await asyncio.sleep(0.005)


async def test_questions__share_a_wait_that_began_after_them(
    pool: Pool, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred questions at once take two waits: the one that runs is too old for those that came after it began."""
    begun = 0
    begin = write_notices.begin_question

    async def counted(held: Connection, scope: Scope) -> Any:
        nonlocal begun
        begun += 1
        return await begin(held, scope)

    monkeypatch.setattr(write_notices, "begin_question", counted)
    await note(pool, "write-0001", "v0")
    first = asyncio.create_task(barrier.passes(APP, patient=True))
    await until_counted(pool)
    rest = [asyncio.create_task(barrier.passes(APP, patient=True)) for _ in range(100)]
    await asyncio.sleep(0)
    await pool.execute("DELETE FROM write_notice")
    barrier.wake()
    assert await first
    assert all(await asyncio.gather(*rest))
    assert begun == 2


async def test_verification__counts_for_questions_before_it(pool: Pool, barrier: Barrier) -> None:
    """A question has the open tags verified; the answer counts for it, and not for the next."""
    await note(pool, "write-0001", "v0")
    await note(pool, "write-0002", digest("image"))  # changes no tag
    async with verifying(pool) as seen:
        assert await barrier.passes(APP, patient=True)
        assert await barrier.passes(APP, patient=True)
    assert seen == ["v0", "v0"]
    assert 2 == len(await noted(pool))


@asynccontextmanager
async def verifying(pool: Pool) -> AsyncIterator[list[str]]:
    """Verify in the reconciler's place; the references that were wanted."""
    seen: list[str] = []

    async def verify() -> None:
        while True:
            async with pool.acquire() as held:
                wanted = await write_notices.list_wanted(held, limit=10)
                seen.extend(notice.reference for notice in wanted)
                await write_notices.finish_wanted(held, verified=wanted, unknown=())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(verify())
    try:
        yield seen
    finally:
        task.cancel()


async def test_failure__is_remembered_for_a_while(pool: Pool, barrier: Barrier) -> None:
    """After a barrier that was not reached, others about the repository are handed over without waiting."""
    await note(pool, "write-0001", "v0")
    assert not await barrier.passes(APP, patient=False)
    await pool.execute("DELETE FROM write_notice")
    assert not await barrier.passes(APP, patient=False)
    assert await barrier.passes(APP, patient=True)  # nobody else can answer it
    assert await barrier.passes(Scope(repository="team/other"), patient=True)


async def test_start__hands_over_what_may_have_passed_without_notice(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was just started answers nothing for a moment: writes may have passed while there was none."""
    assert not await Barrier(pool).passes(APP, patient=False)
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 0.05)
    started = Barrier(pool)
    assert await started.passes(APP, patient=True)
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 60.0)
    started.missed()
    assert not await started.passes(APP, patient=False)


async def test_flood__of_one_repository_is_bounded(pool: Pool, barrier: Barrier) -> None:
    """More notices than are kept count as one that ends with its time; others' repositories are not held up."""
    await pool.execute(
        "INSERT INTO write_notice (id, repository, reference, method, noticed_at)"
        " SELECT 'write-' || n, $1, 'v' || n, 'PUT', now() FROM generate_series(1, $2::integer) AS n",
        REPOSITORY,
        MOST_PER_REPOSITORY,
    )
    for number in range(3):
        await note(pool, f"more-{number}", "v0")
    assert MOST_PER_REPOSITORY + 1 == await pool.fetchval("SELECT count(*) FROM write_notice")
    assert not await barrier.passes(APP, patient=True)
    assert await barrier.passes(Scope(repository="team/other"), patient=True)
    async with pool.acquire() as held:
        before = datetime.now(UTC) - NOTICE_RETENTION
        assert 0 == await write_notices.trim_notices(held, before=before, limit=10_000)
        before = datetime.now(UTC) + timedelta(seconds=5)
        assert MOST_PER_REPOSITORY + 1 == await write_notices.trim_notices(held, before=before, limit=10_000)
    assert await barrier.passes(APP, patient=True)


async def test_referrers__wait_for_manifests_to_be_read(
    pool: Pool, lookups: Lookups, barrier: Barrier
) -> None:
    """A manifest's subject is known only once it was read."""
    await apply(pool, lookups, event("push", tag="v0", at=EPOCH, number=1))
    referrers = Scope(repository=REPOSITORY, referrers=True)
    assert await barrier.passes(APP, patient=True)
    assert not await barrier.passes(referrers, patient=False)
    await pool.execute("DELETE FROM work_item WHERE kind = 'resolve'")
    assert await barrier.passes(referrers, patient=True)
    await note(pool, "write-0001", digest("artifact"))
    assert await barrier.passes(APP, patient=True)
    assert not await barrier.passes(referrers, patient=True)
