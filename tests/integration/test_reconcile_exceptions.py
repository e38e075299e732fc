"""Walks of registries with damaged, closed and stray parts: they come to an end, and name what they left out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from indexer.background.gauges import Gauges
from indexer.common.errors import RegistryDenied, RegistryError, RegistryUnavailable
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import reconcile_runs, work_items
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.drift.exceptions import Closed
from reconciler.drift.plan import make_plan
from reconciler.drift.report import RunReport, RunSettings
from reconciler.drift.run import ReconcileRun
from reconciler.registry.answers import CatalogListing, ManifestAnswer, TagAnswer, TagListing
from reconciler.registry.client import RegistryClient
from reconciler.registry.protocol import Registry
from reconciler.registry.retrying import RetryPolicy
from reconciler.registry.transport import TransportSettings
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures.registries import StartRegistry
from tests.fixtures.storage import tag_link_of, tags_of
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import Pusher, docker_image, oci_image

APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
ONCE = RunSettings(mode=RunMode.ONCE, concurrency=8, brake_share=1.0, reread_after=timedelta(0))
IMAGE = docker_image("one")


class Damaged(DirectRegistry):
    """A registry that fails for some tags and manifests, keeps some repositories closed, and lists stray names."""

    def __init__(self, state: RegistryState) -> None:
        super().__init__(state)
        self.failing: set[str] = set()
        self.closed: set[str] = set()
        self.stray: tuple[str, ...] = ()
        self.catalog_error: RegistryError | None = None

    async def list_repositories(
        self, *, on_names: Callable[[Sequence[RepositoryName]], None] | None = None
    ) -> CatalogListing:
        """List, or fail."""
        if self.catalog_error is not None:
            raise self.catalog_error
        return await super().list_repositories(on_names=on_names)

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """List with the stray names left out."""
        if repository in self.closed:
            raise RegistryDenied("401 UNAUTHORIZED")
        listing = await super().list_tags(repository)
        return replace(listing, left_out=len(self.stray), left_out_examples=self.stray)

    async def head_tag(
        self,
        repository: RepositoryName,
        tag: TagName,
        *,
        if_digest: Digest | None = None,
        on_record: Digest | None = None,
    ) -> TagAnswer:
        """Look, or fail."""
        if tag in self.failing:
            raise RegistryUnavailable("500 UNKNOWN", status=500)
        return await super().head_tag(repository, tag, if_digest=if_digest, on_record=on_record)

    async def head_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
        """Look, or fail."""
        if digest in self.failing:
            raise RegistryUnavailable("500 UNKNOWN", status=500)
        return await super().head_manifest(repository, digest)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timedelta(milliseconds=1)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)
    monkeypatch.setattr(decide, "RETRY", moment)


@pytest.fixture
def registry() -> Damaged:
    state = RegistryState()
    for name in (APP, OTHER):
        for tag in ("v1", "v2", "v3"):
            state.push(name, IMAGE.manifest.data, media_type=IMAGE.media_type, tag=tag)
    return Damaged(state)


async def walk(pool: Pool, lookups: Lookups, registry: Registry, settings: RunSettings = ONCE) -> RunReport:
    return await ReconcileRun(pool, lookups, registry, settings).run()


async def verify(
    pool: Pool, lookups: Lookups, registry: Registry, *, until_attempts: int | None = None
) -> None:
    """Verify until nothing is due, or until every tag that is has failed so often."""
    verifier = Verifier(pool, lookups, registry, concurrency=8)
    few = "SELECT count(*) FROM work_item WHERE kind = 'verify' AND ($1::integer IS NULL OR attempts < $1)"
    async with asyncio.timeout(60):
        while await pool.fetchval(few, until_attempts):
            await verifier.run_once()
            await asyncio.sleep(0.002)


async def broken(pool: Pool) -> list[tuple[str, str, str | None]]:
    rows = await pool.fetch(
        "SELECT r.name AS repository, t.name AS tag, t.broken_reason"
        " FROM tag t JOIN repository r ON r.id = t.repository_id"
        " WHERE t.broken_reason IS NOT NULL OR t.verified_at IS NULL ORDER BY r.name, t.name"
    )
    return [tuple(row) for row in rows]


async def test_stray_names__take_nothing_away(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """A directory that is no tag is named; what is gone beside it is deleted, and the walk is complete."""
    await walk(pool, lookups, registry)
    registry.stray = (".DS_Store", "@eaDir")
    registry.state.repositories[APP].tags.pop("v1")

    plan = await make_plan(pool, registry, concurrency=4, scope=None, on_progress=lambda _: None)
    report = await walk(pool, lookups, registry)

    assert report.outcome is RunOutcome.COMPLETE
    assert (report.reasons, plan.undecided) == ([], [])
    await Gauges(pool).run_once()
    assert REGISTRY.get_sample_value("indexer_reconcile_undecided", {"kind": "not_a_tag"}) == 4

    named = "team/app: 2 names that no tag can have were left out: '.DS_Store', '@eaDir'"
    assert named in report.left_out
    assert named in plan.left_out
    assert await pool.fetchval("SELECT count(*) FROM tag WHERE name = 'v1'") == 1
    assert await pool.fetchval("SELECT count(*) FROM repository WHERE last_reconciled_at IS NULL") == 0


async def test_failing_tag__becomes_broken(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """A tag that answers 500 is undecided at first; asked often enough it is broken, and walks are complete."""
    registry.failing = {"v2"}

    first = await walk(pool, lookups, registry)
    assert (first.outcome, set(first.undecided)) == (RunOutcome.INCOMPLETE, {"unreadable"})
    await verify(pool, lookups, registry)
    second = await walk(pool, lookups, registry)

    assert (second.outcome, second.undecided) == (RunOutcome.COMPLETE, {})
    assert await broken(pool) == [(APP, "v2", "unreadable_tag"), (OTHER, "v2", "unreadable_tag")]
    found = await pool.fetch("SELECT kind, cause FROM drift_finding WHERE tag = 'v2'")
    assert {tuple(row) for row in found} == {("tag_broken", "unreadable_tag")}
    details = await pool.fetchval(
        "SELECT array_agg(detail::text) FROM audit_staged WHERE detail::text LIKE '%unread%'"
    )
    assert [json.loads(each) for each in details] == [{"cause": "unreadable_tag"}] * 2

    registry.failing = set()
    assert (await walk(pool, lookups, registry)).counts["changed"] == 2
    assert await broken(pool) == []


async def test_failing_tag__known_before(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """A tag on record keeps its digest when it is called broken; one that is not listed any more is not."""
    await walk(pool, lookups, registry)
    registry.failing = {"v2", "v3"}
    registry.state.repositories[OTHER].tags.pop("v3")
    await walk(pool, lookups, registry)
    await verify(pool, lookups, registry, until_attempts=decide.UNREADABLE_AFTER + 2)

    assert await broken(pool) == [
        (APP, "v2", "unreadable_tag"),
        (APP, "v3", "unreadable_tag"),
        (OTHER, "v2", "unreadable_tag"),
    ]
    assert (
        await pool.fetchval(
            "SELECT count(*) FROM tag WHERE broken_reason IS NOT NULL AND manifest_id IS NULL"
        )
        == 0
    )


async def test_failing_tag__nothing_else_answers(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """Where no tag is served the storage is away, and none is called broken however often it fails."""
    await walk(pool, lookups, registry)
    registry.failing = {"v1", "v2", "v3"}
    await walk(pool, lookups, registry)
    await verify(pool, lookups, registry, until_attempts=decide.UNREADABLE_AFTER + 3)

    assert await broken(pool) == []


async def test_failing_tag__alone_in_the_registry(pool: Pool, lookups: Lookups) -> None:
    """Where no tag was ever read none can vouch for the storage: the only one there is becomes broken all the same."""
    state = RegistryState()
    state.push(APP, IMAGE.manifest.data, media_type=IMAGE.media_type, tag="v1")
    registry = Damaged(state)
    registry.failing = {"v1"}
    await walk(pool, lookups, registry)
    await verify(pool, lookups, registry)

    assert await broken(pool) == [(APP, "v1", "unreadable_tag")]


async def test_failing_manifest__few(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """A manifest that answers 500 for ever leaves the walk complete, and is named."""
    untagged = oci_image("untagged")
    registry.state.push(APP, untagged.manifest.data, media_type=untagged.media_type, tag="gone")
    await walk(pool, lookups, registry)
    registry.state.repositories[APP].tags.pop("gone")
    registry.failing = {untagged.digest}

    report = await walk(pool, lookups, registry)

    assert (report.outcome, set(report.undecided)) == (RunOutcome.COMPLETE, {"manifest_unreadable"})
    assert untagged.digest in report.left_out[0]


async def test_denied__alone(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """A repository that was never open to us is named; one that was open lately keeps the walk incomplete."""
    registry.closed = {OTHER}

    first = await walk(pool, lookups, registry)
    assert (first.outcome, set(first.undecided)) == (RunOutcome.COMPLETE, {"denied_alone"})
    assert first.left_out == ["team/other: 401 UNAUTHORIZED"]

    registry.closed = set()
    await walk(pool, lookups, registry)
    registry.closed = {OTHER}
    lately = await walk(pool, lookups, registry)
    assert (lately.outcome, set(lately.undecided)) == (RunOutcome.INCOMPLETE, {"denied"})

    accepted = await walk(pool, lookups, registry, replace(ONCE, closed=Closed(accepted=("team/*",))))
    assert (accepted.outcome, set(accepted.undecided)) == (RunOutcome.COMPLETE, {"denied_accepted"})

    registry.closed = {APP, OTHER}
    assert (await walk(pool, lookups, registry)).outcome is RunOutcome.INCOMPLETE


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RegistryDenied("401 for _catalog"), "catalog_denied"),
        (RegistryUnavailable("_catalog: 503"), "catalog_incomplete"),
    ],
)
async def test_catalog__cannot_be_had(
    pool: Pool, lookups: Lookups, registry: Damaged, error: RegistryError, kind: str
) -> None:
    """Without the catalog what is on record is compared, and it is said that new repositories cannot be found."""
    await walk(pool, lookups, registry)
    registry.catalog_error = error
    registry.state.repositories[APP].tags.pop("v1")

    report = await walk(pool, lookups, registry)

    assert (report.outcome, set(report.undecided)) == (RunOutcome.INCOMPLETE, {kind})
    assert "new repositories cannot be found" in report.reasons[0]
    assert await pool.fetchval("SELECT count(*) FROM tag WHERE name = 'v1'") == 1

    accepted = await walk(pool, lookups, registry, replace(ONCE, closed=Closed(accepted=("_catalog",))))
    expected = RunOutcome.COMPLETE if kind == "catalog_denied" else RunOutcome.INCOMPLETE
    assert accepted.outcome is expected


class Unreachable(DirectRegistry):
    """A registry that lists its catalog and then is gone; before that somebody may come along."""

    def __init__(self, state: RegistryState) -> None:
        super().__init__(state)
        self.joining: Callable[[], Awaitable[None]] | None = None
        self.one_at_a_time = asyncio.Lock()

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """Fail, and stay away."""
        if self.joining is not None:
            async with self.one_at_a_time:
                await self.joining()
        self.failures.append(RegistryUnavailable("gone"))
        raise RegistryUnavailable(f"{repository}: gone")


async def test_resume__fails_alone(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """Who joined a walk that others began and cannot reach the registry leaves it to them."""
    async with reconcile_runs.working(pool) as worker:
        run = await reconcile_runs.begin_run(
            worker._held,
            mode=RunMode.RUN,
            at=datetime.now().astimezone(),
            scope=None,
            cause="start",
            thorough=True,
        )
        await worker.join(run)
        helper = ReconcileRun(pool, lookups, Unreachable(registry.state), replace(ONCE, resume=True))
        with pytest.raises(RegistryUnavailable):
            await helper.run()
        state = await reconcile_runs.state_of(worker._held, run_id=run.id)
        assert (state.ended, state.left) == (False, 2)

    report = await walk(pool, lookups, registry, replace(ONCE, resume=True))
    assert report.outcome is RunOutcome.COMPLETE
    assert await outcomes(pool) == [RunOutcome.COMPLETE]


async def outcomes(pool: Pool) -> list[str | None]:
    rows = await pool.fetch("SELECT outcome FROM reconcile_run ORDER BY id DESC")
    return [row["outcome"] for row in rows]


async def test_once__company_goes_on(pool: Pool, lookups: Lookups, registry: Damaged) -> None:
    """Who began a walk that somebody helps with does not close it for the helper; alone he does."""
    gone = Unreachable(registry.state)
    with pytest.raises(RegistryUnavailable):
        await walk(pool, lookups, gone)
    assert await outcomes(pool) == [RunOutcome.FAILED]

    async with reconcile_runs.working(pool) as helper:

        async def join() -> None:
            await helper.join((await reconcile_runs.open_runs(helper._held))[-1])

        gone.joining = join
        with pytest.raises(RegistryUnavailable):
            await walk(pool, lookups, gone)
        assert await outcomes(pool) == [None, RunOutcome.FAILED]


async def test_real_registry__damaged_storage(
    registry_version: int, start_registry: StartRegistry, pool: Pool, lookups: Lookups
) -> None:
    """An empty link, a directory as a link and a stray directory: the walk names them, and is complete in the end."""
    server = start_registry(registry_version)

    def push() -> None:
        with Pusher(server.url) as pusher:
            for tag in ("fine", "empty", "directory", "lost"):
                pusher.push(APP, oci_image(tag), tag)

    await asyncio.to_thread(push)
    settings = TransportSettings(base_url=server.url, retry=RetryPolicy(attempts=1))
    async with RegistryClient(settings) as client:
        assert (await walk(pool, lookups, client)).outcome is RunOutcome.COMPLETE
        tag_link_of(server, APP, "empty").write_bytes(b"")
        tag_link_of(server, APP, "directory").unlink()
        tag_link_of(server, APP, "directory").mkdir()
        (tags_of(server, APP) / "@eaDir").mkdir()
        (tags_of(server, APP) / "lost").rename(server.storage_dir / "lost")

        assert (await walk(pool, lookups, client)).outcome is RunOutcome.INCOMPLETE
        await verify(pool, lookups, client)
        report = await walk(pool, lookups, client)

    assert (report.outcome, set(report.undecided)) == (RunOutcome.COMPLETE, {"not_a_tag"})
    assert await broken(pool) == [(APP, "directory", "unreadable_tag"), (APP, "empty", "unreadable_tag")]
    assert await pool.fetchval("SELECT array_agg(name ORDER BY name) FROM tag") == [
        "directory",
        "empty",
        "fine",
    ]
