"""What was deleted by its digest comes back by its digest: the job, the verb's names, the trash; on real registries."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import ValidationError

from indexer.jobs.job import Asked, Job, JobState
from indexer.jobs.params import RestoreParams
from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName
from indexer.policies.facts import ManifestFacts
from indexer.store import cleanup_facts
from indexer.store.cleanup_facts import Wanted
from indexer.store.jobs import Requested
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.commands.restore import names_of
from reconciler.components import Components
from reconciler.jobs import restore
from reconciler.jobs.runner import Runner
from tests.fixtures.acting import Watched, watched
from tests.fixtures.jobs import LASTING, add, asked, find, request, run_all
from tests.fixtures.registries import StartRegistry
from tests.integration.test_unlinking import APP, due, known, outcome, push, running, there, unlinked
from tools.sample_images import Image, artifact, index, oci_image

pytestmark = pytest.mark.usefixtures("hurry")


def params(*names: str) -> dict[str, Any]:
    return {"tags": [], "manifests": list(names), "force": False, "deletion": None}


async def restored(world: Watched, *names: str) -> Job:
    """What a job came to that restores manifests."""
    return await done(world, asked(APP, kind="restore", params=params(*names)))


async def done(world: Watched, what: Asked) -> Job:
    """Execute a job, and return what it came to."""
    components = cast("Components", SimpleNamespace(pool=world.pool, registry=world.client))
    runner = Runner(
        components, program="test", lasting=LASTING, stop=asyncio.Event(), handlers={"restore": restore.run}
    )
    requested = await request(world.pool, what)
    assert isinstance(requested, Requested)
    assert 1 == await run_all(runner)
    return await find(world.pool, requested.job)


def said(job: Job) -> list[str]:
    return [each["outcome"] for each in (job.result or {})["tags"]]


async def facts_of(world: Watched, image: Image) -> ManifestFacts:
    async with connection(world.pool) as held:
        rows = await cleanup_facts.list_repositories(held, names=[APP])
        (found,) = await cleanup_facts.load_facts(held, repositories=rows, wanted=Wanted(), suspected_at=None)
    return next(each for each in found.manifests if each.digest == image.digest)


async def test_restore__a_manifest_with_its_family(
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    *,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Index, child and signature are back, every blob is delivered; policies see when; again: nothing to do."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        child = oci_image("child")
        goes = index([child])
        signature = artifact("signature", subject=goes)
        await push(world, oci_image("stays"), "stays")
        await push(world, goes)
        await push(world, signature)
        await known(world, goes.digest, signature.digest, child.digest, oci_image("stays").digest)
        await due(world, child.digest, goes.digest, signature.digest)
        cleanup = await add(pool, kind="cleanup")
        assert 1 == await run_all(running(world))
        assert {"unlinked": 3} == (await find(pool, cleanup)).result
        for image in (goes, signature, child):
            await until_on_record(world, image, there=False)
        monkeypatch.setenv("INDEXER_DATABASE_URL", database_url)
        monkeypatch.setenv("RECONCILER_REGISTRY_URL", world.server.url)
        named = await asyncio.to_thread(names_of, [str(cleanup.id), "team/other:v1"], None)
        every = {f"{APP}@{image.digest}" for image in (goes, signature, child)}
        assert every | {"team/other:v1"} == set(named)
        name = f"{APP}@{goes.digest}"
        job = await restored(world, name)
        assert (JobState.DONE, ["restored"]) == (job.state, said(job)), job
        assert [True] * 3 == await there(world, goes.digest, signature.digest, child.digest)
        for blob in child.blobs:
            assert await world.client.delivers_blob(APP, parse_digest(blob.digest))
        assert [("checked", "restored")] == await outcome(world, "restore")
        await until_on_record(world, goes, there=True)
        assert (await facts_of(world, goes)).restored_at is not None
        assert (await facts_of(world, oci_image("stays"))).restored_at is None
        again = await restored(world, name)
        assert "the repository has it already" == (again.result or {})["tags"][0]["text"]


async def until_on_record(world: Watched, image: Image, *, there: bool) -> None:
    """Wait until the inventory has, or has not, a manifest."""
    async with asyncio.timeout(60):
        while there != await world.pool.fetchval(
            "SELECT count(*) > 0 FROM repository_manifest AS h JOIN manifest AS m ON m.id = h.manifest_id "
            "WHERE h.deleted_at IS NULL AND m.digest = $1",
            bytes.fromhex("01" + image.digest.partition(":")[2]),
        ):
            await asyncio.sleep(0.02)


async def test_restore__only_what_is_really_there(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int
) -> None:
    """Nothing is pushed once a layer is gone, and the trash says so; what is in no trash is named."""
    async with watched(pool, lookups, start_registry, registry_version) as world:
        image, other = oci_image("a"), oci_image("b")
        await push(world, oci_image("stays"), "stays")
        await push(world, image)
        await push(world, other)
        await known(world, image.digest, other.digest, oci_image("stays").digest)
        await unlinked(world, parse_digest(image.digest))
        await until_on_record(world, image, there=False)
        name = f"{APP}@{image.digest}"
        unread = replace(
            asked(APP, kind="restore", params=params(name)), bounds={APP: {"tag_immutable_patterns": False}}
        )
        assert ["denied"] == said(await done(world, unread))
        layer = image.blobs[-1].digest
        for path in world.server.storage_dir.rglob(f"blobs/sha256/{layer[7:9]}/{layer[7:]}/data"):
            path.unlink()
        sent = list(world.client.sent)
        job = await restored(world, name, f"{APP}@{other.digest}")
        assert JobState.FAILED == job.state
        assert {"restore.gone", "restore.unknown"} == set(said(job))
        assert sent == world.client.sent
        assert [False] == await there(world, image.digest)
        gone = await pool.fetchval("SELECT gone FROM tag_action WHERE kind = 'unlink'")
        assert layer in gone


def test_params__name_something() -> None:
    """Tags, manifests or both; a manifest by its digest in a repository."""
    name = f"team/app@sha256:{'a' * 64}"
    found = RestoreParams.model_validate({"manifests": [name, name], "tags": ["team/b:v1"]})
    assert [name] == found.manifests
    assert [RepositoryName("team/app"), RepositoryName("team/b")] == found.repositories
    refused: list[dict[str, list[str]]] = [
        {}, {"tags": [], "manifests": []}, {"manifests": ["team/app"]}, {"manifests": ["sha256:aa"]}
    ]  # fmt: skip
    for wrong in refused:
        with pytest.raises(ValidationError):
            RestoreParams.model_validate(wrong)
