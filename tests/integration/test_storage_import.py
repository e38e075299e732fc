"""``storage-import``: a registry's past from its storage: before events, after, twice, interrupted, from any bytes."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from indexer.ingest.worker import IngestWorker
from indexer.jobs.job import Job, JobState
from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName, TagName
from indexer.settings import Settings
from indexer.store import apply, inbox
from indexer.store.inbox import Delivery
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.acting.context import JobContext
from reconciler.components import Components
from reconciler.jobs import storage_import
from reconciler.jobs.runner import Runner
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from reconciler.storage import gathering
from reconciler.storage.canary import REPOSITORY as CANARY
from reconciler.storage.gathering import Batch
from reconciler.storage.layout import ROOT, Blob, LayerLink, Revision, TagCurrent, TagIndex, path_of
from tests.fixtures.ingesting import check_counters, check_history
from tests.fixtures.jobs import LASTING, add, find
from tests.fixtures.storages import WritingRegistry, lay, lay_blob, lay_tag
from tools.sample_images import OCI_MANIFEST, Image, Pusher, multi_platform, oci_image

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry
    from tools.azure_server import Container
    from tools.registry_server import RegistryServer
    from tools.s3_server import Bucket

APP = "team/app"
TABLES = {
    "repository": "name, tag_count, manifest_count, last_published_at, created_at",
    "tag": "*",
    "tag_tombstone": "*",
    "tag_history": "*",
    "repository_manifest": "*",
    "manifest": "*",
    "manifest_layer": "*",
    "manifest_child": "*",
    "blob": "*",
    "audit_staged": "occurred_at, recorded_at, not_before, repository_id, action, source, tag, detail",
}
NOW = datetime.now(UTC).replace(microsecond=0)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of a storage."""
    made = tmp_path / "storage"
    made.mkdir()
    return made


class Importing:
    """Runs imports of a storage into a database."""

    def __init__(self, pool: Pool, lookups: Lookups, root: Path) -> None:
        self.pool = pool
        self.registry: Any = WritingRegistry(root)
        self.components = cast(
            "Components",
            SimpleNamespace(
                pool=pool,
                lookups=lookups,
                registry=self.registry,
                settings=Settings(reconciler_storage_url=f"file://{root}"),
            ),
        )

    async def start(self, **params: Any) -> Job:
        return await add(self.pool, kind="storage-import", acts=False, params=params)

    async def execute(self, job: Job, handler: Any = storage_import.run) -> Job:
        """Do a job that waits; return it as it is then."""
        runner = Runner(
            self.components,
            program="test",
            lasting=LASTING,
            stop=asyncio.Event(),
            handlers={"storage-import": handler},
        )
        taken = await runner.take(only=job.id)
        assert taken is not None
        await runner.execute(taken)
        return await find(self.pool, job)

    async def run(self, **params: Any) -> dict[str, Any]:
        """Import; return the result without what is not worth showing."""
        job = await self.execute(await self.start(**params))
        assert job.state is JobState.DONE, job.error
        assert job.result is not None
        assert job.result["storage"]["proven_by"] == "canary"
        return {name: value for name, value in job.result.items() if value and name != "storage"}


@pytest.fixture
def importing(pool: Pool, lookups: Lookups, root: Path) -> Importing:
    return Importing(pool, lookups, root)


def lay_image(root: Path, repository: str, image: Image, at: datetime, *tags: str) -> None:
    """Write what a push of an image writes; each file at ``at``."""
    name = RepositoryName(repository)
    for child in image.children:
        lay_image(root, repository, child, at)
    for blob in image.blobs:
        lay(root, LayerLink(name, lay_blob(root, blob.data, at)), blob.digest.encode(), at)
    digest = lay_blob(root, image.manifest.data, at)
    lay(root, Revision(name, digest), digest.encode(), at)
    for tag in tags:
        lay_tag(root, repository, tag, digest, at)


