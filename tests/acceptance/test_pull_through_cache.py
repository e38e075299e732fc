"""A registry that is a pull-through cache of another: it gets an inventory, and is not filled by us."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tools.registry_server import Endpoint
from tools.sample_images import ACCEPT, OCI_MANIFEST, Pusher, multi_platform, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

REPOSITORY = "lib/x"
TAGS = [f"t{number}" for number in range(200)]
IMAGES = [oci_image(f"image-{number}", layer_sizes=(100,)) for number in range(10)]
INDEX = multi_platform("index")
BLOBS_IGNORED = {"mediatypes": ["application/octet-stream"]}
"""Of a cache the pulls are all there is, so they are not ignored."""


@pytest.fixture
def upstream(start_registry: StartRegistry) -> RegistryServer:
    """A registry with 200 tags, and an index beside them."""
    registry = start_registry(3)
    with Pusher(registry.url) as pusher:
        for image in IMAGES:
            pusher.push(REPOSITORY, image)
        for number, tag in enumerate(TAGS):
            image = IMAGES[number % len(IMAGES)]
            path = f"/v2/{REPOSITORY}/manifests/{tag}"
            put = pusher.request("PUT", path, image.manifest.data, {"Content-Type": image.media_type})
            assert put.status == 201
        pusher.push(REPOSITORY, INDEX, "multi")
    return registry


@pytest.fixture
def cache(
    installation: Installation, start_registry: StartRegistry, upstream: RegistryServer, registry_version: int
) -> RegistryServer:
    """A cache of it that notifies the installation."""
    endpoint = Endpoint(
        f"{installation.url}/notifications", installation.endpoint.token, ignore=BLOBS_IGNORED
    )
    registry = start_registry(
        registry_version, notifications=[endpoint], extra={"proxy": {"remoteurl": upstream.url}}
    )
    installation.connect(registry)
    return registry


def asked(registry: RegistryServer) -> list[str]:
    """Every request that a registry answered, as its access log has it."""
    lines = registry.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split('"')[1] for line in lines if " HTTP/1.1" in line and '"' in line and "/v2/" in line]


def stored(registry: RegistryServer) -> set[str]:
    """Every file of content that a registry keeps; beside it a cache notes what it will drop when."""
    content = registry.storage_dir / "docker"
    return {str(path) for path in content.rglob("*") if path.is_file()}


def runs(installation: Installation) -> set[int]:
    """The newest walks that have ended."""
    return {run["id"] for run in installation.get("/api/v1/drift")["runs"] if run["outcome"] == "complete"}


def pull(registry: RegistryServer, reference: str) -> None:
    """Pull as ``docker pull`` does: the manifest, then what it names; of an index the first child."""
    base = f"{registry.url}/v2/{REPOSITORY}"
    manifest = httpx.get(f"{base}/manifests/{reference}", headers={"Accept": ACCEPT}).raise_for_status()
    if manifest.headers["Content-Type"] != OCI_MANIFEST and "manifests" in manifest.json():
        pull(registry, manifest.json()["manifests"][0]["digest"])
        return
    for blob in (manifest.json()["config"], *manifest.json()["layers"]):
        httpx.get(f"{base}/blobs/{blob['digest']}").raise_for_status()


@pytest.mark.full
def test_cache__is_not_filled_and_an_outage_of_its_upstream_deletes_nothing(
    installation: Installation, upstream: RegistryServer, cache: RegistryServer
) -> None:
    """What was pulled is on record. Whatever we do, the upstream hears nothing of it, and the cache keeps no more."""
    assert asked(upstream)
    pull(cache, "t5")
    pull(cache, "multi")
    installation.until(lambda: set(installation.tags(REPOSITORY)) == {"t5", "multi"}, "what was pulled")
    before, kept = asked(upstream), stored(cache)
    tags = installation.tags(REPOSITORY)
    assert tags == {"t5": IMAGES[5].digest, "multi": INDEX.digest}

    once = installation.run("reconciler", "once", "--json")
    named = installation.run("reconciler", "once", "--repository", REPOSITORY, "--json")
    plan = installation.run("reconciler", "plan", "--json")
    running = installation.start("reconciler", "run", RECONCILER_INTERVAL="1s")
    installation.until(lambda: len(runs(installation)) > 3, "walks by itself")
    installation.until_settled()

    assert [(each.exit_code, each.json["of_cache"]) for each in (once, named, plan)] == [(0, True)] * 3
    assert asked(upstream) == before
    assert stored(cache) == kept
    assert installation.tags(REPOSITORY) == tags
    assert installation.get(f"/api/v1/repositories/{REPOSITORY}/tags/t5")["size_bytes"] > 100
    status = installation.get("/api/v1/status")["registry"]
    assert status["is_cache"]["holds"]
    assert "405" in status["is_cache"]["because"]

    upstream.stop()
    pull(cache, IMAGES[5].digest)
    last = max(runs(installation))
    installation.until(lambda: max(runs(installation)) > last + 1, "walks in the outage")
    installation.until_settled()
    assert installation.end(running) == 0
    assert installation.run("reconciler", "once").exit_code == 0
    assert installation.tags(REPOSITORY) == tags
    assert not [entry for entry in installation.audit() if "deleted" in entry["action"]]
    assert stored(cache) == kept


def test_doctor__of_a_cache(
    installation: Installation, upstream: RegistryServer, cache: RegistryServer
) -> None:
    """The examination says what the registry is, pushes nothing, and asks nothing of the upstream."""
    before = asked(upstream)

    examined = installation.run("reconciler", "doctor", "--json")

    outcomes = {check["check"]: check for check in examined.json["checks"]}
    assert outcomes["registry kind"]["outcome"] == "warning"
    assert "pull-through cache" in outcomes["registry kind"]["found"]
    assert outcomes["canary pushed"]["outcome"] == "skipped"
    assert asked(upstream) == before
    assert stored(cache) == set()
