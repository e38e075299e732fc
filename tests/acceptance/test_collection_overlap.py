"""The registry's own collection runs while somebody pushes: it is noticed, and what was swept is named."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

FIRST, LAST = "a/app", "z/many"
MANY = 40
"""Manifests of the last repository: what the collector prints of them does not fit into the pipe."""


@contextmanager
def collecting(server: RegistryServer) -> Iterator[None]:
    """The collector, which has marked the first repository and not yet swept; at the end it goes on and ends."""
    collector = server.start_collecting()
    assert collector.stdout is not None
    said: list[str] = []
    try:
        for line in collector.stdout:
            said.append(line)
            if line.startswith(LAST):
                break
        yield
        said += collector.stdout
        assert collector.wait() == 0, "".join(said)[-2000:]
    finally:
        collector.kill()
        collector.wait()
        collector.stdout.close()
    assert said[-1].startswith("blob eligible for deletion") or any("Deleting blob" in each for each in said)


def test_a_push_during_a_collection(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """The alarm, the log and the status say so; the check names the tag that was lost, and no other."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.registry_url = server.url
    where = {"RECONCILER_STORAGE_URL": f"file://{server.storage_dir}"}

    def check(*options: str) -> dict[str, object]:
        done = installation.run(
            "reconciler", "storage", "check", "--settle", "0s", "--json", *options, **where
        )
        assert done.exit_code in (0, 1), done.output + done.error
        result: dict[str, object] = done.json["result"]
        return result

    lost = oci_image("pushed meanwhile")
    with Pusher(server.url) as pusher:
        pusher.push(FIRST, oci_image("old"), "old")
        for number in range(MANY):
            pusher.push(LAST, oci_image(f"{number}"), f"v{number}")
        pusher.push_blob(FIRST, oci_image("garbage").blobs[-1])
        before = check()
        assert (before["damaged"], before["collection"]) == (0, None)

        begun = installation.run("reconciler", "maintenance", "begin")
        assert begun.exit_code == 0, begun.error
        with collecting(server):
            pusher.push(FIRST, lost, "new")
        assert installation.run("reconciler", "maintenance", "end").exit_code == 0
        installation.until_applied()

        found = check()
        ran = found["collection"]
        assert isinstance(ran, dict)
        assert (ran["in_maintenance"], ran["deletions"], ran["blobs_gone"]) == (True, 0, 1)
        assert ran["uploads"] >= 1
        assert f"{FIRST}:new" in ran["examples"]
        damaged = [each for each in found["findings"] if each["severity"] == "damaged"]  # type: ignore[attr-defined]
        assert {(each["repository"], *each["tags"]) for each in damaged} == {(FIRST, "new")}
        assert pusher.request("GET", f"/v2/{FIRST}/blobs/{lost.blobs[-1].digest}").status == 404

        installation.until(lambda: installation.audit("&action=gc.overlapped"), "the entry is sealed")
        (entry,) = installation.audit("&action=gc.overlapped")
        assert entry["detail"]["uploads"] == ran["uploads"]
        status = installation.run("reconciler", "status").output
        assert f"{ran['uploads']} PUSHES AND 0 DELETIONS OVERLAPPED" in status
        assert installation.get("/api/v1/status")["storage"]["collection"] == ran
        assert installation.get("/api/v1/storage")["collections"] == [ran]

        assert check()["collection"] is None  # it is told once
        pusher.push(FIRST, lost, "new")
        assert check()["damaged"] == 0


def test_a_collection_alone(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """Nothing was pushed while maintenance lasted: the collection is on record, and nobody is alarmed."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.registry_url = server.url
    where = {"RECONCILER_STORAGE_URL": f"file://{server.storage_dir}"}
    with Pusher(server.url) as pusher:
        pusher.push(FIRST, oci_image("old"), "old")
        pusher.push_blob(FIRST, oci_image("garbage").blobs[-1])
        for command in (["storage", "report"], ["maintenance", "begin"]):
            assert installation.run("reconciler", *command, **where).exit_code == 0
        server.garbage_collect()
        assert installation.run("reconciler", "maintenance", "end").exit_code == 0
        pusher.push(FIRST, oci_image("new"), "new")
        installation.until_applied()
    report = installation.run("reconciler", "storage", "report", "--json", **where)
    ran = report.json["collection"]
    assert (ran["in_maintenance"], ran["uploads"], ran["deletions"], ran["blobs_gone"]) == (True, 0, 0, 1)
    assert installation.get("/api/v1/storage")["collections"] == [ran]
    assert "OVERLAPPED" not in installation.run("reconciler", "status").output
