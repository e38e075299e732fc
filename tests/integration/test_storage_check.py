"""The job that checks the storage: what it records, what it does not, what the API, the log and the metrics show."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import REGISTRY
from pydantic import ValidationError

from indexer.api.routes import ApiSettings, add_api
from indexer.api.v1.storage import RepositoryStorage, StorageFinding, StorageShown
from indexer.background.gauges import Gauges
from indexer.common.errors import StorageRefused
from indexer.jobs.job import Job, JobState
from indexer.jobs.kinds import KINDS
from indexer.jobs.params import StorageCheckParams
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName
from indexer.settings import Settings
from indexer.store import jobs
from indexer.store.maintenance import begin_maintenance
from indexer.store.operators import Operator
from indexer.store.pool import Pool, connection, open_pool, transaction
from reconciler.components import Components
from reconciler.jobs import storage_check
from reconciler.jobs.runner import Runner
from reconciler.storage.layout import Blob, LayerLink, TagCurrent
from tests.fixtures.cleanup_rows import Rows
from tests.fixtures.jobs import LASTING, add, find, run_all
from tests.fixtures.storages import WritingRegistry, lay
from tests.fixtures.tokens import grant, mint, trust_in

READS = "read-token-of-the-tests"
APP, OTHER = RepositoryName("team/app"), RepositoryName("team/other")


@dataclass
class World:
    """A storage that a registry writes, the job that checks it, and the API."""

    pool: Pool
    root: Path
    registry: WritingRegistry
    api: TestClient[web.Request, web.Application]
    components: Components
    stop: asyncio.Event

    async def push(self, repository: RepositoryName, tag: str, layer: bytes) -> Digest:
        """Push an image of one layer; return the layer's digest."""
        config = await self.registry.put_blob(repository, b"{}")
        digest = await self.registry.put_blob(repository, layer)
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.example", "digest": config, "size": 2},
            "layers": [{"mediaType": "application/vnd.example", "digest": digest, "size": len(layer)}],
        }
        await self.registry.put_manifest(repository, cast("Any", tag), json.dumps(manifest).encode())
        return digest

    def runner(self) -> Runner:
        return Runner(
            self.components,
            program="test",
            lasting=LASTING,
            stop=self.stop,
            handlers={"storage-check": storage_check.run},
        )

    async def check(self, **params: Any) -> Job:
        """Check, and return the job at its end."""
        wanted = StorageCheckParams(settle_seconds=0, **params)
        job = await add(self.pool, kind="storage-check", acts=False, params=wanted.model_dump(mode="json"))
        await run_all(self.runner())
        return await find(self.pool, job)

    async def get(self, path: str, token: str = READS) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        response = await self.api.get(f"/api/v1{path}", headers=headers)
        return response.status, await response.json(content_type=None)

    async def logged(self) -> list[tuple[str | None, Any]]:
        """Repository and detail of what the log says about damage, oldest first."""
        async with connection(self.pool) as held:
            rows = await held.fetch(
                "SELECT r.name, s.detail, s.source FROM audit_staged AS s LEFT JOIN repository AS r"
                " ON r.id = s.repository_id WHERE s.action = 'storage.damaged' ORDER BY s.id"
            )
        assert all(row["source"] == "storage" for row in rows)
        return [(row["name"], row["detail"]) for row in rows]


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    pool = await open_pool(database_url, size=8, application="tests")
    root = tmp_path / "storage"
    root.mkdir()
    registry = WritingRegistry(root)
    settings = Settings(reconciler_storage_url=f"file://{root}")
    components = cast("Components", SimpleNamespace(pool=pool, registry=registry, settings=settings))
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({READS}), trust=trust_in(tmp_path)))
    async with connection(pool) as held:
        rows = Rows(held)
        await rows.begin()
        for name in (APP, OTHER):
            await rows.repository(name)
    async with TestClient(TestServer(app, host="127.0.0.1")) as client:
        yield World(pool, root, registry, client, components, asyncio.Event())
    await pool.close()


