"""A plan is made of the registry's storage, or of a dry run's text and what is on record."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from indexer.common.errors import ConfigurationError
from indexer.jobs.job import Job, JobState
from indexer.jobs.params import CollectionPlanParams
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.settings import Settings
from indexer.store import jobs
from indexer.store.maintenance import begin_maintenance
from indexer.store.operators import Operator
from indexer.store.policies_in_force import put_in_force
from indexer.store.pool import Pool, connection, transaction
from reconciler.acting.context import JobContext
from reconciler.collection.decide import Mode, collect
from reconciler.collection.dry_run import DryRun, read_dry_run
from reconciler.collection.hazards import Code
from reconciler.collection.planning import Asked, differences, plan_from_storage, plan_from_text
from reconciler.collection.reading import read_snapshot
from reconciler.collection.references import Release
from reconciler.components import Components
from reconciler.jobs import collection_plan
from reconciler.jobs.runner import Runner
from reconciler.storage.canary import REPOSITORY
from reconciler.storage.files import FileStorage
from tests.fixtures.jobs import LASTING, add, find, run_all
from tests.fixtures.rows import TagRow, digest, put_repository
from tests.fixtures.storages import WritingRegistry
from tests.simulators.layouts import Layout, digest_of, image, index

A, B = image("a"), image("b")
OPERATOR = Operator(name="ann", host="here", command="test")


class _Registry(WritingRegistry):
    """One that shows its release. ``major`` None: it shows none."""

    def __init__(self, root: Path, *, major: int | None = 3) -> None:
        super().__init__(root)
        self.major = major

    async def find_major(self, repository: RepositoryName) -> int | None:
        assert repository == REPOSITORY
        return self.major


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def components(pool: Pool, layout: Layout, *, major: int | None = 3) -> Components:
    held: Any = object.__new__(Components)
    object.__setattr__(held, "pool", pool)
    object.__setattr__(held, "registry", _Registry(layout.root, major=major))
    return cast("Components", held)


async def test_plan_from_storage(pool: Pool, layout: Layout) -> None:
    """What would be deleted comes with its bytes, and with how it was shown that the storage is the registry's."""
    layout.push("app", A, "v1")
    loose = layout.put_blob(b"loose")

    plan, collection = await plan_from_storage(components(pool, layout), FileStorage(layout.root), Asked())

    assert plan.blobs == {loose: 5}
    assert plan.freed_bytes == 5
    assert plan.release == "3"
    assert plan.storage is not None
    assert plan.storage["proven_by"] == "canary"
    assert REPOSITORY in collection.repositories
    assert [each.code for each in plan.hazards] == [Code.UPLOADS]


@pytest.mark.parametrize(("major", "release"), [(2, "2.8"), (3, "3")])
async def test_plan_from_storage__release(pool: Pool, layout: Layout, major: int, release: str) -> None:
    """The release is the registry's own, or the one that is said; without either there is no plan."""
    layout.push("app", A, "v1")
    storage = FileStorage(layout.root)
    plan, _ = await plan_from_storage(components(pool, layout, major=major), storage, Asked())
    assert plan.release == release
    unknown = components(pool, layout, major=None)
    with pytest.raises(ConfigurationError, match="--registry-version"):
        await plan_from_storage(unknown, storage, Asked())
    plan, _ = await plan_from_storage(unknown, storage, Asked(release=Release(release)))
    assert plan.release == release


async def test_plan_from_storage__cache(pool: Pool, layout: Layout) -> None:
    """A cache of descriptors is a hazard where something would be deleted."""
    layout.push("app", A, "v1")
    storage = FileStorage(layout.root)
    asked = Asked(cache="redis")
    plan, _ = await plan_from_storage(components(pool, layout), storage, asked)
    assert plan.hazards == ()
    layout.put_blob(b"loose")
    plan, _ = await plan_from_storage(components(pool, layout), storage, asked)
    assert Code.CACHE in {each.code for each in plan.hazards}


