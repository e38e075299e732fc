"""Deleting and restoring as operators do it: the commands, a running server, real registries of both versions."""

from __future__ import annotations

from tests.fixtures.installation import Installation
from tests.fixtures.registries import StartRegistry
from tools.sample_images import Pusher, oci_image

APP = "team/app"


def test_delete_and_restore__by_command(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """One tag goes and comes back with its dates; its sibling stays; without --yes nothing is done."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.registry_url = server.url
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
