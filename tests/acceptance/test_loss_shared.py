"""Loss is measured by several processes together: each registry by its own indexer, the accounts by one reconciler."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.installation import TOKEN
from tests.fixtures.requests import REQUESTS
from tools.ports import free_port
from tools.registry_server import Endpoint
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.programs import Process
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"


def living(installation: Installation) -> list[dict[str, Any]]:
    """The processes that are read now."""
    found: list[dict[str, Any]] = installation.get("/api/v1/status")["processes"]
    return [each for each in found if each["ended_at"] is None]


def second_server(installation: Installation, directory: Path) -> tuple[Process, Endpoint]:
    """Another ``indexer serve`` on the same database, with a spool of its own."""
    address = f"127.0.0.1:{free_port()}"
    process = installation.start(
        "indexer", "serve", INDEXER_LISTEN=address, INDEXER_DATA_DIR=str(directory / "second")
    )

    def ready() -> bool:
        try:
            return REQUESTS.get(f"http://{address}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    installation.until(ready, "the second server to be ready")
    return process, Endpoint(f"http://{address}/notifications", TOKEN)


@pytest.mark.full
def test_loss__two_registries_two_servers(
    installation: Installation, start_registry: StartRegistry, tmp_path: Path
) -> None:
    """Each registry process has its own account, whichever server took its events, and one left is no downtime."""
    dying, endpoint = second_server(installation, tmp_path)
    old = start_registry(2, notifications=[installation.endpoint])
    new = start_registry(3, notifications=[endpoint], storage_dir=old.storage_dir)
    installation.connect(old)
    installation.start(
        "reconciler",
        "run",
        RECONCILER_REGISTRY_DEBUG_URLS=f"{old.debug_url},{new.debug_url}",
        RECONCILER_INTERVAL="24h",
    )
    installation.until(lambda: len(living(installation)) == 2, "both to be read")
    for registry, count in ((old, 2), (new, 5)):
        with Pusher(registry.url) as client:
            for number in range(count):
                client.push(APP, oci_image(f"{registry.major}-{number}", layer_sizes=(64,)), f"v{number}")

    def accounted() -> bool:
        told = [(each["events"], each["missing"], each["loss"]["state"]) for each in living(installation)]
        return sorted(told) == [(2, 0, "nothing_lost"), (5, 0, "nothing_lost")]

    installation.until(accounted, "both to be accounted for")
    status = installation.get("/api/v1/status")
    assert sorted((each["events"], each["loss"]["state"]) for each in status["instances"]) == [
        (2, "nothing_lost"),
        (5, "nothing_lost"),
    ]
    assert 2 == len({each["instance_id"] for each in living(installation)} - {None})
    installation.end(dying, signal.SIGKILL)
    read = max(each["read_at"] for each in living(installation))
    installation.until(
        lambda: min(each["read_at"] for each in living(installation)) > read, "the counters to be read again"
    )
    assert all(
        each["state"] == "nothing_lost"
        for row in installation.get("/api/v1/status")["instances"]
        for each in row["intervals"]
    )


@pytest.mark.full
def test_loss__two_reconcilers(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """Two keep one account between them; when either is killed the other goes on with it, and nothing is in doubt."""

    def start() -> Process:
        return installation.start(
            "reconciler",
            "run",
            RECONCILER_REGISTRY_DEBUG_URLS=wired_registry.debug_url,
            RECONCILER_INTERVAL="24h",
        )

    def goes_on() -> None:
        (process,) = living(installation)
        installation.until(
            lambda: living(installation)[0]["read_at"] > process["read_at"], "the account to go on"
        )

    reconcilers = [start(), start()]
    installation.until(lambda: living(installation), "the counters to be read")
    pusher.push(APP, oci_image("one"), "v1")
    installation.until(lambda: living(installation)[0]["instance_id"], "the instance to be known")
    goes_on()
    for number in (0, 1):
        installation.end(reconcilers[number], signal.SIGKILL)
        goes_on()
        reconcilers[number] = start()
        goes_on()
    installation.until(
        lambda: living(installation)[0]["loss"]["state"] == "nothing_lost", "everything to be settled"
    )
    (process,) = living(installation)
    assert 1 == len(installation.get("/api/v1/status")["processes"])
    assert {"nothing_lost"} == {each["state"] for each in process["intervals"]}
    assert (1, 1, 0) == (process["events"], process["delivered"], process["missing"])
