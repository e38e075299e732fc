"""SIGKILL in the middle of what reads and repairs a real registry's storage: the next process ends it, all the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from indexer.jobs.job import Job, JobState
from indexer.jobs.params import CollectionPlanParams, StorageCheckParams
from indexer.store.pool import Pool, open_pool
from reconciler.storage.layout import ROOT
from tests.fixtures.jobs import add, find
from tests.fixtures.storage_worker import execute, settings_of
from tools.sample_images import ACCEPT, Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

HERE = Path(__file__).parents[2]
APP, OTHER = "team/app", "team/other"
KILLED = "-9"
POINTS_OF_A_REPAIR = 12
"""``save``, and ``save_in`` within it: 4; ``replace``, and the writing of the file beside: 4; ``save`` again: 4."""

pytestmark = pytest.mark.slow


class Worker:
    """The process of :mod:`tests.fixtures.storage_worker`."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.fixtures.storage_worker", *arguments]
        self._process = subprocess.Popen(
            command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def execute(self, die_at: int) -> str:
        """Execute the job that waits up to that point; return what ended the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{die_at}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """End it; a child that still works ends with its job."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@dataclass
class Damaged:
    """A registry of two repositories, and links of it that can be spoiled."""

    server: RegistryServer
    pool: Pool
    database_url: str
    worker: Worker
    links: Sequence[Path]
    right: dict[Path, bytes]

    def spoil(self) -> None:
        """Spoil each link: empty, cut off, another digest."""
        contents = (b"", self.right[self.links[1]][:20], self.right[self.links[0]])
        for path, content in zip(self.links, contents, strict=True):
            path.write_bytes(content)

    async def killed_at(self, point: int, **params: Any) -> Job:
        """Ask for a repair, kill its process at a point, and let another bring it to its end."""
        wanted = StorageCheckParams(settle_seconds=0, repair=True, **params).model_dump(mode="json")
        job = await add(self.pool, kind="storage-check", acts=True, params=wanted)
        return await self.kill_and_go_on(job, point)

    async def kill_and_go_on(self, job: Job, point: int) -> Job:
        assert await asyncio.to_thread(self.worker.execute, point) == KILLED
        await self.pool.execute("UPDATE job SET leased_until = now() - interval '1 s' WHERE id = $1", job.id)
        await execute(self.database_url, settings_of(self.server.url, str(self.server.storage_dir)))
        return await find(self.pool, job)

    async def logged(self, job: Job, action: str) -> list[dict[str, Any]]:
        rows = await self.pool.fetch(
            "SELECT detail FROM audit_staged WHERE action = $1::text::audit_action"
            " AND detail->>'job' = $2 ORDER BY id",
            action,
            str(job.id),
        )
        return [row["detail"] for row in rows]

    def files(self) -> dict[Path, tuple[int, int, bytes]]:
        """Inode, time and content of every file but our canaries."""
        root = self.server.storage_dir / ROOT
        found = {path for path in root.rglob("*") if path.is_file() and "canary" not in str(path)}
        return {
            path: (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
            for path in found
            if path.name != "data" or path in self.right
        }


@pytest_asyncio.fixture
async def damaged(
    start_registry: StartRegistry, registry_version: int, migrated_url: str
) -> AsyncIterator[Damaged]:
    server = start_registry(registry_version)
    one, two = oci_image("one"), oci_image("two")
    with Pusher(server.url) as pusher:
        pusher.push(APP, one, "v1")
        pusher.push(APP, two, "v2")
        pusher.push(OTHER, one, "v1")
    root = server.storage_dir / ROOT

    def link(repository: str, kind: str, digest: str) -> Path:
        return root / "repositories" / repository / kind / digest.replace(":", "/") / "link"

    links = (
        link(APP, "_layers", one.blobs[-1].digest),
        link(APP, "_manifests/revisions", two.digest),
        link(OTHER, "_layers", one.blobs[0].digest),
    )
    right = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert set(links) <= set(right)
    worker = Worker(migrated_url, server.url, str(server.storage_dir))
    pool = await open_pool(migrated_url, size=2, application="tests")
    yield Damaged(server, pool, migrated_url, worker, links, right)
    worker.end()
    await pool.close()


def _pulls(server: RegistryServer) -> bool:
    """Whether every image is served."""
    one, two = oci_image("one"), oci_image("two")
    with Pusher(server.url) as pusher:
        return all(
            pusher.request("GET", f"/v2/{repository}/{path}", headers={"Accept": ACCEPT}).status == 200
            for repository, tag, image in ((APP, "v1", one), (APP, "v2", two), (OTHER, "v1", one))
            for path in (f"manifests/{tag}", *(f"blobs/{blob.digest}" for blob in image.blobs))
        )


async def _check_points(damaged: Damaged, points: Sequence[int]) -> None:
    damaged.spoil()
    sound = {path: found for path, found in damaged.files().items() if path not in damaged.links}
    wanted: dict[str, Any] | None = None
    for point in points:
        damaged.spoil()
        spoiled = {path: path.read_bytes() for path in damaged.links}
        job = await damaged.killed_at(point)
        assert (job.state, job.error) == (JobState.DONE, None), point
        result = dict(job.result or {})
        assert (result["damaged"], result["repaired"]) == (0, 3), (point, result)
        repairs = [{**each} for each in result["repairs"]]
        interrupted = [each.pop("interrupted", False) for each in repairs]
        assert sum(interrupted) <= 1, point
        assert {each["before"].encode() for each in repairs} == set(spoiled.values()), point
        wanted = wanted or {"repairs": repairs}
        assert repairs == wanted["repairs"], point  # the same, in the same order, wherever it was killed
        after = damaged.files()
        assert {path: found[2] for path, found in after.items()} == {
            path: content for path, content in damaged.right.items() if "canary" not in str(path)
        }, point  # and nothing is left beside a link
        assert {path: after[path] for path in sound} == sound, point
        logged = await damaged.logged(job, "storage.repaired")
        assert [(each["path"], each["before"]) for each in logged] == [
            (each["path"], each["before"]) for each in repairs
        ], point
        assert [each.get("interrupted", False) for each in logged] == interrupted, point
        assert len(await damaged.logged(job, "job.ended")) == 1, point
    assert await asyncio.to_thread(_pulls, damaged.server)


@pytest.mark.parametrize("registry_version", [3])
async def test_repair__killed(damaged: Damaged) -> None:
    """Killed before a link is on record, beside it, after it took its place, and after the log has it."""
    second = POINTS_OF_A_REPAIR
    await _check_points(damaged, [second + 1, second + 7, second + 8, second + 12])


@pytest.mark.full
async def test_repair__killed_at_every_point(damaged: Damaged) -> None:
    """The same at every point of every repair, and while the check is recorded."""
    await _check_points(damaged, range(1, 3 * POINTS_OF_A_REPAIR + 3))


@pytest.mark.parametrize("registry_version", [3])
async def test_plan__killed(damaged: Damaged) -> None:
    """A plan of a collection, killed before it is in the log and after: there is one plan, and one entry."""
    entries = []
    for point in (1, 4):
        params = CollectionPlanParams().model_dump(mode="json")
        job = await add(damaged.pool, kind="gc-plan", acts=False, params=params)
        job = await damaged.kill_and_go_on(job, point)
        assert (job.state, job.error) == (JobState.DONE, None)
        (entry,) = await damaged.logged(job, "gc.planned")
        assert entry["marked"] == (job.result or {})["marked"] > 0
        entries.append(entry)
    assert len(entries) == 2