async def test_sound(world: World) -> None:
    """A sound storage: the job is done, nothing is damaged, and what its bytes belong to is shown."""
    await world.push(APP, "v1", b"layer")
    job = await world.check(content=True)
    assert (job.state, job.error) == (JobState.DONE, None)
    result = dict(job.result or {})
    assert (result["damaged"], result["harmless"], result["findings"]) == (0, 0, [])
    assert result["proof"]["proven_by"] == "canary"
    assert result["compared"] == result["blobs"]
    status, shown = await world.get("/storage")
    assert status == 200
    StorageShown.model_validate(shown)
    assert (shown["checked"]["damaged"], shown["checked"]["job"]) == (0, str(job.id))
    files = [each for each in world.root.rglob("data") if each.is_file()]
    assert shown["bytes"]["stored_bytes"] == sum(each.stat().st_size for each in files)
    assert shown["bytes"]["unreferenced_bytes"] == 0
    names = {each["name"] for each in shown["largest_repositories"]}
    assert names == {"registry-indexer-storage/canary", str(APP)}


async def test_damage__is_recorded_once_and_forgotten_when_mended(world: World) -> None:
    """What is damaged is shown and logged once; a second check logs nothing, and a third forgets what was mended."""
    layer = await world.push(APP, "v1", b"layer")
    path = lay(world.root, LayerLink(APP, layer), b"")
    job = await world.check()
    result = dict(job.result or {})
    assert (job.state, result["damaged"], result["new"]) == (JobState.DONE, 1, 1)
    assert result["findings"][0]["tags"] == ["v1"]
    ((repository, detail),) = await world.logged()
    assert repository == APP
    assert (detail["code"], detail["digest"], detail["tags"]) == ("blob.link_unreadable", layer, ["v1"])
    assert (await world.get(f"/repositories/{APP}/storage"))[1]["findings"][0][
        "code"
    ] == "blob.link_unreadable"
    again = await world.check()
    assert ((again.result or {})["damaged"], (again.result or {})["new"]) == (1, 0)
    assert len(await world.logged()) == 1
    path.write_bytes(layer.encode())
    assert ((await world.check()).result or {})["damaged"] == 0
    assert (await world.get("/storage/findings"))[1]["items"] == []
    path.unlink()
    await world.check()
    assert [detail["code"] for _, detail in await world.logged()] == [
        "blob.link_unreadable",
        "blob.link_missing",
    ]


async def test_wrong_bytes__stay_until_they_are_right(world: World) -> None:
    """What only ``content`` finds is compared again by a check without it: it stays on record until it is mended."""
    layer = await world.push(APP, "v1", b"layer")
    assert ((await world.check()).result or {})["damaged"] == 0
    lay(world.root, Blob(layer), b"Layer")
    assert ((await world.check()).result or {})["damaged"] == 0
    assert ((await world.check(content=True)).result or {})["damaged"] == 1
    assert ((await world.check()).result or {})["damaged"] == 1
    lay(world.root, Blob(layer), b"layer")
    assert ((await world.check()).result or {})["damaged"] == 0