async def test_plan_from_storage__our_own_deletions(pool: Pool, layout: Layout) -> None:
    """Policies in force are a hazard until maintenance begins."""
    layout.put_blob(b"loose")
    layout.push("app", A, "v1")
    storage = FileStorage(layout.root)

    async def codes() -> set[str]:
        plan, _ = await plan_from_storage(components(pool, layout), storage, Asked())
        return {each.code for each in plan.hazards}

    assert Code.DELETIONS not in await codes()
    async with connection(pool) as held, held.transaction():
        await put_in_force(held, content=b"version: 1\n", at=datetime.now(UTC), by=OPERATOR)
    assert Code.DELETIONS in await codes()
    async with connection(pool) as held, held.transaction():
        await begin_maintenance(held, lasting=None, operator=OPERATOR, reason=None)
    assert Code.DELETIONS not in await codes()


# --- from a dry run's text --------------------------------------------------------------------------------

LOST, KEPT, CHILD, PARENT, SUBJECT, REFERRER = (
    digest(name) for name in ("lost", "kept", "child", "parent", "subject", "referrer")
)


def text(*, blobs: list[Digest], manifests: list[tuple[str, Digest]]) -> DryRun:
    """A dry run of 3.x."""
    read = read_dry_run(
        [
            "app",
            f"app: marking manifest {KEPT} ",
            *(f"manifest eligible for deletion: {{{name} {each} [v1]}}" for name, each in manifests),
            "",
            f"1 blobs marked, {len(blobs)} blobs and {len(manifests)} manifests eligible for deletion",
            *(f"blob eligible for deletion: {each}" for each in blobs),
        ]
    )
    assert read.problem is None
    return read


async def _record(pool: Pool) -> None:
    """An index with a child, and a subject with a referrer, in one repository; a layer of a tagged manifest."""
    rows = [TagRow(name="index", exact_digest=PARENT), TagRow(name="child", exact_digest=CHILD)]
    rows += [TagRow(name="subject", exact_digest=SUBJECT), TagRow(name="referrer", exact_digest=REFERRER)]
    await put_repository(pool, "app", rows)
    await pool.execute("DELETE FROM tag WHERE name IN ('child', 'referrer')")
    ids = {row["digest"]: row["id"] for row in await pool.fetch("SELECT id, digest FROM manifest")}
    of = {name: ids[digest_to_bytes(name)] for name in (PARENT, CHILD, SUBJECT, REFERRER)}
    await pool.execute(
        "INSERT INTO manifest_child (manifest_id, child_id, position) VALUES ($1, $2, 0)",
        of[PARENT],
        of[CHILD],
    )
    await pool.execute(
        "UPDATE manifest SET subject_digest = $2 WHERE id = $1", of[REFERRER], digest_to_bytes(SUBJECT)
    )
    blob = await pool.fetchval("INSERT INTO blob (digest) VALUES ($1) RETURNING id", digest_to_bytes(LOST))
    await pool.execute(
        "INSERT INTO media_type (name) VALUES ('application/octet-stream') ON CONFLICT DO NOTHING"
    )
    await pool.execute(
        "INSERT INTO manifest_layer (manifest_id, blob_id, position, media_type_id, size_bytes) "
        "SELECT $1, $2, 1000, id, 77 FROM media_type LIMIT 1",
        of[CHILD],
        blob,
    )


async def test_plan_from_text__by_record(pool: Pool) -> None:
    """Children, referrers and layers that something on record needs are named; sizes are those on record."""
    await _record(pool)
    read = text(blobs=[LOST, digest("other")], manifests=[("app", CHILD), ("app", REFERRER)])

    async with connection(pool) as held:
        plan = await plan_from_text(held, read)

    assert {(each.code, each.digest) for each in plan.hazards} == {
        (Code.INDEX_CHILD, CHILD),
        (Code.REFERRER, REFERRER),
        (Code.LAYER_LOST, PARENT),
    }
    assert any("app:index" in each.text for each in plan.hazards)
    assert plan.blobs == {LOST: 77, digest("other"): None}
    assert (plan.freed_bytes, plan.unsized) == (77, 1)


async def test_plan_from_text__what_goes_together(pool: Pool) -> None:
    """An index that goes with its children, a subject with its referrer, and other repositories miss nothing."""
    await _record(pool)
    together = text(blobs=[], manifests=[("app", each) for each in (CHILD, PARENT, SUBJECT, REFERRER)])
    elsewhere = text(blobs=[], manifests=[("other", CHILD), ("other", REFERRER)])

    async with connection(pool) as held:
        assert (await plan_from_text(held, together)).hazards == ()
        assert (await plan_from_text(held, elsewhere)).hazards == ()


# --- both -------------------------------------------------------------------------------------------------


