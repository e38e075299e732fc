"""Checkpoints in the registry itself: pushed by the reconciler, pulled and verified by somebody else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.clients import client
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

REPOSITORY = "audit/checkpoints"
ARTIFACT = "application/vnd.registry-indexer.audit.checkpoint.v1"
PUSH = ("reconciler", "checkpoint", "push", "--json")
EAGER = {"INDEXER_AUDIT_CHECKPOINT_INTERVAL": "1ms", "RECONCILER_CHECKPOINT_REPOSITORY": REPOSITORY}


@pytest.fixture(scope="session")
def oras() -> str:
    """The path of oras; CI has built it before."""
    return client("oras")


@pytest.fixture
def signing(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """An installation whose server signs whatever is sealed."""
    original = installation.environment
    monkeypatch.setattr(installation, "environment", lambda **given: original(**{**EAGER, **given}))
    installation.end(installation.server)
    installation.serve()
    return installation


def until_signed(signing: Installation) -> None:
    """Wait until a checkpoint counts every entry."""

    def signed() -> bool:
        status = signing.get("/api/v1/status")
        sealed = not status["unsealed"]["entries"]
        return sealed and bool(0 < status["audit_proof"]["signed_position"] == status["audit_position"])

    signing.until(signed, "the newest entries to be signed")


def errors_of_pushing(signing: Installation) -> list[str | None]:
    """What the loop that pushes says of its last round; empty before it said anything."""
    loops = signing.get("/api/v1/status")["loops"]
    return [loop["last_error"] for loop in loops if loop["loop"] == "checkpoint-push"]


def pull(oras: str, registry: RegistryServer, tag: str, directory: Path) -> Path:
    """Pull a checkpoint as an auditor would; return the file."""
    reference = f"{registry.host}/{REPOSITORY}:{tag}"
    subprocess.run(
        [oras, "pull", "--plain-http", "--output", str(directory), reference], check=True, capture_output=True
    )
    return directory / "checkpoint"


def test_checkpoint__is_pushed_pulled_and_verified(
    signing: Installation, wired_registry: RegistryServer, pusher: Pusher, oras: str, tmp_path: Path
) -> None:
    """The loop pushes what is signed; a real client pulls it; an export verifies against it; pushing ends by itself."""
    pusher.push("team/app", oci_image(seed="one"), tag="v1")
    signing.until(lambda: "v1" in signing.tags("team/app"), "the first push")
    signing.until_applied()
    until_signed(signing)
    reconciler = signing.start("reconciler", "run", RECONCILER_CHECKPOINT_INTERVAL="1ms")
    signing.until(lambda: "latest" in signing.tags(REPOSITORY), "the news of the push")
    signing.until_settled()
    signing.until(
        lambda: REPOSITORY == signing.get("/api/v1/status")["audit_proof"]["pushed_to"], "the push on record"
    )
    signing.until(lambda: [None] == errors_of_pushing(signing), "the loop to say that all is well")
    signing.until(
        lambda: re.search(
            r"^indexer_audit_pushed_position [\d.]+$", signing.ask("/metrics").text, re.MULTILINE
        ),
        "the gauge of what was pushed",
    )

    # The push is an ordinary one: what it did is in the log, which therefore grew, and is not pushed again.
    own = signing.audit(f"&repository={REPOSITORY}")
    assert {"tag.created", "manifest.pushed"} <= {entry["action"] for entry in own}
    assert {"registry-indexer-reconciler"} == {
        entry["request"]["user_agent"].partition("/")[0] for entry in own if entry["source"] == "notification"
    }
    signing.end(reconciler)
    until_signed(signing)
    asked = signing.run(*PUSH)
    assert (0, "own_entries_only") == (asked.exit_code, asked.json["outcome"]), asked.error

    file = pull(oras, wired_registry, "latest", tmp_path)
    size = file.read_text("utf-8").splitlines()[1]
    assert file.read_bytes() == pull(oras, wired_registry, size, tmp_path / "again").read_bytes()
    tag = signing.get(f"/api/v1/repositories/{REPOSITORY}/tags/latest")
    assert (ARTIFACT, "artifact") == (tag["artifact_type"], tag["kind"])
    key, log, proof = (tmp_path / name for name in ("key", "log", "proof"))
    key.write_text(signing.run("indexer", "audit", "key").output)
    export = ("indexer", "audit", "export", "--until", size)
    assert 0 == signing.run(*export, "--output", str(log), "--proof", str(tmp_path / "newest")).exit_code
    assert 0 == signing.run("indexer", "audit", "proof", "--size", size, "--output", str(proof)).exit_code
    files = ("--proof", str(proof), "--key", str(key), "--checkpoint", str(file))
    verified = signing.run("indexer", "audit", "verify", str(log), *files, INDEXER_DATABASE_URL=None)
    assert 0 == verified.exit_code, verified.output
    assert f"entries 1 to {size} of {size} are as they were signed" in verified.output

    pushed = pusher.push("team/app", oci_image(seed="two"), tag="v1")
    signing.until(lambda: {"v1": pushed} == signing.tags("team/app"), "the second push")
    signing.until_applied()
    until_signed(signing)
    again = signing.run(*PUSH)
    assert (0, "pushed") == (again.exit_code, again.json["outcome"]), again.error
    assert int(size) < again.json["size"]


@pytest.mark.parametrize("why", ["read-only", "wrong password", "no password"])
def test_checkpoint__that_the_registry_refuses_is_said(
    signing: Installation, start_registry: StartRegistry, registry_version: int, why: str
) -> None:
    """A registry that is read-only or takes another password: one line that names the repository, exit code 1."""
    read_only = {"storage": {"maintenance": {"readonly": {"enabled": True}}}} if why == "read-only" else {}
    registry = start_registry(registry_version, htpasswd=True, extra=read_only)
    assert 202 == signing.post(b'{"events": []}')
    signing.run("indexer", "audit", "erase", "--older-than", "1d")  # an entry of the log
    until_signed(signing)
    password = {"read-only": HTPASSWD_PASSWORD, "wrong password": "wrong", "no password": None}[why]
    refused = signing.run(
        *PUSH,
        RECONCILER_REGISTRY_URL=registry.url,
        RECONCILER_REGISTRY_USERNAME=password and HTPASSWD_USER,
        RECONCILER_REGISTRY_PASSWORD=password,
    )
    assert 1 == refused.exit_code
    (line,) = refused.error_lines
    assert ("read-only" if why == "read-only" else "password") in line
    if why == "read-only":
        assert f"refuses the checkpoint in {REPOSITORY}" in line