async def picture(pool: Pool, *, without: str = CANARY) -> dict[str, list[str]]:
    """Every row that an import may write, as text; but not those of the canary's repository."""
    number = await pool.fetchval("SELECT id FROM repository WHERE name = $1", without)
    shown = {}
    for table, columns in TABLES.items():
        rows = await pool.fetch(f"SELECT {columns} FROM {table}")
        rows = [row for row in rows if not str(row.get("action")).startswith("job.")]
        shown[table] = sorted(
            str(dict(row)) for row in rows if row.get("repository_id") != number or number is None
        )
    return shown


async def history(pool: Pool, repository: str, tag: str) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT 'sha256:' || encode(substr(m.digest, 2), 'hex') AS digest, h.valid_from, nullif(h.valid_to, 'infinity')"
        " AS valid_to, h.from_source, h.to_source FROM tag_history AS h JOIN manifest AS m ON m.id = h.manifest_id"
        " JOIN repository AS r ON r.id = h.repository_id WHERE r.name = $1 AND h.name = $2 ORDER BY h.valid_from",
        repository,
        tag,
    )
    return [tuple(row) for row in rows]


async def tag_of(pool: Pool, repository: str, tag: str) -> dict[str, Any]:
    row = await pool.fetchrow(
        "SELECT 'sha256:' || encode(substr(m.digest, 2), 'hex') AS digest, t.published_at, t.published_source,"
        " t.size_bytes, t.verified_at, t.read_at, t.first_seen_at FROM tag AS t"
        " JOIN repository AS r ON r.id = t.repository_id LEFT JOIN manifest AS m ON m.id = t.manifest_id"
        " WHERE r.name = $1 AND t.name = $2",
        repository,
        tag,
    )
    assert row is not None
    return dict(row)


async def event(
    pool: Pool,
    lookups: Lookups,
    image: Image,
    tag: str,
    at: datetime,
    *,
    repository: str = APP,
    action: str = "push",
) -> None:
    """Deliver and apply a notification, as a registry sends it."""
    target: dict[str, Any] = {"mediaType": OCI_MANIFEST, "repository": repository, "tag": tag}
    if action == "push":
        target |= {"digest": image.digest, "size": image.manifest.size}
    body = {
        "events": [
            {
                "id": os.urandom(16).hex(),
                "timestamp": at.isoformat().replace("+00:00", "Z"),
                "action": action,
                "target": target,
                "request": {"id": os.urandom(8).hex(), "method": "PUT"},
                "actor": {"name": "ann"},
                "source": {"addr": "registry:5000", "instanceID": "1"},
            }
        ]
    }
    delivery = Delivery(
        received_at=datetime.now(UTC), content_type="application/json", body=json.dumps(body).encode()
    )
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=[delivery])
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass


