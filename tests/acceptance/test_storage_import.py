"""``reconciler storage import`` as operators run it: beside a real registry, killed, and finished by the next one."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from indexer.oci.digest import Digest
from tests.fixtures.storages import lay_tag
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

APP = "team/app"
REPOSITORIES, TAGS = 20, 150
MONTH_AGO = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)


@pytest.mark.full
@pytest.mark.slow
def test_import__killed_and_finished(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """A process that is killed in the middle leaves a job that the next one finishes; all tags are there, dated."""
    registry = start_registry(registry_version, notifications=[installation.endpoint])
    installation.connect(registry)
    installation.serve()
    storage = {"RECONCILER_STORAGE_URL": f"file://{registry.storage_dir}", "RECONCILER_JOB_LEASE": "10s"}
    image = oci_image("1")
    with Pusher(registry.url) as pusher:
        for number in range(REPOSITORIES):
            pusher.push(f"{APP}-{number:02}", image, "first")
    for number in range(REPOSITORIES):
        for tag in range(TAGS):
            lay_tag(registry.storage_dir, f"{APP}-{number:02}", f"v{tag}", Digest(image.digest), MONTH_AGO)
    running = installation.start("reconciler", "storage", "import", **storage)

    def begun() -> bool:
        jobs = installation.get("/api/v1/jobs?kind=storage-import")["items"]
        return bool(jobs) and len(installation.tags(f"{APP}-00")) > 1

    installation.until(begun, "the first repository to be imported")
    installation.end(running, signal.SIGKILL)
    (job,) = installation.get("/api/v1/jobs?kind=storage-import")["items"]
    daemon = installation.start("reconciler", "run", **storage)

    def ended() -> bool:
        return installation.get(f"/api/v1/jobs/{job['id']}")["state"] in {"done", "failed"}

    installation.until(ended, "the job to be finished by another process")
    done = installation.get(f"/api/v1/jobs/{job['id']}")
    assert done["state"] == "done", done["error"]
    installation.end(daemon)
    for number in range(REPOSITORIES):
        tag = installation.get(f"/api/v1/repositories/{APP}-{number:02}/tags/v{TAGS - 1}")
        expected = (image.digest, MONTH_AGO.isoformat().replace("+00:00", ".000000Z"), "storage")
        assert (tag["digest"], tag["published_at"], tag["published_at_source"]) == expected
    again = installation.run("reconciler", "storage", "import", "--json", **storage)
    assert again.exit_code == 0, again.error
    assert again.json["result"]["tags_created"] == 0
    assert again.json["result"]["tags_unchanged"] >= REPOSITORIES * TAGS


@pytest.mark.full
def test_import__of_another_registry(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """The storage of another registry is refused with one sentence and exit 1, and nothing is on record of it."""
    mine, other = start_registry(registry_version), start_registry(registry_version)
    installation.connect(mine)
    with Pusher(other.url) as pusher:
        pusher.push(APP, oci_image("1"), "v1")
    refused = installation.run(
        "reconciler", "storage", "import", RECONCILER_STORAGE_URL=f"file://{other.storage_dir}"
    )
    assert refused.exit_code == 1
    assert "is not the storage of the registry" in refused.output
    unset = installation.run("reconciler", "storage", "import")
    assert unset.exit_code == 1
    assert "RECONCILER_STORAGE_URL" in unset.output
    installation.serve()
    assert installation.get("/api/v1/repositories")["items"] == []
    with Pusher(mine.url) as pusher:
        pusher.push(APP, oci_image("2"), "v2")
    done = installation.run(
        "reconciler", "storage", "import", RECONCILER_STORAGE_URL=f"file://{mine.storage_dir}"
    )
    assert done.exit_code == 0, done.output + done.error
    assert "2 tags new" in done.output
    assert list(installation.tags(APP)) == ["v2"]
