"""Deleting and restoring as operators do it: the commands, a running server, real registries of both versions."""

from __future__ import annotations

from typing import Any

from tests.fixtures.installation import OPERATOR_SECRET, Installation
from tests.fixtures.registries import StartRegistry
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, oci_image

APP = "team/app"


def test_delete_and_restore__by_command(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """One tag goes and comes back with its dates; its sibling stays; without --yes nothing is done."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.connect(server)
    image = oci_image("a")
    with Pusher(server.url) as pusher:
        for tag in ("v1", "v2"):
            pusher.push(APP, image, tag)
        daemon = installation.start("reconciler", "run")
        installation.until(lambda: len(installation.tags(APP)) == 2, "both tags to be listed")
        installation.until_settled()
        was = installation.get(f"/api/v1/repositories/{APP}/tags/v1")

        refused = installation.run("reconciler", "delete", f"{APP}:v1")
        assert (refused.exit_code, pusher.digest_of(APP, "v1")) == (64, image.digest)
        assert "--yes" in refused.error

        done = installation.run("reconciler", "delete", f"{APP}:v1", "--yes", "--reason", "old", "--json")
        assert done.exit_code == 0, done.output + done.error
        job = done.json
        assert job["result"]["tags"][0]["outcome"] == "deleted"
        assert pusher.digest_of(APP, "v1") is None
        assert pusher.digest_of(APP, "v2") == image.digest
        installation.until(lambda: list(installation.tags(APP)) == ["v2"], "the tag to be gone")
        again = installation.run("reconciler", "delete", f"{APP}:v1", "--yes", "--json")
        assert again.exit_code == 0
        assert again.json["result"]["tags"][0]["outcome"] == "skipped.absent"

        installation.end(daemon)  # without a daemon the command does it itself
        back = installation.run("reconciler", "restore", job["id"], "--yes", "--json")
        assert back.exit_code == 0, back.output + back.error
        assert pusher.digest_of(APP, "v1") == image.digest
        installation.until(lambda: len(installation.tags(APP)) == 2, "the tag to be back")
        now = installation.get(f"/api/v1/repositories/{APP}/tags/v1")
        for member in ("digest", "published_at", "first_seen_at", "pushed_by"):
            assert now[member] == was[member]
        installation.until_applied()
        entries = [
            e
            for e in installation.audit(f"&repository={APP}&tag=v1")
            if e["action"].startswith(("tag.", "cleanup."))
        ]
        assert [(e["action"], e["source"]) for e in entries] == [
            ("tag.created", "notification"),
            ("cleanup.tag_deleted", "operator"),
            ("cleanup.restored", "operator"),
        ]
        assert all(entry["event_id"] for entry in entries)
        assert "DUMMY" not in installation.run("reconciler", "status").output
        gone = installation.run("reconciler", "restore", f"{APP}:never", "--yes")
        assert gone.exit_code == 1
        assert "not in the trash" in gone.output


def test_delete_and_restore__by_api(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """Delete, trash, restore over HTTP: what the trash says is what then comes to be."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.connect(server)
    image, other = oci_image("a"), oci_image("b")
    with Pusher(server.url) as pusher:
        for tag in ("v1", "v2"):
            pusher.push(APP, image, tag)
        installation.start("reconciler", "run")
        installation.until(lambda: len(installation.tags(APP)) == 2, "both tags to be listed")
        installation.until_settled()
        path = f"/api/v1/repositories/{APP}/tags/v1"
        was = installation.get(path)

        failed = done(installation, "DELETE", f"{path}?digest={other.digest}")
        assert (failed["state"], pusher.digest_of(APP, "v1")) == ("failed", image.digest)
        assert failed["result"]["tags"][0]["outcome"] == "skipped.changed"
        assert trash(installation) == []

        deleted = done(installation, "DELETE", f"{path}?digest={image.digest}&reason=old")
        assert (deleted["state"], deleted["result"]["deleted"]) == ("done", 1), deleted
        assert [pusher.digest_of(APP, tag) for tag in ("v1", "v2")] == [None, image.digest]
        installation.until(lambda: list(installation.tags(APP)) == ["v2"], "the tag to be gone")
        (shown,) = trash(installation)
        assert (shown["repository"], shown["tag"], shown["digest"]) == (APP, "v1", image.digest)
        assert (shown["deleted_by"], shown["reason"], shown["job"]) == ("ann", "old", deleted["id"])
        assert shown["restorable"]["possible"] is True

        restored = done(installation, "POST", f"/api/v1/trash/{shown['id']}/restore")
        assert (restored["state"], pusher.digest_of(APP, "v1")) == ("done", image.digest), restored
        installation.until(lambda: len(installation.tags(APP)) == 2, "the tag to be back")
        now = installation.get(path)
        assert [now[name] for name in ("digest", "published_at")] == [
            was[name] for name in ("digest", "published_at")
        ]
        (shown,) = trash(installation)
        assert "it was restored at" in shown["restorable"]["because"]


def done(installation: Installation, method: str, path: str) -> dict[str, Any]:
    """Ask for a job, and return it once it has ended."""
    headers = {"Authorization": f"Bearer {OPERATOR_SECRET}"}
    answer = REQUESTS.request(method, f"{installation.url}{path}", headers=headers, timeout=30)
    assert answer.status_code == 202, answer.text
    location = answer.headers["Location"]
    installation.until(lambda: installation.get(location)["ended_at"] is not None, "the job to end")
    return dict(installation.get(location))


def trash(installation: Installation) -> list[dict[str, Any]]:
    return list(installation.get("/api/v1/trash")["items"])