async def test_import__into_nothing(importing: Importing, pool: Pool, root: Path) -> None:
    """Dates, earlier digests, untagged manifests and contents of a registry that nobody recorded; twice is as once."""
    first, second, third, index = oci_image("1"), oci_image("2"), oci_image("3"), multi_platform("4")
    lay_image(root, APP, first, ago(30), "v1", "latest")
    lay_image(root, APP, second, ago(20), "latest")
    lay_image(root, APP, third, ago(10), "latest")
    lay_image(root, APP, oci_image("untagged"), ago(5))
    lay_image(root, "other/deep/er", index, ago(3), "multi")
    lay_image(root, "other", first, ago(2), "again")
    found = await importing.run()
    assert {
        "repositories": 4,
        "tags_created": 5,
        "earlier_digests": 2,
        "manifests_found": 9,
        "manifests_read": 8,
    } == found, "the canary's repository is one of them"
    assert [
        (first.digest, ago(30), ago(20), "storage", "storage"),
        (second.digest, ago(20), ago(10), "storage", "storage"),
        (third.digest, ago(10), None, "storage", None),
    ] == await history(pool, APP, "latest")
    latest = await tag_of(pool, APP, "latest")
    assert (third.digest, ago(10), "storage", third.size_bytes, None) == tuple(
        latest[name] for name in ("digest", "published_at", "published_source", "size_bytes", "read_at")
    )
    assert latest["verified_at"] == latest["first_seen_at"] >= NOW
    multi = await tag_of(pool, "other/deep/er", "multi")
    assert (index.size_bytes, ago(3)) == (multi["size_bytes"], multi["published_at"])
    untagged = await pool.fetchval(
        "SELECT h.pushed_at FROM repository_manifest AS h JOIN manifest AS m ON m.id = h.manifest_id"
        " WHERE m.digest = $1",
        b"\x01" + bytes.fromhex(oci_image("untagged").digest[7:]),
    )
    assert untagged == ago(5)
    entries = await pool.fetch(
        "SELECT action::text, source::text, tag, not_before, detail FROM audit_staged WHERE source = 'storage'"
    )
    assert {("tag.created", "storage", None, None)} == {
        (e["action"], e["source"], e["not_before"], e["detail"]) for e in entries
    }
    assert 5 == len(entries)
    await check_counters(pool, read=True)
    await check_history(pool)
    before = await picture(pool)
    again = await importing.run(repositories=[APP, "other", "other/deep/er"])
    assert {"repositories": 3, "tags_unchanged": 4} == again
    assert before == await picture(pool)


async def test_import__only_some_repositories(importing: Importing, pool: Pool, root: Path) -> None:
    """Only what is asked for is read."""
    for name in ("a", "b", "b/c"):
        lay_image(root, name, oci_image(name), ago(1), "v1")
    assert {"repositories": 1, "tags_created": 1} == {
        name: value
        for name, value in (await importing.run(repositories=["b"])).items()
        if not name.startswith("man")
    }
    assert ["b"] == [row["name"] for row in await pool.fetch("SELECT name FROM repository")]


async def test_import__after_events(importing: Importing, pool: Pool, lookups: Lookups, root: Path) -> None:
    """Nothing that an event said is overruled; what was before the first event is added."""
    old, middle, new, gone = (oci_image(seed) for seed in ("old", "middle", "new", "gone"))
    lay_image(root, APP, old, ago(30), "v1", "v2", "v3")
    lay_image(root, APP, middle, ago(20), "v1")
    for tag, image, at in (
        ("v1", middle, ago(20)),
        ("v2", old, ago(25)),
        ("v3", new, ago(5)),
        ("v4", gone, ago(4)),
    ):
        await event(pool, lookups, image, tag, at)
    await event(pool, lookups, gone, "v4", ago(3), action="delete")
    lay_image(root, APP, gone, ago(4), "v4")
    tags = {tag: await tag_of(pool, APP, tag) for tag in ("v1", "v2", "v3")}
    found = await importing.run(repositories=[APP])
    assert {
        "repositories": 1,
        "tags_extended": 1,
        "tags_unchanged": 1,
        "tags_to_verify": 2,
        "earlier_digests": 1,
    } == {name: value for name, value in found.items() if not name.startswith("manifests")}
    now = {tag: await tag_of(pool, APP, tag) for tag in tags}
    for tag, was in tags.items():
        assert was | {"size_bytes": 0} == now[tag] | {"size_bytes": 0}
    assert [
        (old.digest, ago(30), ago(20), "storage", "event"),
        (middle.digest, ago(20), None, "event", None),
    ] == await history(pool, APP, "v1")
    waiting = await pool.fetch("SELECT key FROM work_item WHERE kind = 'verify' AND key IN ('v3', 'v4')")
    assert {"v3", "v4"} == {row["key"] for row in waiting}
    assert None is await pool.fetchval("SELECT name FROM tag WHERE name = 'v4'")
    before = await picture(pool)
    await importing.run(repositories=[APP])
    assert before == await picture(pool)


