"""A walk whose process is killed is gone on with by the next process, on real registries."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

NAMES = [f"team/app{number:02}" for number in range(20)]


def last_run(installation: Installation) -> dict[str, Any]:
    runs: list[dict[str, Any]] = installation.get("/api/v1/drift")["runs"]
    return runs[0] if runs else {}


def recorded(installation: Installation) -> set[str]:
    return {row["repository"] for row in installation.get("/api/v1/tags?limit=1000")["items"]}


@pytest.fixture
def filled(plain_registry: RegistryServer) -> RegistryServer:
    """A registry with a tag in each of twenty repositories, none of them on record."""
    with Pusher(plain_registry.url) as client:
        for name in NAMES:
            client.push(name, oci_image(name, layer_sizes=(64,)), "v1")
    return plain_registry


@pytest.mark.usefixtures("filled")
def test_run__killed_in_the_middle(installation: Installation) -> None:
    """SIGKILL in a walk: shown as interrupted; the next process ends that very walk, and every tag is found once."""
    slow = installation.start("reconciler", "run", RECONCILER_MAX_RATE="5")
    installation.until(lambda: len(recorded(installation)) >= 3, "some repositories to be compared")
    installation.end(slow, signal.SIGKILL)
    installation.until(
        lambda: last_run(installation)["outcome"] == "interrupted", "the walk to be interrupted"
    )
    interrupted = last_run(installation)
    assert len(recorded(installation)) < len(NAMES)

    installation.start("reconciler", "run")
    installation.until(lambda: last_run(installation)["outcome"] == "complete", "the walk to be ended")
    assert interrupted["id"] == last_run(installation)["id"]
    assert set(NAMES) == recorded(installation)
    assert len(NAMES) == last_run(installation)["findings"]
    assert len(NAMES) == len(installation.audit("&action=tag.created"))


@pytest.mark.full
@pytest.mark.usefixtures("filled")
def test_once__resume(installation: Installation) -> None:
    """`once --resume` goes on with what a killed `once` had left, and says so; `once` alone begins anew."""
    slow = installation.start("reconciler", "once", "--max-rate", "5")
    installation.until(lambda: len(recorded(installation)) >= 3, "some repositories to be compared")
    installation.end(slow, signal.SIGKILL)
    installation.until(
        lambda: last_run(installation)["outcome"] == "interrupted", "the walk to be interrupted"
    )
    interrupted = last_run(installation)
    done = installation.run("reconciler", "once", "--resume", "--json")
    assert 0 == done.exit_code, done.error
    assert interrupted["started_at"] == done.json["resumed_from"]
    assert (interrupted["id"], "complete") == (
        last_run(installation)["id"],
        last_run(installation)["outcome"],
    )
    assert set(NAMES) == recorded(installation)
    anew = installation.run("reconciler", "once", "--json")
    assert 0 == anew.exit_code, anew.error
    assert anew.json["resumed_from"] is None
    assert interrupted["id"] != last_run(installation)["id"]
