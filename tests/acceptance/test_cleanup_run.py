"""`reconciler cleanup run`: what policies planned goes, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.installation import Installation
from tools.registry_server import RegistryServer
from tools.sample_images import Pusher, oci_image

pytestmark = pytest.mark.slow

APP = "team/app"
BRAKED, USAGE = 3, 64


def policies(*, tags: int = 100) -> str:
    return f"""version: 1
cleanup:
  - id: quick
    mode: enforce
    scope: {{repositories: {{any: ["team/**"]}}}}
    grace: {{pushed: 0s, moved: 0s}}
    delete: [{{id: pr, tags: {{glob: ["pr-*"]}}, older: {{pushed: 0s}}}}]
    brake: {{tags: {tags}, share: 100%, repository_share: 100%}}
    undo: {{pending: 0s, unlink_after: 0s}}
    run: {{rate: 100/s}}
"""


def test_cleanup_run__deletes_what_is_due(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher, tmp_path: Path
) -> None:
    """Never past the brake, never without --yes; then the tags go, siblings and others stay, and can be restored.

    A manifest that no tag needs any more goes, at once by this policy; what went comes back even so.
    """
    file = tmp_path / "policies.yaml"
    setting = {"INDEXER_POLICIES_FILE": str(file)}
    file.write_text(policies(tags=1))
    shared = oci_image("shared")
    pusher.push(APP, shared, "pr-1")
    pusher.push(APP, shared, "v1")
    pusher.push(APP, oci_image("two"), "pr-2")
    pusher.push(APP, oci_image("held"), "pr-3")
    installation.end(installation.server)
    installation.server = installation.start("indexer", "serve", **setting)
    installation.until_ready()
    daemon = installation.start("reconciler", "run", **setting)
    installation.until(lambda: len(installation.tags(APP)) == 4, "the tags")
    installation.until_settled()
    installation.end(daemon)  # else it may be faster than the command
    assert installation.run("reconciler", "once", "--json", **setting).exit_code == 0
    held = installation.run("reconciler", "holds", "add", f"{APP}:pr-3", "--reason", "evidence", **setting)
    assert held.exit_code == 0, held.error

    assert installation.run("reconciler", "cleanup", "run", **setting).exit_code == USAGE
    assert installation.run("reconciler", "cleanup", "run", "--yes", **setting).exit_code == BRAKED
    assert len(installation.tags(APP)) == 4

    file.write_text(policies())
    done = installation.run("reconciler", "cleanup", "run", "--yes", "--json", **setting)
    assert done.exit_code == 0, done.output + done.error
    status = installation.run("reconciler", "cleanup", "status", "--json", **setting).output
    assert done.json["result"] == {"deleted": 2, "unlinked": 1}, done.error + status
    assert [pusher.digest_of(APP, tag) for tag in ("pr-1", "pr-2")] == [None, None]
    assert pusher.digest_of(APP, "v1") == shared.digest
    assert pusher.digest_of(APP, "pr-3") == oci_image("held").digest
    installation.until(lambda: set(installation.tags(APP)) == {"v1", "pr-3"}, "the tags to be gone")
    installation.until_applied()
    entries = installation.audit("&action=cleanup.tag_deleted")
    assert {(each["tag"], each["source"], each["actor"]["name"]) for each in entries} == {
        ("pr-1", "policy", "quick"),
        ("pr-2", "policy", "quick"),
    }
    again = installation.run("reconciler", "cleanup", "run", "--yes", "--json", **setting)
    assert (again.exit_code, again.json["result"]) == (0, {})
    assert pusher.digest_of(APP, oci_image("two").digest) is None
    assert pusher.digest_of(APP, shared.digest) == shared.digest
    assert pusher.digest_of(APP, "pr-3") == oci_image("held").digest
    installation.until_applied()
    shown = {each["tag"]: each["restorable"] for each in installation.get("/api/v1/trash")["items"]}
    assert "left the repository at" in shown["pr-2"]["unless"]
    assert (shown["pr-1"]["possible"], shown["pr-1"]["unless"]) == (True, None)
    (unlinked,) = installation.audit("&action=manifest.deleted")
    assert (unlinked["digest"], unlinked["actor"]["name"]) == (oci_image("two").digest, "quick")
    back = installation.run("reconciler", "restore", done.json["id"], "--yes", "--json", **setting)
    assert back.exit_code == 0, back.output + back.error
    assert pusher.digest_of(APP, "pr-2") == oci_image("two").digest
    del wired_registry


def test_reconciler_run__deletes_by_itself(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher, tmp_path: Path
) -> None:
    """Nothing goes before a plan under these very bytes was approved; then it does, and what no rule names stays."""
    file = tmp_path / "policies.yaml"
    setting = {"INDEXER_POLICIES_FILE": str(file)}
    file.write_text(policies())
    for tag in ("pr-1", "pr-2", "v1"):
        pusher.push(APP, oci_image(tag), tag)
    installation.end(installation.server)
    installation.server = installation.start("indexer", "serve", **setting)
    installation.until_ready()
    installation.start("reconciler", "run", **setting)
    installation.until(lambda: len(installation.tags(APP)) == 3, "the tags")
    installation.until_settled()
    assert installation.run("reconciler", "once", "--json", **setting).exit_code == 0

    def status() -> dict[str, Any]:
        (found,) = installation.run("reconciler", "cleanup", "status", "--json", **setting).json["cleanup"]
        return dict(found)

    plan = installation.run("reconciler", "cleanup", "plan", "--json", **setting).json["plan_id"]
    assert (status()["refusal"], status()["by_itself"], status()["last_run"]) == ("not_approved", True, None)
    assert len(installation.tags(APP)) == 3
    approved = installation.run("reconciler", "cleanup", "approve", plan, "--yes", **setting)
    assert approved.exit_code == 0, approved.error
    installation.until(lambda: set(installation.tags(APP)) == {"v1"}, "the tags to be gone")
    # Until the job has ended nobody asks the registry: a manifest that somebody checks meanwhile is in use.
    installation.until(lambda: (status()["last_run"] or {}).get("state") == "done", "the job to end")
    assert [pusher.digest_of(APP, oci_image(tag).digest) for tag in ("pr-1", "pr-2")] == [None, None]
    assert pusher.digest_of(APP, "v1") == oci_image("v1").digest
    installation.until_applied()
    entries = installation.audit("&action=cleanup.tag_deleted")
    assert {(each["tag"], each["actor"]["name"]) for each in entries} == {
        ("pr-1", "quick"),
        ("pr-2", "quick"),
    }
    (asked,) = installation.audit("&action=job.requested")[-1:]
    assert (asked["source"], asked["actor"]["name"], asked["detail"]["kind"]) == (
        "policy",
        "quick",
        "cleanup",
    )
    del wired_registry