async def test_import__before_events(importing: Importing, pool: Pool, lookups: Lookups, root: Path) -> None:
    """Events that come after an import continue its history, and a second import leaves them alone."""
    old, new = oci_image("old"), oci_image("new")
    lay_image(root, APP, old, ago(30), "v1", "v2")
    await importing.run(repositories=[APP])
    at = datetime.now(UTC)
    await event(pool, lookups, new, "v1", at)
    assert [
        (old.digest, ago(30), at, "storage", "event"),
        (new.digest, at, None, "event", None),
    ] == await history(pool, APP, "v1")
    await event(pool, lookups, old, "v2", at, action="delete")
    assert None is await pool.fetchval("SELECT name FROM tag WHERE name = 'v2'")
    lay_image(root, APP, new, at, "v1")
    before = await picture(pool)
    await importing.run(repositories=[APP])
    now = await picture(pool)
    for table in ("tag_history", "tag_tombstone", "audit_staged"):
        assert before[table] == now[table]
    v1 = await tag_of(pool, APP, "v1")
    assert (new.digest, at, "event", new.size_bytes) == tuple(
        v1[name] for name in ("digest", "published_at", "published_source", "size_bytes")
    )


async def test_import__before_the_event_of_what_it_read(
    importing: Importing, pool: Pool, lookups: Lookups, root: Path
) -> None:
    """The event of a push whose result was read already dates it: its instant and author, and no second interval."""
    old, new = oci_image("old"), oci_image("new")
    lay_image(root, APP, old, ago(30), "v1")
    at = ago(0.5)
    lay_image(root, APP, new, at, "v1")
    await importing.run(repositories=[APP])
    pushed_at = at - timedelta(milliseconds=40)
    await event(pool, lookups, new, "v1", pushed_at)
    assert [
        (old.digest, ago(30), pushed_at, "storage", "event"),
        (new.digest, pushed_at, None, "event", None),
    ] == await history(pool, APP, "v1")
    v1 = await tag_of(pool, APP, "v1")
    assert (new.digest, pushed_at, "event") == tuple(
        v1[n] for n in ("digest", "published_at", "published_source")
    )
    before = await picture(pool)
    await importing.run(repositories=[APP])
    assert before == await picture(pool)


async def test_import__dates_what_was_only_seen(importing: Importing, pool: Pool, root: Path) -> None:
    """Tags that a reconcile found, whose time was unknown, get the time of their files."""
    image = oci_image("1", created="2026-01-02T03:04:05Z")
    lay_image(root, APP, image, ago(30), "v1")
    await importing.run(repositories=[APP])
    seen = ago(1)
    await pool.execute("UPDATE tag SET published_at = image_created, published_source = 'image-config'")
    await pool.execute("UPDATE tag_history SET valid_from = $1, from_source = 'first-seen'", seen)
    assert 1 == (await importing.run(repositories=[APP]))["tags_dated"]
    now = await tag_of(pool, APP, "v1")
    assert (ago(30), "storage") == (now["published_at"], now["published_source"])
    assert [(image.digest, ago(30), None, "storage", None)] == await history(pool, APP, "v1")