async def test_what_a_token_sees(world: World) -> None:
    """Who may read one repository sees its findings, and neither those of others nor the registry's figures."""
    for name in (APP, OTHER):
        await world.push(name, "v1", b"layer")
        lay(world.root, TagCurrent(name, cast("Any", "v1")), b"")
    lay(world.root, Blob(digest_of(b"alone")), b"spoiled")
    await world.check(content=True)
    status, page = await world.get("/storage/findings")
    assert status == 200
    for item in page["items"]:
        StorageFinding.model_validate(item)
    assert [(each["repository"], each["code"]) for each in page["items"]] == [
        (None, "blob.wrong_content"),
        (APP, "tag.link_unreadable"),
        (OTHER, "tag.link_unreadable"),
    ]
    for query, expected in (
        (f"?repository={OTHER}", [OTHER]),
        ("?code=blob.wrong_content", [None]),
        ("?severity=harmless", []),
        ("?severity=damaged&limit=1&sort=", None),
    ):
        status, page = await world.get(f"/storage/findings{query}")
        if expected is None:
            assert status == 400
        else:
            assert [each["repository"] for each in page["items"]] == expected
    token = mint(grant(APP, "pull"))
    assert [each["repository"] for each in (await world.get("/storage/findings", token))[1]["items"]] == [APP]
    assert (await world.get("/storage", token))[0] == 403
    status, shown = await world.get(f"/repositories/{APP}/storage", token)
    RepositoryStorage.model_validate(shown)
    assert (status, shown["bytes"]["manifests"], len(shown["findings"])) == (200, 1, 1)
    assert (await world.get(f"/repositories/{OTHER}/storage", token))[0] == 404


