"""Questions wait for writes under way: for those before them, however they end, and for no others."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api import barrier as module
from indexer.api.barrier import Barrier
from indexer.api.routes import ApiSettings, add_api
from indexer.background.housekeeping import NOTICE_RETENTION
from indexer.background.loop import WakeEvent
from indexer.ingest.envelope import decode
from indexer.ingest.worker import IngestWorker
from indexer.oci.reference import RepositoryName
from indexer.store import apply as applying
from indexer.store import inbox, repositories, write_notices
from indexer.store.pool import transaction
from indexer.store.write_notices import MOST_PER_ADDRESS, MOST_PER_REPOSITORY, Comparison, Scope
from reconciler.resolve.loop import Resolver, WantedResolver
from reconciler.verify.requested import RequestedComparer, RequestedVerifier
from tests.fixtures.floods import EPOCH, REPOSITORY, delivery, event
from tests.fixtures.rows import digest
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import artifact, oci_image

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
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.2)
    return Barrier(pool)


async def note(
    pool: Pool, number: str, reference: str, method: str = "PUT", repository: str = REPOSITORY
) -> None:
    async with pool.acquire() as held:
        await write_notices.put_notice(
            held, number=number, repository=RepositoryName(repository), reference=reference, method=method
        )


async def passes(barrier: Barrier, scope: Scope, *, patient: bool) -> bool:
    """Whether a question is answered."""

    async def read() -> str:
        return "read"

    return await barrier.answer(scope, read, patient=patient) is not None


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
    assert not await passes(barrier, APP, patient=False)

    long_agent = "x" * 5000
    await apply(pool, lookups, by("write-0001", event("push", tag="v0", at=LATER, number=3), long_agent))
    assert set() == await noted(pool)
    assert await passes(barrier, APP, patient=True)
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
    assert not await passes(barrier, APP, patient=False)
    await apply(pool, lookups, by("write-0001", deleted(3, tag="a")))
    assert set() == await noted(pool)
    assert await passes(barrier, APP, patient=True)


async def test_question__waits_for_older_writes_alone(pool: Pool, barrier: Barrier) -> None:
    """A question goes on when what it found is over, though the next write has begun. Others do not hold it up."""
    await note(pool, "write-0001", "v0")
    await note(pool, "write-0002", "v0", repository="team/app/below")
    waiting = asyncio.create_task(passes(barrier, APP, patient=True))
    await until_counted(pool)
    await note(pool, "write-0003", "v1")
    await pool.execute("DELETE FROM write_notice WHERE id = 'write-0001'")
    barrier.wake()
    assert await waiting
    assert await passes(barrier, Scope(repository="team/ap"), patient=True)
    assert await passes(barrier, Scope(repository="team/ap", below=True), patient=True)
    assert not await passes(barrier, Scope(repository="team", below=True), patient=False)


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
    first = asyncio.create_task(passes(barrier, APP, patient=True))
    await until_counted(pool)
    rest = [asyncio.create_task(passes(barrier, APP, patient=True)) for _ in range(100)]
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
        assert await passes(barrier, APP, patient=True)
        assert await passes(barrier, APP, patient=True)
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
    assert not await passes(barrier, APP, patient=False)
    await pool.execute("DELETE FROM write_notice")
    assert not await passes(barrier, APP, patient=False)
    assert await passes(barrier, APP, patient=True)  # nobody else can answer it
    assert await passes(barrier, Scope(repository="team/other"), patient=True)


async def test_start__hands_over_what_may_have_passed_without_notice(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was just started answers nothing for a moment: writes may have passed while there was none."""
    assert not await passes(Barrier(pool), APP, patient=False)
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 0.05)
    started = Barrier(pool)
    assert await passes(started, APP, patient=True)
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 60.0)
    started.missed()
    assert not await passes(started, APP, patient=False)


