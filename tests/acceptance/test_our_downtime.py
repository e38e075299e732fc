"""Our own downtime beside real registries: what it may have cost is said, and no more than that."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"


def reconcile(installation: Installation, debug_url: str | None = None) -> None:
    """Start the reconciler and let its first walk end."""
    installation.start(
        "reconciler", "run", RECONCILER_REGISTRY_DEBUG_URLS=debug_url, RECONCILER_INTERVAL="24h"
    )
    installation.until(lambda: walks(installation), "the first walk")


def walks(installation: Installation) -> list[dict[str, Any]]:
    """The walks that ended, the latest first."""
    runs: list[dict[str, Any]] = installation.get("/api/v1/drift")["runs"]
    return [run for run in runs if run["outcome"] is not None]


def instance(installation: Installation) -> dict[str, Any]:
    """The registry process heard last."""
    found: dict[str, Any] = installation.get("/api/v1/status")["instances"][0]
    return found


def told(installation: Installation, pusher: Pusher, tag: str) -> None:
    pusher.push(APP, oci_image(tag, layer_sizes=(64,)), tag)
    installation.until(lambda: tag in installation.tags(APP), f"{tag} to be told")


@pytest.mark.full
def test_downtime__counters_prove_that_it_cost_nothing(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """Killed and back while the registry kept its queue: nothing lost, over the whole time, and no walk for nothing."""
    told(installation, pusher, "before")
    reconcile(installation, wired_registry.debug_url)
    installation.until(
        lambda: instance(installation)["loss"]["state"] == "nothing_lost", "the counters to be settled"
    )
    installation.end(installation.server, signal.SIGKILL)
    pusher.push(APP, oci_image("meanwhile"), "meanwhile")
    installation.serve()
    installation.until(lambda: "meanwhile" in installation.tags(APP), "the registry to try again")
    settled = instance(installation)["last_seen_at"]
    installation.until(
        lambda: (
            instance(installation)["loss"]["state"] == "nothing_lost"
            and instance(installation)["loss"]["to"] > settled
        ),
        "the downtime to be accounted for",
    )
    intervals = instance(installation)["intervals"]
    assert ["nothing_lost"] == [each["state"] for each in intervals], intervals
    assert ["start"] == [run["cause"] for run in walks(installation)]


def test_downtime__without_counters_the_registry_is_heard_again(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A registry that is heard again outlived us: unknown what else may have answered it, but no walk."""
    told(installation, pusher, "before")
    reconcile(installation)
    installation.end(installation.server, signal.SIGKILL)
    pusher.push(APP, oci_image("meanwhile"), "meanwhile")
    installation.serve()
    installation.until(lambda: "meanwhile" in installation.tags(APP), "the registry to try again")
    installation.until(lambda: instance(installation)["intervals"], "the downtime to be decided")
    (interval,) = instance(installation)["intervals"]
    assert "unknown" == interval["state"]
    assert interval["because"].startswith("no indexer was receiving; the registry process outlived that")
    assert interval["from"] < interval["to"] <= instance(installation)["last_seen_at"]
    assert interval["because"] in installation.run("reconciler", "status").output
    assert ["start"] == [run["cause"] for run in walks(installation)]


@pytest.mark.full
def test_downtime__without_counters_the_registry_is_silent(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A registry that restarted while we were away, and sends nothing since, is walked for that reason alone."""
    told(installation, pusher, "before")
    reconcile(installation)
    installation.end(installation.server, signal.SIGKILL)
    pusher.push(APP, oci_image("lost"), "lost")
    wired_registry.kill()
    wired_registry.start()
    installation.serve()
    assert "lost" not in installation.tags(APP)
    installation.until(lambda: "lost" in installation.tags(APP), "the walk to find what no event told")
    installation.until(lambda: len(walks(installation)) > 1, "the walk to end")
    latest, first = walks(installation)
    assert "start" == first["cause"]
    assert latest["cause"].startswith("events may be lost: no indexer was receiving")
    (interval,) = instance(installation)["intervals"]
    assert ("unknown", True) == (
        interval["state"],
        "sent nothing in the half minute after" in interval["because"],
    )
    # And it was said once: nothing walks again for the same reason.
    assert 1 == len([run for run in walks(installation) if run["cause"] == latest["cause"]])