async def test_import__interrupted_while_tags_are_stored(
    importing: Importing, pool: Pool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies at manifests while the tags of the batch before them are being stored: those are stored later."""
    monkeypatch.setattr(gathering, "BATCH", 3)
    for number in range(6):
        for tag in range(3):
            lay_image(root, f"app-{number}", oci_image(f"{number}.{tag}"), ago(30), f"v{tag}")
    taking, real_tags = storage_import._Import._take_manifests, apply.apply_found_tags
    storing = asyncio.Event()
    with_tags: list[int] = []
    died: list[int] = []

    class DiedError(BaseException):
        """The process ends here."""

    async def waiting(*options: Any, **more: Any) -> Any:
        storing.set()
        if len(died) < 3:
            await asyncio.Event().wait()  # until the process ends
        return await real_tags(*options, **more)

    async def dying(job: Any, batch: Batch, counts: Any) -> None:
        if with_tags and len(died) < 3:
            async with asyncio.timeout(60):
                await storing.wait()
            died.append(1)
            raise DiedError
        await taking(job, batch, counts)
        if batch.tags:
            with_tags.append(1)

    monkeypatch.setattr(apply, "apply_found_tags", waiting)
    monkeypatch.setattr(storage_import._Import, "_take_manifests", dying)
    job = await importing.start()
    for _ in range(3):
        with_tags.clear()
        storing.clear()
        with pytest.raises(DiedError):
            await importing.execute(job)
        await pool.execute(
            "UPDATE job SET leased_until = now() - interval '1 second' WHERE state = 'running'"
        )
        assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE name <> 'canary'")
    job = await importing.execute(job)
    assert job.state is JobState.DONE, job.error
    assert job.result is not None
    assert (19, 7) == (job.result["tags_created"], job.result["repositories"])
    await check_counters(pool, read=True)
    await check_history(pool)


async def test_import__interrupted_anywhere(
    importing: Importing, pool: Pool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies after any batch loses nothing: the next one goes on, and the end is the same."""
    monkeypatch.setattr(gathering, "BATCH", 3)
    images = [oci_image(str(number)) for number in range(12)]
    for number, image in enumerate(images):
        for tag in range(4):
            lay_image(root, f"app-{number:02}", image, ago(30 - tag), f"v{tag}", "latest")
    real = JobContext.save
    saved: list[str] = []

    class DiedError(BaseException):
        """The process ends here."""

    async def dying(context: JobContext, state: Any) -> None:
        await real(context, state)
        saved.append(state["after"])
        if len(saved) % 3 == 0:
            raise DiedError

    monkeypatch.setattr(JobContext, "save", dying)
    job = await importing.start()
    for _ in range(20):
        await pool.execute(
            "UPDATE job SET leased_until = now() - interval '1 second' WHERE state = 'running'"
        )
        try:
            job = await importing.execute(job)
        except DiedError:
            continue
        if job.state is JobState.DONE:
            break
    assert job.state is JobState.DONE, job.error
    assert len(saved) > 6
    assert sorted(set(saved)) == saved, "no repository was worked on again once it was finished"
    assert job.result is not None
    assert (61, 0) == (job.result["tags_created"], job.result["tags_unchanged"])
    assert 12 * 5 == await pool.fetchval("SELECT count(*) FROM tag WHERE name <> 'canary'")
    await check_counters(pool, read=True)
    await check_history(pool)
    before = await picture(pool)
    monkeypatch.setattr(JobContext, "save", real)
    names = [f"app-{number:02}" for number in range(12)]
    assert 60 == (await importing.run(repositories=names))["tags_unchanged"]
    assert before == await picture(pool)


async def test_import__large_repository(
    importing: Importing, pool: Pool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository too large for memory comes in parts, with the same result."""
    monkeypatch.setattr(gathering, "BATCH", 3)
    monkeypatch.setattr(gathering, "LARGE", 5)
    first, second = oci_image("1"), oci_image("2")
    for number in range(10):
        lay_image(root, APP, first, ago(30), f"v{number}")
        lay_image(root, APP, second, ago(20), f"v{number}")
    found = await importing.run(repositories=[APP])
    assert (10, 10, 2) == (found["tags_created"], found["earlier_digests"], found["manifests_found"])
    assert [(first.digest, ago(30)), (second.digest, ago(20))] == [
        row[:2] for row in await history(pool, APP, "v7")
    ]


async def test_import__hostile_content(importing: Importing, pool: Pool, root: Path) -> None:
    """Whatever lies there: what is whole is imported, what is not is left out and counted, and nothing breaks."""
    good = oci_image("good")
    lay_image(
        root,
        APP,
        good,
        ago(10),
        "good",
        "bad-empty",
        "bad-short",
        "bad-other",
        "bad-bytes",
        "no-current",
        "future",
    )
    name = RepositoryName(APP)
    lay(root, TagCurrent(name, TagName("bad-empty")), b"")
    lay(root, TagCurrent(name, TagName("bad-short")), good.digest.encode()[:-1])
    lay(root, TagCurrent(name, TagName("bad-other")), digest_of(b"nowhere").encode())
    lay(root, TagCurrent(name, TagName("bad-bytes")), b"\xff" * 71)
    (root / ROOT / path_of(TagCurrent(name, TagName("no-current")))).unlink()
    lay(root, TagCurrent(name, TagName("future")), good.digest.encode(), NOW + timedelta(days=5))
    swept, exchanged = oci_image("swept"), oci_image("exchanged")
    lay_image(root, APP, swept, ago(9), "swept")
    (root / ROOT / path_of(Blob(Digest(swept.digest)))).unlink()
    lay_image(root, APP, exchanged, ago(8), "exchanged")
    lay(root, Blob(Digest(exchanged.digest)), b"{}")
    text = lay_blob(root, b"\x00\xff not a manifest")
    lay_tag(root, APP, "text", text, ago(7))
    strange = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "x" * 5000, "digest": good.digest, "size": 2**70},
            "layers": [{"digest": "sha256:short", "size": -1}, {"mediaType": 5}],
            "annotations": {"a\u0000b": "c\u0000\ud800" * 10, "n": 5},
            "subject": "none",
        }
    ).encode()
    lay_tag(root, APP, "strange", lay_blob(root, strange), ago(6))
    lay(root, TagIndex(name, TagName("good"), digest_of(b"never here")), b"", ago(20))
    base = root / ROOT / "repositories"
    for odd in (
        "Upper/_manifests/tags/v1/current",
        "x..y/_manifests",
        f"{APP}/_manifests/tags/.bad/current",
        "\udcff",
    ):
        (base / odd).mkdir(parents=True)
        (base / odd / "link").write_bytes(good.digest.encode())
    os.mkfifo(base / APP / "_manifests/tags/good/current/pipe")
    found = await importing.run(repositories=[APP])
    assert 8 == found["tags_left_out"]
    assert (3, 3) == (found["tags_created"], found["manifests_left_out"])
    names = [row["name"] for row in await pool.fetch("SELECT name FROM tag ORDER BY name")]
    assert ["future", "good", "strange"] == names
    future = await tag_of(pool, APP, "future")
    assert "first-seen" != future["published_source"] or future["published_at"] <= datetime.now(UTC)
    await check_counters(pool, read=True)
    await check_history(pool)


async def test_import__refused_before_anything(
    importing: Importing, pool: Pool, root: Path, tmp_path: Path
) -> None:
    """A link that leads out, a registry that takes no canary, no storage: one sentence, and nothing changes."""
    lay_image(root, APP, oci_image("1"), ago(10), "v1")
    (root / ROOT / "repositories/escape").symlink_to(tmp_path)
    before = await picture(pool)
    job = await importing.execute(await importing.start())
    assert (JobState.FAILED, True) == (job.state, "leads out of" in str(job.error))
    (root / ROOT / "repositories/escape").unlink()
    importing.registry.read_only = True
    job = await importing.execute(await importing.start())
    assert (JobState.FAILED, True) == (job.state, "permission to push" in str(job.error))
    importing.components = cast(
        "Components", SimpleNamespace(**vars(importing.components) | {"settings": Settings()})
    )
    job = await importing.execute(await importing.start())
    assert (JobState.FAILED, True) == (job.state, "RECONCILER_STORAGE_URL" in str(job.error))
    assert before == await picture(pool)


@pytest.mark.parametrize("where", ["disk", "s3"])
async def test_import__of_real_registries(  # noqa: PLR0917 - fixtures
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    where: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """What a real registry wrote is read as it serves it: digests, and times within those of its pushes."""
    bucket: Bucket | None = request.getfixturevalue("s3") if where == "s3" else None
    registry = start_registry(registry_version, extra=None if bucket is None else bucket.storage())
    if bucket is None:
        settings = Settings(reconciler_storage_url=f"file://{registry.storage_dir}")
    else:
        settings = settings_of(bucket, tmp_path)
    await imports_what_it_serves(pool, lookups, registry, settings, by_seconds=bucket is not None)


@pytest.mark.full
async def test_import__of_a_real_registry_on_azure(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, azure: Container, tmp_path: Path
) -> None:
    """The same of a registry whose driver is ``azure``; with a wrong key, or without its container, one sentence."""
    registry = start_registry(3, extra=azure.storage())
    await imports_what_it_serves(pool, lookups, registry, settings_of(azure, tmp_path), by_seconds=True)
    before = await picture(pool)
    for wrong, says in (
        ({"container": "none"}, "there is no bucket 'none'"),
        ({"accountkey": "d3Jvbmc="}, "may not be read with these credentials"),
    ):
        async with RegistryClient(TransportSettings(base_url=registry.url)) as client:
            importing = Importing(pool, lookups, Path("/"))
            importing.components = cast(
                "Components",
                SimpleNamespace(
                    pool=pool,
                    lookups=lookups,
                    registry=client,
                    settings=settings_of(azure, tmp_path, **wrong),
                ),
            )
            job = await importing.execute(await importing.start())
        assert (JobState.FAILED, True) == (job.state, says in str(job.error)), job.error
    assert before == await picture(pool)


def settings_of(bucket: Bucket | Container, directory: Path, **more: str) -> Settings:
    """Name the configuration of the registry that stores there; ``more``: parameters of the driver that differ."""
    storage = {name: value for name, value in bucket.storage()["storage"].items() if value is not None}
    ((driver, parameters),) = [each for each in storage.items() if each[0] != "redirect"]
    path = directory / "config.yml"
    path.write_text(json.dumps({"storage": storage | {driver: parameters | more}}), encoding="utf-8")
    return Settings(reconciler_registry_config=path)


async def imports_what_it_serves(
    pool: Pool, lookups: Lookups, registry: RegistryServer, settings: Settings, *, by_seconds: bool
) -> None:
    """Push to a registry, import its storage, and compare. ``by_seconds``: the storage dates to the second."""
    pushed: dict[str, list[tuple[str, datetime, datetime]]] = {}
    images = [oci_image("1"), multi_platform("2"), oci_image("3", annotations={"a": "b"})]
    with Pusher(registry.url) as pusher:
        for number, image in enumerate(images):
            for tag in ("latest", f"v{number}"):
                began = datetime.now(UTC)
                pusher.push(APP, image, tag)
                pushed.setdefault(tag, []).append((image.digest, began, datetime.now(UTC)))
            if by_seconds:
                await asyncio.sleep(1.1)
        pusher.push(APP, oci_image("untagged"))
        async with RegistryClient(TransportSettings(base_url=registry.url)) as client:
            importing = Importing(pool, lookups, Path("/"))
            importing.components = cast(
                "Components", SimpleNamespace(pool=pool, lookups=lookups, registry=client, settings=settings)
            )
            found = await importing.run(repositories=[APP])
            assert (4, 2, 6) == (found["tags_created"], found["earlier_digests"], found["manifests_found"])
            for tag, pushes in pushed.items():
                intervals = await history(pool, APP, tag)
                assert [digest for digest, *_ in pushes] == [row[0] for row in intervals]
                for (_, began, ended), (_, valid_from, *_) in zip(pushes, intervals, strict=True):
                    assert began - timedelta(seconds=2) <= valid_from <= ended + timedelta(seconds=2)
                assert pusher.digest_of(APP, tag) == (await tag_of(pool, APP, tag))["digest"]
            assert images[1].size_bytes == (await tag_of(pool, APP, "v1"))["size_bytes"]
            before = await picture(pool)
            assert 4 == (await importing.run(repositories=[APP]))["tags_unchanged"]
            assert before == await picture(pool)
    await check_counters(pool, read=True)
    await check_history(pool)