@pytest.mark.parametrize("wrong", ["empty", "copy"])
async def test_another_storage__changes_nothing(
    world: World, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty mount and an old copy are refused in one sentence; the findings on record stay as they were."""
    monkeypatch.setattr("reconciler.storage.canary.proven.__kwdefaults__", {
        "unproven": False, "needs_canary": False, "patience_seconds": 0.2,
    })  # fmt: skip
    await world.push(APP, "v1", b"layer")
    lay(world.root, TagCurrent(APP, cast("Any", "v1")), b"")
    assert ((await world.check()).result or {})["damaged"] == 1
    before = await world.get("/storage")
    elsewhere = world.root.parent / "elsewhere"
    if wrong == "copy":
        shutil.copytree(world.root, elsewhere)
    else:
        elsewhere.mkdir()
    cast("Any", world.components).settings = Settings(reconciler_storage_url=f"file://{elsewhere}")
    job = await world.check()
    assert job.state is JobState.FAILED
    assert (job.error or "").endswith("nothing was done")
    assert await world.get("/storage") == before


async def test_cancelled__records_nothing(world: World) -> None:
    """A check that is cancelled while it waits records nothing, and ends at once."""
    layer = await world.push(APP, "v1", b"layer")
    lay(world.root, LayerLink(APP, layer), b"")
    params = StorageCheckParams(settle_seconds=3600).model_dump(mode="json")
    job = await add(world.pool, kind="storage-check", acts=False, params=params)
    running = asyncio.create_task(run_all(world.runner()))
    while (await find(world.pool, job)).progress is None:
        await asyncio.sleep(0.05)
    async with transaction(world.pool) as held:
        await jobs.cancel_job(held, job_id=job.id, by="ann")
    await asyncio.wait_for(running, 60)
    assert (await find(world.pool, job)).state is JobState.CANCELLED
    assert (await world.get("/storage"))[1]["checked"] is None
    assert await world.logged() == []


async def test_stopped__is_begun_anew(world: World) -> None:
    """A process that is asked to stop gives the job back; the next one checks from the beginning."""
    layer = await world.push(APP, "v1", b"layer")
    lay(world.root, LayerLink(APP, layer), b"")
    params = StorageCheckParams(settle_seconds=3600).model_dump(mode="json")
    job = await add(world.pool, kind="storage-check", acts=False, params=params)
    taken = await world.runner().take()
    assert taken is not None
    running = asyncio.create_task(world.runner().execute(taken))
    while (await find(world.pool, job)).progress is None:
        await asyncio.sleep(0.05)
    world.stop.set()
    await asyncio.wait_for(running, 60)
    assert (await find(world.pool, job)).state is JobState.WAITING
    assert (await world.get("/storage"))[1]["checked"] is None


async def test_repair__writes_what_is_certain(world: World) -> None:
    """Spoiled links are written again, and the result says what they held; a tag's link and wrong bytes stay."""
    layer = await world.push(APP, "v1", b"layer")
    other = await world.push(OTHER, "v1", b"other")
    paths = [
        lay(world.root, LayerLink(APP, layer), b"sha256:"),
        lay(world.root, LayerLink(OTHER, other), b""),
    ]
    paths[0].chmod(0o640)
    lay(world.root, Blob(other), b"spoiled")
    lay(world.root, TagCurrent(OTHER, cast("Any", "v1")), b"")
    before = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    job = await world.check(repair=True)
    result = dict(job.result or {})
    assert (job.state, result["repaired"]) == (JobState.DONE, 1)
    assert result["repairs"] == [
        {
            "path": f"repositories/{APP}/_layers/{layer.replace(':', '/')}/link",
            "digest": layer,
            "before": "sha256:",
        }
    ]
    after = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    changed = {path for path in before if before[path] != after[path] and "canary" not in str(path)}
    assert changed == {paths[0]}
    assert (paths[0].read_bytes(), paths[0].stat().st_mode & 0o777) == (layer.encode(), 0o640)
    assert {each["code"] for each in result["findings"] if each["severity"] == "damaged"} == {
        "tag.link_unreadable",
        "blob.link_unreadable",
        "blob.wrong_content",
    }
    assert {repository for repository, _ in await world.logged()} == {OTHER}


async def test_repair__acts(world: World) -> None:
    """A repair is a job that acts: it waits for the end of maintenance. It is not asked for with what takes hours."""
    kind = KINDS["storage-check"]
    assert [kind.acts_with(StorageCheckParams(repair=repair)) for repair in (False, True)] == [False, True]
    for wrong in ({"content": True}, {"unproven_storage": True}):
        with pytest.raises(ValidationError):
            StorageCheckParams(repair=True, **wrong)
    layer = await world.push(APP, "v1", b"layer")
    path = lay(world.root, LayerLink(APP, layer), b"")
    params = StorageCheckParams(settle_seconds=0, repair=True).model_dump(mode="json")
    job = await add(world.pool, kind="storage-check", acts=True, params=params)
    async with transaction(world.pool) as held:
        who = Operator(name="ann", host="here", command="a test")
        await begin_maintenance(held, lasting=None, operator=who, reason=None)
    await run_all(world.runner())
    assert (await find(world.pool, job)).state is JobState.WAITING
    assert path.read_bytes() == b""


async def test_repair__that_may_not_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the storage may only be read the job fails with one sentence, and what it found is recorded."""

    def refuse(*_: Any) -> bool:
        raise StorageRefused("link cannot be written by this user")

    monkeypatch.setattr("reconciler.storage.files.FileStorage.replace", refuse)
    layer = await world.push(APP, "v1", b"layer")
    lay(world.root, LayerLink(APP, layer), b"")
    job = await world.check(repair=True)
    assert (job.state, job.error) == (JobState.FAILED, "link cannot be written by this user")
    assert ((job.result or {})["damaged"], (job.result or {})["repaired"]) == (1, 0)
    assert (await world.get("/storage"))[1]["checked"]["damaged"] == 1


async def test_metrics(world: World) -> None:
    """Findings by severity and code, when they were found, and the bytes by what they belong to."""
    layer = await world.push(APP, "v1", b"layer")
    lay(world.root, LayerLink(APP, layer), b"")
    lay(world.root, Blob(digest_of(b"alone")), b"alone")
    await world.check()
    await Gauges(world.pool).run_once()

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels)

    assert value("indexer_storage_findings", severity="damaged", code="blob.link_unreadable") == 1
    assert (value("indexer_storage_checked_timestamp_seconds") or 0) > 0
    assert value("indexer_storage_bytes", what="unreferenced") == len(b"alone")
    parts = ("tagged", "children", "referrers", "old", "untagged", "unreferenced")
    stored = sum(each.stat().st_size for each in world.root.rglob("data"))
    assert sum(value("indexer_storage_bytes", what=part) or 0 for part in parts) == stored