async def flood(pool: Pool, *, addresses: int = 100) -> None:
    """As many notices as are kept one by one, of a repository."""
    await pool.execute(
        "INSERT INTO write_notice (id, repository, reference, method, noticed_at, address)"
        " SELECT 'write-' || n, $1, 'v' || n, 'PUT', now(), int4send(n % $3)"
        " FROM generate_series(1, $2::integer) AS n",
        REPOSITORY,
        MOST_PER_REPOSITORY,
        addresses,
    )


async def writes_noted(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM write_notice WHERE reference <> '**'"))


async def test_flood__of_one_repository_is_bounded(pool: Pool, barrier: Barrier) -> None:
    """Of more notices than are kept it is noted that there are more; others' repositories are not held up."""
    await flood(pool)
    for number in range(3):
        await note(pool, f"more-{number}", "v0")
    assert MOST_PER_REPOSITORY + 1 == await writes_noted(pool)
    assert not await passes(barrier, APP, patient=True)
    assert await passes(barrier, Scope(repository="team/other"), patient=True)
    async with pool.acquire() as held:
        before = datetime.now(UTC) - NOTICE_RETENTION
        assert 0 == await write_notices.trim_notices(held, before=before, limit=10_000)
        before = datetime.now(UTC) + timedelta(seconds=5)
        assert MOST_PER_REPOSITORY < await write_notices.trim_notices(held, before=before, limit=10_000)
    assert await passes(barrier, APP, patient=True)


async def test_flood__of_one_address_takes_no_place_of_others(pool: Pool) -> None:
    """An address has a share of what is kept of a repository one by one; others' writes are still noted so."""
    async with pool.acquire() as held:

        async def put(number: int, address: bytes) -> bool:
            return await write_notices.put_notice(
                held,
                number=f"{address.decode()}-{number:08}",
                repository=RepositoryName(REPOSITORY),
                reference=f"v{number}",
                method="PUT",
                address=address,
            )

        own = [await put(number, b"flood") for number in range(MOST_PER_ADDRESS + 3)]
        assert [True] * MOST_PER_ADDRESS + [False] * 3 == own
        assert await put(1, b"other")
    assert MOST_PER_ADDRESS + 2 == await writes_noted(pool)


@dataclass
class Reconciler:
    """The loops of a reconciler that do what questions want, on a registry in memory."""

    registry: DirectRegistry
    loops: tuple[RequestedVerifier, RequestedComparer, WantedResolver]

    def asked(self, *what: str) -> int:
        return sum(call[0] in what for call in self.registry.asked)


@pytest.fixture
async def reconciler(pool: Pool, lookups: Lookups) -> AsyncIterator[Reconciler]:
    """It runs beside the test."""
    registry = DirectRegistry(RegistryState())
    parts = (pool, lookups, registry)
    made = Reconciler(
        registry,
        (
            RequestedVerifier(*parts, concurrency=8),
            RequestedComparer(*parts, concurrency=8),
            WantedResolver(*parts, concurrency=8),
        ),
    )

    async def run() -> None:
        while True:
            for loop in made.loops:
                await loop.run_once()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    yield made
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def push(reconciler: Reconciler, tag: str, *, text: str = "image") -> None:
    """Push to the registry; its event does not come."""
    image = oci_image(text)
    reconciler.registry.state.push(REPOSITORY, image.manifest.data, media_type=image.media_type, tag=tag)


async def names_of(pool: Pool) -> set[str]:
    return {row["name"] for row in await pool.fetch("SELECT name FROM tag")}


async def test_flood__leaves_the_list_answered(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a list one request compares all names, however many writes are open; for digests every tag is compared."""
    for name in ("HAND_OVER_SECONDS", "PATIENT_SECONDS"):
        monkeypatch.setattr(module, name, 30.0)
    for tag in ("a", "b"):
        push(reconciler, tag)
    await flood(pool)
    await note(pool, "more-0001", "v0")
    names = Scope(repository=REPOSITORY, names=True)

    async def read() -> set[str]:
        return await names_of(pool)

    async with pool.acquire() as held:
        await repositories.add_repositories(held, announced={RepositoryName(REPOSITORY): EPOCH})
    assert {"a", "b"} == await barrier.answer(names, read, patient=False)
    headed = reconciler.asked("head_tag")
    push(reconciler, "c")
    assert {"a", "b", "c"} == await barrier.answer(names, read, patient=False)
    assert headed + 1 == reconciler.asked("head_tag")
    push(reconciler, "a", text="another")
    assert await passes(barrier, APP, patient=True)
    assert headed + 1 + 3 == reconciler.asked("head_tag")
    assert 2 == await pool.fetchval("SELECT count(DISTINCT manifest_id) FROM tag")
    monkeypatch.setattr(module, "HAND_OVER_SECONDS", 0.1)
    assert not await passes(barrier, Scope(repository=REPOSITORY, referrers=True), patient=False)


async def test_comparison__of_one_that_is_not_on_record(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where writes may have passed without notice, nobody else can answer, and the repository is compared."""
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 60.0)
    monkeypatch.setattr(module, "COMPARE_SECONDS", 30.0)
    barrier.missed()
    push(reconciler, "a")

    async def read() -> set[str]:
        return await names_of(pool)

    assert await barrier.answer(Scope(repository=REPOSITORY, names=True), read, patient=False) is None
    assert {"a"} == await barrier.answer(APP, read, patient=True)
    assert set() == await barrier.answer(Scope(repository="team/none"), _nothing, patient=True)
    assert await barrier.answer(Scope(repository="team", below=True), read, patient=True) is None


async def _nothing() -> set[str]:
    return set()


async def test_comparison__that_fails_is_no_answer(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the registry vanished, or lists nothing it can vouch for, there is no answer: never a stale one."""
    monkeypatch.setattr(module, "UNNOTICED_SECONDS", 60.0)
    monkeypatch.setattr(module, "COMPARE_SECONDS", 30.0)
    barrier.missed()
    push(reconciler, "a")
    assert await passes(barrier, APP, patient=True)
    monkeypatch.setattr(module, "COMPARE_SECONDS", 0.3)
    reconciler.registry.state.remove_silently(REPOSITORY)  # only a reconcile, with its brake, may decide
    assert not await passes(barrier, APP, patient=True)
    assert {"a"} == await names_of(pool)


async def test_refused_write__is_verified_at_once(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks later does not wait for an event that should have come long ago."""
    monkeypatch.setattr(module, "EVENT_SECONDS", 60.0)
    push(reconciler, "a")
    await note(pool, "write-0001", "v0")
    assert not await passes(barrier, APP, patient=False)
    await pool.execute("UPDATE write_notice SET noticed_at = noticed_at - interval '1 s'")
    assert await passes(barrier, APP, patient=True)
    assert 0 < reconciler.asked("head_tag")
    await note(pool, "write-0002", "v0")
    assert not await passes(barrier, APP, patient=False)


async def test_hand_over__ends_with_the_wait(
    pool: Pool, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions are handed over only until the barrier that failed is reached after all."""
    monkeypatch.setattr(module, "FAILED_SECONDS", 600.0)
    monkeypatch.setattr(module, "PATIENT_SECONDS", 30.0)
    await note(pool, "write-0001", "v0")
    assert not await passes(barrier, APP, patient=False)
    assert not await passes(barrier, APP, patient=False)
    await pool.execute("DELETE FROM write_notice")
    barrier.wake()

    async def answered() -> None:
        while not await passes(barrier, APP, patient=False):
            await asyncio.sleep(0.01)

    async with asyncio.timeout(60):
        await answered()


async def test_verification__is_taken_back_by_an_older_event(
    pool: Pool, lookups: Lookups, barrier: Barrier
) -> None:
    """An event that is applied while the inventory is read may be older than what was verified: it is read again."""
    await note(pool, "write-0001", "v0")
    await note(pool, "write-0002", "v0")
    reads = 0

    async def read() -> int:
        nonlocal reads
        reads += 1
        if reads == 1:
            await apply(pool, lookups, by("write-0001", event("push", tag="v0", at=EPOCH, number=1)))
        return reads

    async with verifying(pool):
        assert 2 == await barrier.answer(APP, read, patient=True)
    assert {("write-0002", "v0")} == await noted(pool)


async def test_verification__counts_only_if_no_event_came_meanwhile(pool: Pool, lookups: Lookups) -> None:
    """The registry was asked before the event was applied: what it said is not known to be on record."""
    await note(pool, "write-0002", "v0")
    await note(pool, "write-0003", digest("image"), "DELETE")
    async with pool.acquire() as held:
        question = await write_notices.begin_question(held, APP)
        await write_notices.want_verified(held, question)
        wanted = await write_notices.list_wanted(held, limit=10)
        assert 2 == len(wanted)
        await apply(pool, lookups, event("push", tag="v0", of="image", at=EPOCH, number=1))
        await write_notices.finish_wanted(held, verified=wanted, unknown=())
        assert 2 == (await write_notices.count_open(held, question)).open
        again = await write_notices.list_wanted(held, limit=10)
        await write_notices.finish_wanted(held, verified=again, unknown=())
        assert 0 == (await write_notices.count_open(held, question)).open


@pytest.mark.parametrize("kind", ["digest", "names", "compare"])
async def test_verification__waits_for_a_transaction_that_did_not_find_its_notice(
    pool: Pool, lookups: Lookups, kind: str
) -> None:
    """An event is being applied when the notice comes, so it does not take back what is verified: it is waited for.

    The tag was pushed, and is gone from the registry by now. So it must not come on record after the verification.
    """
    state = RegistryState()
    image = oci_image("kept")
    state.push(REPOSITORY, image.manifest.data, media_type=image.media_type, tag="kept")
    verifier, comparer = (
        loop(pool, lookups, DirectRegistry(state), concurrency=8)
        for loop in (RequestedVerifier, RequestedComparer)
    )
    await apply(pool, lookups, event("push", tag="first", of="image", at=EPOCH, number=1))
    late = event("push", tag="gone", of="image", at=LATER, number=2)
    decoded = decode(delivery(late, can_wait=False).body, content_encoding="", received_at=LATER).events
    await applying.prepare(lookups, decoded)
    async with pool.acquire() as held:
        async with transaction(pool) as begun:
            await applying.apply_events(begun, lookups, decoded, now=LATER)
            await note(pool, "write-0001", digest("image"), "DELETE")
            question = await write_notices.begin_question(held, Scope(repository=REPOSITORY, names=True))
            if kind == "digest":
                await write_notices.want_verified(held, question)
            else:
                comparison = {"names": Comparison.NAMES, "compare": Comparison.ALL}[kind]
                await write_notices.want_compared(held, question, comparison=comparison)
            loop = comparer if kind == "compare" else verifier
            verifying = asyncio.create_task(loop.run_once())
            await asyncio.sleep(0.3)
        await verifying
        left = await write_notices.count_open(held, question, compared=tuple(Comparison))
    assert 0 == left.open
    assert "gone" not in await names_of(pool)


async def test_question__hastens_what_waits(pool: Pool, barrier: Barrier) -> None:
    """While it waits, events are not left to gather."""
    hurry = WakeEvent()
    hastening = Barrier(pool, hurry=hurry)
    assert await passes(hastening, APP, patient=True)
    assert not hurry.is_set
    await note(pool, "write-0001", "v0")
    assert not await passes(hastening, APP, patient=False)
    assert hurry.is_set


async def test_referrers__wait_for_manifests_to_be_read(
    pool: Pool, lookups: Lookups, barrier: Barrier
) -> None:
    """A manifest's subject is known only once it was read."""
    await apply(pool, lookups, event("push", tag="v0", at=EPOCH, number=1))
    referrers = Scope(repository=REPOSITORY, referrers=True)
    assert await passes(barrier, APP, patient=True)
    assert not await passes(barrier, referrers, patient=False)
    await pool.execute("DELETE FROM work_item WHERE kind = 'resolve'")
    assert await passes(barrier, referrers, patient=True)
    await note(pool, "write-0001", digest("artifact"))
    assert await passes(barrier, APP, patient=True)
    assert not await passes(barrier, referrers, patient=True)


REFERRERS = Scope(repository=REPOSITORY, referrers=True)


def wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let questions wait as long as the machine needs."""
    for name in ("HAND_OVER_SECONDS", "PATIENT_SECONDS"):
        monkeypatch.setattr(module, name, 60.0)


async def test_referrers__what_is_unread_is_read_at_once(
    pool: Pool, lookups: Lookups, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the second announcement of a manifest within a second nor other work holds the question up."""
    wait_for_long(monkeypatch)
    image = oci_image("image")
    reconciler.registry.state.push(REPOSITORY, image.manifest.data, media_type=image.media_type, tag="v0")
    pushed = event("push", tag="v0", at=EPOCH, number=1)
    pushed["target"]["digest"] = image.manifest.digest
    await apply(pool, lookups, pushed)
    later = datetime.now(UTC) + timedelta(hours=1)
    await pool.execute("UPDATE work_item SET due_at = $1, last_observed_at = $1", later)
    assert await passes(barrier, REFERRERS, patient=False)
    assert "announced" != await pool.fetchval("SELECT content FROM manifest")
    assert later == await pool.fetchval("SELECT max(due_at) FROM work_item WHERE kind = 'verify'")


@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("served", [True, False])
async def test_referrers__what_was_asked_for_is_known_if_the_record_agrees(
    pool: Pool,
    lookups: Lookups,
    barrier: Barrier,
    monkeypatch: pytest.MonkeyPatch,
    *,
    present: bool,
    served: bool,
) -> None:
    """It is asked for again soon, but a question does not wait for that: neither if it is gone, nor if it was read."""
    if served is present:
        wait_for_long(monkeypatch)
    state = RegistryState()
    image = oci_image("image")
    if served:
        state.push(REPOSITORY, image.manifest.data, media_type=image.media_type, tag="v0")
    pushed = event("push", tag="v0", at=datetime.now(UTC), number=1)
    pushed["target"]["digest"] = image.manifest.digest
    await apply(pool, lookups, pushed)
    if not present:
        # Deleted by evidence that is within the clock margin, however long this takes.
        await pool.execute(
            "UPDATE repository_manifest SET deleted_at = as_of, as_of = as_of + interval '1 hour'"
        )
    await Resolver(pool, lookups, DirectRegistry(state), concurrency=1).run_once()
    assert (served is present) is await passes(barrier, REFERRERS, patient=False)
    attempts = await pool.fetchval("SELECT attempts FROM work_item WHERE kind = 'resolve'")
    assert (None if served and present else 1) == attempts


async def test_referrers__a_refused_push_by_digest_holds_nobody_up(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is asked about the digest: it does not have it, so no answer lacks it."""
    wait_for_long(monkeypatch)
    await note(pool, "write-0001", digest("refused"))
    assert await passes(barrier, REFERRERS, patient=False)
    async with pool.acquire() as held:
        await repositories.add_repositories(held, announced={RepositoryName(REPOSITORY): EPOCH})
    assert await passes(barrier, REFERRERS, patient=False)
    assert {("write-0001", digest("refused"))} == await noted(pool)
    assert 2 == reconciler.asked("head_manifest")


async def test_referrers__a_push_by_digest_whose_event_is_late_is_found(
    pool: Pool, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry has it, so it comes on record and is read before the question goes on."""
    wait_for_long(monkeypatch)
    async with pool.acquire() as held:
        await repositories.add_repositories(held, announced={RepositoryName(REPOSITORY): EPOCH})
    image = oci_image("image")
    reconciler.registry.state.push(REPOSITORY, image.manifest.data, media_type=image.media_type)
    await note(pool, "write-0001", image.manifest.digest)
    assert await passes(barrier, REFERRERS, patient=False)
    assert "announced" != await pool.fetchval("SELECT content FROM manifest")
    assert 1 == await pool.fetchval("SELECT count(*) FROM repository_manifest WHERE deleted_at IS NULL")


OPERATOR = "operator-token-of-the-tests"


@asynccontextmanager
async def asking(pool: Pool, barrier: Barrier) -> AsyncIterator[TestClient[web.Request, web.Application]]:
    """Ask GitLab's API in front of the barrier."""
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({OPERATOR})), barrier=barrier)
    async with TestClient(TestServer(app), headers={"Authorization": f"bearer {OPERATOR}"}) as client:
        yield client


TAGS = f"/gitlab/v1/repositories/{REPOSITORY}/tags/list/"


async def test_gitlab__a_list_with_referrers_waits_for_manifests_to_be_read(
    pool: Pool, lookups: Lookups, barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without referrers it does not wait for them, and neither does a tag."""
    monkeypatch.setattr(module, "PATIENT_SECONDS", 0.2)
    await apply(pool, lookups, event("push", tag="v0", at=EPOCH, number=1))
    async with asking(pool, barrier) as client:
        refused = await client.get(TAGS, params={"referrers": "true"})
        assert (503, "2") == (refused.status, refused.headers.get("Retry-After"))
        assert 503 == (await client.get(TAGS, params={"referrers": "true", "name_exact": "v0"})).status
        for params in ({}, {"referrers": "false"}, {"name_exact": "v0"}):
            assert 200 == (await client.get(TAGS, params=params)).status, params
        detail = f"/gitlab/v1/repositories/{REPOSITORY}/tags/detail/v0/"
        assert 200 == (await client.get(detail, params={"referrers": "true"})).status
        await pool.execute("DELETE FROM work_item WHERE kind = 'resolve'")
        assert 200 == (await client.get(TAGS, params={"referrers": "true"})).status
        # A refused push by digest has no tag that a comparison could find.
        await note(pool, "write-0001", digest("artifact"))
        assert 503 == (await client.get(TAGS, params={"referrers": "true"})).status
        assert 200 == (await client.get(TAGS)).status


async def test_gitlab__a_list_with_referrers_has_what_was_attached(
    pool: Pool, lookups: Lookups, barrier: Barrier, reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was announced and is not read yet, of the other the event is late: both are in the answer."""
    wait_for_long(monkeypatch)
    image = oci_image("image")
    attached = [artifact(seed, subject=image) for seed in ("sbom", "scan")]
    state = reconciler.registry.state
    state.push(REPOSITORY, image.manifest.data, media_type=image.media_type, tag="v0")
    for each in attached:
        state.push(REPOSITORY, each.manifest.data, media_type=each.media_type)
    for number, (pushed, tag) in enumerate(((image, "v0"), (attached[0], ""))):
        announced = event("push", tag=tag, at=EPOCH, number=number)
        target = announced["target"] | {"digest": pushed.manifest.digest, "mediaType": pushed.media_type}
        await apply(pool, lookups, announced | {"target": target})
    await note(pool, "write-0001", attached[1].manifest.digest)
    async with asking(pool, barrier) as client:
        answer = await client.get(TAGS, params={"referrers": "true"})
        assert 200 == answer.status
        (tag_shown,) = await answer.json(content_type=None)
    assert {each.manifest.digest for each in attached} == {each["digest"] for each in tag_shown["referrers"]}
