"""Checking the storage as operators do it: the commands, a real registry and its files."""

from __future__ import annotations

from tests.fixtures.installation import Installation
from tests.fixtures.registries import StartRegistry
from tools.sample_images import Pusher, oci_image

APP = "team/app"


def test_check_and_report__by_command(
    installation: Installation, start_registry: StartRegistry, registry_version: int
) -> None:
    """Sound is 0, damaged is 1 and says what; a repair needs --yes; the report is to the byte."""
    server = start_registry(registry_version, notifications=[installation.endpoint])
    installation.connect(server)
    where = {"RECONCILER_STORAGE_URL": f"file://{server.storage_dir}"}
    image = oci_image("a")
    with Pusher(server.url) as pusher:
        pusher.push(APP, image, "v1")
        sound = installation.run("reconciler", "storage", "check", "--content", "--json", **where)
        assert sound.exit_code == 0, sound.output + sound.error
        result = sound.json["result"]
        assert (result["damaged"], result["proof"]["proven_by"]) == (0, "canary")

        layer = image.blobs[-1].digest.removeprefix("sha256:")
        files = server.storage_dir / "docker" / "registry" / "v2"
        link = files / "repositories" / APP / "_layers" / "sha256" / layer / "link"
        link.write_bytes(b"")
        damaged = installation.run("reconciler", "storage", "check", "--settle", "0s", **where)
        assert damaged.exit_code == 1
        assert "blob.link_unreadable in team/app" in damaged.output
        assert "Cannot be pulled: team/app:v1." in damaged.output
        assert "1 THINGS DAMAGED" in installation.run("reconciler", "status").output
        assert installation.get(f"/api/v1/repositories/{APP}/storage")["findings"][0]["tags"] == ["v1"]

        refused = installation.run("reconciler", "storage", "check", "--repair", **where)
        assert (refused.exit_code, link.read_bytes()) == (64, b"")
        repaired = installation.run(
            "reconciler", "storage", "check", "--repair", "--yes", "--settle", "0s", "--json", **where
        )
        assert repaired.exit_code == 0, repaired.output + repaired.error
        assert (repaired.json["result"]["repaired"], link.read_text()) == (1, f"sha256:{layer}")
        assert pusher.request("GET", f"/v2/{APP}/blobs/sha256:{layer}").status == 200

        installation.until_applied()
        report = installation.run("reconciler", "storage", "report", "--repository", APP, "--json", **where)
        assert report.exit_code == 0, report.output + report.error
        stored = sum(each.stat().st_size for each in (files / "blobs").rglob("data"))
        assert report.json["stored_bytes"] == stored
        assert report.json["tags"][0]["exclusive_bytes"] == image.size_bytes
        assert report.json["tags"][0]["attributed_bytes"] == image.size_bytes
        assert (report.json["trash"]["bytes"], report.json["damaged"]["damaged"]) == (0, 0)
        tag = installation.get(f"/api/v1/repositories/{APP}/tags/v1")
        sizes = ("referenced_bytes", "exclusive_bytes", "attributed_bytes")
        assert [tag[size] for size in sizes] == [image.size_bytes] * 3
        assert tag["bytes_as_of"] == report.json["taken_at"]
        text = installation.run("reconciler", "storage", "report", **where)
        assert "damaged: nothing, by the check of" in text.output

        pusher.push(APP, image, "v2")  # each keeps the other from now on
        installation.until_applied()
        tag = installation.get(f"/api/v1/repositories/{APP}/tags/v1")
        assert [tag[size] for size in sizes] == [image.size_bytes, 0, image.size_bytes // 2]
        assert installation.run("reconciler", "once").exit_code == 0
        deleted = installation.run("reconciler", "delete", f"{APP}:v1", f"{APP}:v2", "--yes")
        assert deleted.exit_code == 0, deleted.output + deleted.error
        gone = installation.run("reconciler", "storage", "report", "--json", **where)
        assert gone.json["trash"] == {
            "blobs": len(image.blobs) + 1,
            "bytes": image.size_bytes,
            "unreferenced_bytes": 0,
        }
        assert (
            "the trash needs, to put deleted tags back"
            in installation.run("reconciler", "storage", "report", **where).output
        )
        assert (text.exit_code, text.output.splitlines()[0].split()[0]) == (0, "stored")