async def _both(layout: Layout, change: Callable[[Layout], Awaitable[None]] | None = None) -> list[str]:
    """Compare a collection with the text of one that was made before a change."""
    storage = FileStorage(layout.root)
    before = collect(read_snapshot(storage, Release.V3), Mode(Release.V3, delete_untagged=True))
    read = DryRun(
        repositories=before.repositories,
        marked=before.marked,
        marked_manifests=before.marked_manifests,
        blobs=before.blobs,
        manifests=before.manifests,
        layer_links=before.layer_links,
        never_tagged=frozenset(),
        counts=None if before.aborts else cast("Any", object()),
        unread=0,
        problem=None,
    )
    if change is not None:
        await change(layout)
    after = collect(read_snapshot(storage, Release.V3), Mode(Release.V3, delete_untagged=True))
    return differences(after, read)


async def test_differences__none(layout: Layout) -> None:
    """The canary that is pushed for the comparison makes no difference, nor does nothing."""
    layout.push("app", A, "v1")
    layout.push("app", B)
    assert await _both(layout) == []

    async def prove(layout: Layout) -> None:
        for _ in range(3):
            await plan_storage_of(layout)

    assert await _both(layout, prove) == []


async def plan_storage_of(layout: Layout) -> None:
    from reconciler.storage.canary import proven  # noqa: PLC0415

    await proven(FileStorage(layout.root), cast("Any", _Registry(layout.root)), cast("Any", None))


async def test_differences__each(layout: Layout) -> None:
    """Whatever else is pushed, tagged, lost or added is one, with examples."""
    layout.push("app", A, "v1")
    layout.push("app", B)

    async def push(layout: Layout) -> None:
        layout.push("app", index((A,)), "v2")
        layout.put_blob(b"loose")

    found = await _both(layout, push)
    assert any("manifests that stay only in the storage: app@" in each for each in found)
    assert any(f"1 blobs to be deleted only in the storage: {digest_of(b'loose')}" in each for each in found)

    async def tag(layout: Layout) -> None:
        layout.tag("app", "v3", B.digest)

    found = await _both(layout, tag)
    assert f"1 manifests to be deleted only in the dry run: app@{B.digest}" in found

    async def spoil(layout: Layout) -> None:
        (layout.tag_directory("app", "v3") / "current" / "link").write_bytes(b"")

    found = await _both(layout, spoil)
    assert found[0] == "the dry run succeeded; from the storage a collection fails"


def test_differences__of_failures(layout: Layout) -> None:
    """A dry run that failed differs from a collection that would not."""
    layout.push("app", A, "v1")
    collection = collect(read_snapshot(FileStorage(layout.root), Release.V3), Mode(Release.V3))
    failed = replace(read_dry_run(["app", f"app: marking manifest {A.digest} "]), marked=collection.marked)
    assert [each.partition(";")[0] for each in differences(collection, failed)] == [
        "the dry run failed, or its text is not whole"
    ]


# --- as a job ---------------------------------------------------------------------------------------------


class Planning:
    """Executes jobs of the kind ``gc-plan`` over a storage."""

    def __init__(self, pool: Pool, layout: Layout) -> None:
        self.pool = pool
        self.stop = asyncio.Event()
        self.components = cast(
            "Components",
            SimpleNamespace(
                pool=pool,
                registry=_Registry(layout.root),
                settings=Settings(reconciler_storage_url=f"file://{layout.root}"),
            ),
        )

    def runner(self) -> Runner:
        return Runner(
            self.components,
            program="test",
            lasting=LASTING,
            stop=self.stop,
            handlers={"gc-plan": collection_plan.run},
        )

    async def ask(self, **params: Any) -> Job:
        wanted = CollectionPlanParams(**params).model_dump(mode="json")
        return await add(self.pool, kind="gc-plan", acts=False, params=wanted, reason="before sunday")

    async def logged(self) -> list[dict[str, Any]]:
        rows = await self.pool.fetch(
            "SELECT s.detail, s.source, a.name AS actor FROM audit_staged AS s JOIN actor AS a ON a.id = s.actor_id"
            " WHERE s.action = 'gc.planned' ORDER BY s.id"
        )
        assert all((row["actor"], row["source"]) == ("ann", "operator") for row in rows)
        return [row["detail"] for row in rows]


@pytest.fixture
def planning(pool: Pool, layout: Layout) -> Planning:
    return Planning(pool, layout)


