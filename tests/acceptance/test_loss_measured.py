"""Loss is measured on real registries: shown, never claimed away, and walked after by itself."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from tools.registry_server import Endpoint
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"


def processes(installation: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = installation.get("/api/v1/status")["processes"]
    return found


def living(installation: Installation) -> dict[str, Any]:
    """The process that is read now, empty where none is."""
    return next((each for each in processes(installation) if each["ended_at"] is None), {})


def reconcile(installation: Installation, registry: RegistryServer) -> None:
    installation.start(
        "reconciler",
        "run",
        RECONCILER_REGISTRY_DEBUG_URLS=registry.debug_url,
        RECONCILER_INTERVAL="24h",
    )
    installation.until(lambda: living(installation), "the counters to be read")


def walked(installation: Installation) -> list[dict[str, Any]]:
    """The walks that ended, the latest first."""
    runs: list[dict[str, Any]] = installation.get("/api/v1/drift")["runs"]
    return [run for run in runs if run["outcome"] is not None]


@contextmanager
def redirecting() -> Iterator[str]:
    """An address that redirects every delivery to a page that exists, as a proxy may."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(301)
            self.send_header("Location", "/page")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_loss__quiet_and_busy(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """Where everything arrives, nothing is lost, and the counters are known to be the instance's."""
    reconcile(installation, wired_registry)
    installation.until(lambda: living(installation)["loss"]["state"] == "nothing_lost", "a quiet interval")
    for number in range(5):
        pusher.push(APP, oci_image(f"image {number}", layer_sizes=(64,)), f"v{number}")

    def told() -> bool:
        found = living(installation)
        return bool(
            found["events"] == 5 and found["instance_id"] and found["loss"]["state"] == "nothing_lost"
        )

    installation.until(told, "the pushes to be accounted for")
    (instance,) = installation.get("/api/v1/status")["instances"]
    assert (5, 0, "nothing_lost") == (instance["events"], instance["missing"], instance["loss"]["state"])
    assert ["nothing_lost"] == [each["state"] for each in living(installation)["intervals"]]
    assert "nothing lost between" in installation.run("reconciler", "status").output
    assert "start" == walked(installation)[-1]["cause"]


@pytest.mark.full
def test_loss__restart_with_a_queue(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A registry that restarts while our door is shut loses its queue: unknown, walked after, and repaired."""
    reconcile(installation, wired_registry)
    pusher.push(APP, oci_image("event"), "event")
    installation.until(lambda: living(installation)["instance_id"], "the instance to be known")
    installation.until(lambda: walked(installation), "the first walk")
    installation.end(installation.server)
    pusher.push(APP, oci_image("lost"), "lost")
    wired_registry.restart()
    installation.serve()
    installation.until(lambda: "lost" in installation.tags(APP), "the walk to find what no event told")
    ended = next(each for each in processes(installation) if each["ended_at"] is not None)
    assert "unknown" == ended["loss"]["state"]
    assert "ended" in ended["loss"]["because"]
    assert "nothing_lost" not in {
        each["state"] for each in ended["intervals"] if each["to"] >= ended["loss"]["to"]
    }
    installation.until(
        lambda: walked(installation)[0]["cause"].startswith("events may be lost"), "the walk to end"
    )
    found = installation.get("/api/v1/drift?tag=lost")["items"]
    assert found[0]["repaired_at"]
    assert found[0]["run_id"] == walked(installation)[0]["id"]
    # The new process never sent an event, so that nothing but its counters shows it.
    assert 1 == len(installation.get("/api/v1/status")["instances"])


@pytest.mark.full
def test_loss__redirected(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """What a redirect swallows is counted by the registry as delivered, and by us as lost: at most one."""
    with redirecting() as address:
        registry = start_registry(registry_version, notifications=[Endpoint(f"{address}/notifications")])
        installation.connect(registry)
        reconcile(installation, registry)
        installation.until(lambda: walked(installation), "the first walk")
        with Pusher(registry.url) as client:
            client.push(APP, oci_image("astray"), "v1")
        installation.until(lambda: living(installation)["delivered"] == 1, "the counters to be read")
        installation.until(lambda: "v1" in installation.tags(APP), "the walk to find it")
    claims = [(each["state"], each["lost"]) for each in living(installation)["intervals"]]
    assert 1 == claims.count(("at_most", 1))
    assert {("at_most", 1), ("nothing_lost", None)} >= set(claims)
    assert "at most 1 lost between" in installation.run("reconciler", "status").output
