"""Two servers and two reconcilers on one database share the work, and take over from who dies in the middle."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.installation import TOKEN
from tests.fixtures.requests import REQUESTS
from tools.ports import free_port
from tools.registry_server import Endpoint
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

pytestmark = pytest.mark.slow

REPOSITORIES = ("team/app", "team/web", "lib")
TAGS = 25


@pytest.mark.full
def test_shared__one_of_each_is_killed(
    installation: Installation, start_registry: StartRegistry, tmp_path: Path
) -> None:
    """Half-way one server and one reconciler are killed: no event is lost or entered twice, and every tag is verified.

    The registry's two endpoints are the two servers, so that each event is delivered to both.
    """
    address = f"127.0.0.1:{free_port()}"
    second = installation.start(
        "indexer", "serve", INDEXER_LISTEN=address, INDEXER_DATA_DIR=str(tmp_path / "second")
    )
    endpoint = Endpoint(f"http://{address}/notifications", TOKEN, name="second")
    registry = start_registry(3, notifications=[installation.endpoint, endpoint])
    installation.connect(registry)
    reconcilers = [installation.start("reconciler", "run", RECONCILER_INTERVAL="24h") for _ in range(2)]

    def all_are_there() -> bool:
        loops = installation.get("/api/v1/status")["loops"]
        counted = Counter(each["loop"] for each in loops)
        return (counted["ingest"], counted["verify"]) == (2, 2) and _answers(address)

    installation.until(all_are_there, "two of each")
    images = [oci_image(f"image {number}", layer_sizes=(64,)) for number in range(8)]
    with Pusher(registry.url) as client:
        for number in range(TAGS):
            for repository in REPOSITORIES:
                client.push(repository, images[number % 8], f"t{number}")
                client.push(repository, images[(number + 3) % 8], f"t{number % 5}")
            if number == TAGS // 2:
                installation.end(second, signal.SIGKILL)
                installation.end(reconcilers[0], signal.SIGKILL)
        truth = {
            repository: {f"t{number}": client.digest_of(repository, f"t{number}") for number in range(TAGS)}
            for repository in REPOSITORIES
        }
    installation.until_settled()
    assert truth == {repository: installation.tags(repository) for repository in REPOSITORIES}
    entries = installation.audit("&source=notification")
    pushed = [entry for entry in entries if entry["action"].startswith("tag.")]
    assert 2 * TAGS * len(REPOSITORIES) == len(pushed)
    assert {1} == set(Counter(entry["event_id"] for entry in pushed).values())
    assert [] == installation.get("/api/v1/tags?verified=false")["items"]
    assert "deadlock" not in installation.last_words()


def _answers(address: str) -> bool:
    try:
        return REQUESTS.get(f"http://{address}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