async def test_job(planning: Planning, layout: Layout) -> None:
    """The result has the figures of the same plan, and its hazards; the log has the figures, with who asked."""
    layout.push("app", A, "v1")
    layout.push("app", B)
    layout.put_blob(b"loose")
    job = await planning.ask(delete_untagged=True)
    await run_all(planning.runner())
    job = await find(planning.pool, job)
    assert (job.state, job.error) == (JobState.DONE, None)
    result = dict(job.result or {})
    asked = Asked(delete_untagged=True)
    plan, _ = await plan_from_storage(planning.components, FileStorage(layout.root), asked)
    ours = len([each for each in plan.manifests if each[0] == REPOSITORY])
    assert result["manifests"] == 1
    assert ours == 1  # the canary's own, pushed for the second plan
    assert result["blobs"] == len(plan.blobs) - ours > 1
    assert (result["release"], result["delete_untagged"], result["fails"]) == ("3", True, False)
    assert result["storage"]["proven_by"] == "canary"
    assert (sum(result["hazards_by_code"].values()), result["left_out"]) == (len(result["hazards"]), 0)
    assert job.progress is not None
    (detail,) = await planning.logged()
    assert (detail["job"], detail["reason"]) == (str(job.id), "before sunday")
    assert detail["freed_bytes"] == result["freed_bytes"] > 0
    assert "hazards" not in detail


async def test_job__begun_again_after_the_plan(planning: Planning, layout: Layout) -> None:
    """A process that disappears after it made the plan: the next ends the job with that plan; the log has it once."""
    layout.push("app", A, "v1")
    job = await planning.ask()
    taken = await planning.runner().take()
    assert taken is not None
    context = JobContext(planning.components, taken, stop=planning.stop, lasting=LASTING)
    made = await collection_plan.run(context)
    await planning.pool.execute("UPDATE job SET leased_until = now() - interval '1 s'")
    layout.put_blob(b"loose")
    await run_all(planning.runner())
    job = await find(planning.pool, job)
    assert (job.state, job.result) == (JobState.DONE, made)
    assert len(await planning.logged()) == 1


async def test_job__cancelled(planning: Planning, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that is cancelled while the storage is read ends there, and is in no log."""
    layout.push("app", A, "v1")
    reading, read = threading.Event(), FileStorage.list

    def slow(self: FileStorage, prefix: str) -> Any:
        reading.set()
        while True:
            yield from read(self, prefix)
            time.sleep(0.01)

    monkeypatch.setattr(FileStorage, "list", slow)
    job = await planning.ask()
    running = asyncio.create_task(run_all(planning.runner()))
    await asyncio.to_thread(reading.wait, 60)
    async with transaction(planning.pool) as held:
        await jobs.cancel_job(held, job_id=job.id, by="ann")
    await asyncio.wait_for(running, 60)
    assert (await find(planning.pool, job)).state is JobState.CANCELLED
    assert await planning.logged() == []


async def test_job__of_another_storage(planning: Planning, layout: Layout, tmp_path: Path) -> None:
    """An empty mount: the job fails with one sentence, and nothing is in the log."""
    layout.push("app", A, "v1")
    empty = tmp_path / "empty"
    empty.mkdir()
    cast("Any", planning.components).settings = Settings(reconciler_storage_url=f"file://{empty}")
    job = await planning.ask()
    await run_all(planning.runner())
    job = await find(planning.pool, job)
    assert (job.state, job.result) == (JobState.FAILED, None)
    assert "not mounted" in (job.error or "")
    assert await planning.logged() == []


async def test_job__with_many_hazards(planning: Planning, layout: Layout) -> None:
    """The result stays small: the first hazards in words, and how many of each there are."""
    many = collection_plan.MOST_HAZARDS + 5
    for number in range(many):
        layout.push(f"never/{number}", image(f"never {number}"))
    await planning.ask(delete_untagged=True)
    await run_all(planning.runner())
    (job,) = await _jobs(planning.pool)
    result = dict(job.result or {})
    assert result["hazards_by_code"]["H3"] == many
    assert len(result["hazards"]) == collection_plan.MOST_HAZARDS
    assert result["left_out"] == sum(result["hazards_by_code"].values()) - collection_plan.MOST_HAZARDS


async def _jobs(pool: Pool) -> list[Job]:
    async with connection(pool) as held:
        return await jobs.newest_jobs(held, limit=10)
