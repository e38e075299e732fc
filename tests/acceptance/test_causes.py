"""The cause of every repair, as far as it can be told, on real registries that are treated as they are in life."""

from __future__ import annotations

import shutil
import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.storage import tags_of
from tools.sample_images import Image, Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"
WRITERS, TAGS = 8, 20
TURNS = 4
"""On a busy machine the writers may come one after the other: then they are let loose again."""


def causes(installation: Installation, query: str = "") -> dict[str | None, tuple[str, str]]:
    """Kind and cause of what was found, by tag; None is a manifest."""
    found = installation.get(f"/api/v1/drift?limit=1000{query}")["items"]
    return {each["tag"]: (each["kind"], each["cause"]) for each in found}


def process(installation: Installation) -> dict[str, Any]:
    """The registry process that is read now, as the database has it, whether the server is up or not."""
    found: list[dict[str, Any]] = installation.run("reconciler", "status", "--json").json["processes"]
    return next((each for each in found if each["ended_at"] is None), {})


def counted(installation: Installation, registry: RegistryServer) -> None:
    """Let the reconciler read the counters for longer than clocks may differ, and walk."""
    installation.start(
        "reconciler",
        "run",
        RECONCILER_REGISTRY_DEBUG_URLS=registry.debug_url,
        RECONCILER_INTERVAL="24h",
    )

    def long_enough() -> bool:
        found = installation.get("/api/v1/status")["processes"]
        return any(
            each["loss"]["state"] == "nothing_lost"
            and each["instance_id"]
            and datetime.fromisoformat(each["loss"]["to"]) - datetime.fromisoformat(each["began_at"])
            > timedelta(seconds=6)
            for each in found
        )

    installation.until(long_enough, "the counters to be settled")
    assert 0 == installation.run("reconciler", "once").exit_code


@pytest.mark.full
def test_cause__out_of_band(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """While the counters prove that no event was lost, a tag that comes or goes without one was made by hand."""
    for tag in ("kept", "removed"):
        pusher.push(APP, oci_image(tag, layer_sizes=(64,)), tag)
    installation.until(lambda: len(installation.tags(APP)) == 2, "the events")
    counted(installation, wired_registry)
    shutil.copytree(tags_of(wired_registry, APP) / "kept", tags_of(wired_registry, APP) / "copied")
    shutil.rmtree(tags_of(wired_registry, APP) / "removed")
    assert 0 == installation.run("reconciler", "once").exit_code
    expected = {"copied": ("tag_missing", "out_of_band"), "removed": ("tag_extra", "out_of_band")}
    installation.until(lambda: causes(installation) == expected, "the causes to be known")


@pytest.mark.full
def test_cause__lost_notification(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A registry that was killed with an event waiting is why its tag was on no record."""
    pusher.push(APP, oci_image("event", layer_sizes=(64,)), "event")
    installation.until(lambda: installation.tags(APP), "the event")
    counted(installation, wired_registry)
    installation.end(installation.server)
    pusher.push(APP, oci_image("lost", layer_sizes=(64,)), "lost")
    installation.until(lambda: process(installation).get("pending") == 1, "the waiting event to be read")
    wired_registry.kill()
    wired_registry.start()
    installation.serve()
    installation.until(lambda: "lost" in installation.tags(APP), "the walk to find what no event told")
    expected = {"lost": ("tag_missing", "lost_notification")}
    installation.until(lambda: causes(installation) == expected, "the cause to be known")


def test_cause__late_notification(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """An event that comes after the look explains it, and is not called lost."""
    pusher.push(APP, oci_image("event", layer_sizes=(64,)), "event")
    installation.until(lambda: "event" in installation.tags(APP), "the event")
    assert 0 == installation.run("reconciler", "once").exit_code
    installation.end(installation.server)
    pusher.push(APP, oci_image("late", layer_sizes=(64,)), "late")
    assert 0 == installation.run("reconciler", "once").exit_code
    installation.serve()
    assert ("tag_missing", "unannounced") == causes(installation)["late"]

    def came() -> bool:
        return any(entry["event_id"] for entry in installation.audit("&tag=late"))

    installation.until(came, "the registry to try again")
    assert 0 == installation.run("reconciler", "once").exit_code
    assert {"late": ("tag_missing", "late_notification")} == causes(installation)


@pytest.mark.full
def test_cause__garbage_collection(installation: Installation, plain_registry: RegistryServer) -> None:
    """Where content went with a manifest it was collected; the API's delete leaves it, and is not called so."""
    old, new, deleted = (oci_image(name, layer_sizes=(64,)) for name in ("old", "new", "deleted"))
    with Pusher(plain_registry.url) as client:
        client.push(APP, old, "v1")
        client.push(APP, deleted, "gone")
        assert 0 == installation.run("reconciler", "once").exit_code
        client.push(APP, new, "v1")
        assert 202 == client.delete(APP, deleted.digest).status
        assert 0 == installation.run("reconciler", "once").exit_code
    by_api = installation.get("/api/v1/drift?kind=manifest_extra")["items"]
    assert [(deleted.digest, "content_removed")] == [(each["expected"], each["cause"]) for each in by_api]
    plain_registry.stop()
    plain_registry.garbage_collect("--delete-untagged")
    plain_registry.start()
    assert 0 == installation.run("reconciler", "once").exit_code
    found = installation.get("/api/v1/drift?cause=garbage_collection")["items"]
    assert ("manifest_extra", old.digest) in {(each["kind"], each["expected"]) for each in found}


def write_together(url: str, images: list[Image], tags: list[str]) -> None:
    """Have a writer for each image push it to every tag, all to the same tag at the same time."""
    together = threading.Barrier(len(images))

    def write(image: Image) -> None:
        with Pusher(url) as pusher:
            for tag in tags:
                together.wait(timeout=60)
                pusher.push(APP, image, tag)

    writers = [threading.Thread(target=write, args=(image,)) for image in images]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()


def test_cause__race(installation: Installation, wired_registry: RegistryServer) -> None:
    """Of writers of one tag at a time the last event is often not what the registry kept: that is called a race."""
    installation.start("reconciler", "run", RECONCILER_INTERVAL="24h")
    images = [oci_image(f"writer {number}", layer_sizes=(64,)) for number in range(WRITERS)]
    with Pusher(wired_registry.url) as client:
        for image in images:
            client.push(APP, image, "base")
    installation.until_settled()
    found: dict[str | None, tuple[str, str]] = {}
    for turn in range(TURNS):
        tags = [f"t{turn}-{tag}" for tag in range(TAGS)]
        write_together(wired_registry.url, images, tags)
        installation.until_settled()
        with Pusher(wired_registry.url) as client:
            truth = {tag: client.digest_of(APP, tag) for tag in tags}
        recorded = installation.tags(APP)
        assert truth == {tag: recorded[tag] for tag in truth}
        found = causes(installation)
        if ("tag_stale", "race") in found.values():
            break
    assert ("tag_stale", "race") in found.values(), (
        "eighty tags of eight writers, and no order but the registry's"
    )
    # On a busy machine the event of what verification has seen by then may be late, too, of a tag that is new or not.
    late = {(kind, "late_notification") for kind in ("tag_missing", "tag_stale")}
    assert {("tag_stale", "race")} == set(found.values()) - late
