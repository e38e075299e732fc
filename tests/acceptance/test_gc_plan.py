"""``reconciler gc plan`` beside a real registry: what its own dry run says, and what it would damage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reconciler.storage.canary import REPOSITORY
from tools.sample_images import Pusher, artifact, index, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Done, Installation
    from tools.registry_server import RegistryServer

pytestmark = [pytest.mark.slow, pytest.mark.full]

OLD, NEW = oci_image("old"), oci_image("new")
MULTI = index([oci_image("amd64"), oci_image("arm64", platform="linux/arm64")])
SBOM = artifact("sbom", subject=NEW)


@pytest.fixture
def filled(plain_registry: RegistryServer) -> RegistryServer:
    """A tag that moved, an index, an SBOM by digest, a manifest that was deleted, and a blob that nothing needs."""
    with Pusher(plain_registry.url) as client:
        client.push("app", OLD, "v1")
        client.push("app", NEW, "v1")
        client.push("app", SBOM)
        client.push("multi", MULTI, "v1")
        gone = oci_image("gone")
        client.push("app", gone, "v2")
        client.delete("app", gone.digest)
    return plain_registry


def plan(installation: Installation, registry: RegistryServer, *options: str) -> Done:
    where = f"file://{registry.storage_dir}"
    return installation.run("reconciler", "gc", "plan", *options, RECONCILER_STORAGE_URL=where)


def dry_run(registry: RegistryServer, place: Path, *options: str) -> Path:
    place.write_text(registry.garbage_collect("--dry-run", *options), encoding="utf-8")
    return place


def deleted(shown: Any) -> tuple[set[str], set[tuple[str, str]]]:
    """Blobs and manifests of a plan, without those of the canary, which moves with every plan."""
    manifests = {(each["repository"], each["digest"]) for each in shown["manifests"]}
    canaries = {digest for name, digest in manifests if name == REPOSITORY}
    return (
        {each["digest"] for each in shown["blobs"]} - canaries,
        {each for each in manifests if each[0] != REPOSITORY},
    )


def test_gc_plan(installation: Installation, filled: RegistryServer, tmp_path: Path) -> None:
    """It names what the registry's dry run names, by storage and by its text; then, what that would damage."""
    shown = plan(installation, filled, "--json")
    said = dry_run(filled, tmp_path / "plain")
    assert (2, []) == (shown.exit_code, shown.error_lines)
    from_text = plan(installation, filled, "--from-dry-run", str(said), "--json")
    assert 2 == from_text.exit_code, from_text.error
    assert deleted(shown.json) == deleted(from_text.json)
    blobs, manifests = deleted(shown.json)
    assert (4, 0) == (len(blobs), len(manifests))
    assert shown.json["freed_bytes"] == sum(each["size_bytes"] for each in shown.json["blobs"]) > 0
    assert "canary" in shown.json["storage"]["proven_by"]
    assert shown.json["release"] == ("2.8" if filled.major == 2 else "3")
    assert (True, None) == (from_text.json["unsized_blobs"] > 0, from_text.json["storage"])

    compared = plan(installation, filled, "--compare", str(said))
    assert 2 == compared.exit_code, compared.output
    assert "the dry run says the same" in compared.output

    assert 0 == installation.run("reconciler", "once").exit_code
    untagged = plan(installation, filled, "--delete-untagged", "--json")
    said = dry_run(filled, tmp_path / "untagged", "--delete-untagged")
    by_record = plan(installation, filled, "--from-dry-run", str(said), "--json")
    assert deleted(untagged.json) == deleted(by_record.json)
    expected = {("H4", "app", SBOM.digest)}
    if filled.major == 2:
        expected |= {("H1", "multi", child.digest) for child in MULTI.children}
    named = {(each["code"], each["repository"], each["digest"]) for each in untagged.json["hazards"]}
    assert {each for each in named if each[0] in {"H1", "H3", "H4", "H5", "H6"}} == expected
    assert ("app", OLD.digest) in deleted(untagged.json)[1]
    by_record_named = {(each["code"], each["digest"]) for each in by_record.json["hazards"]}
    if filled.major == 2:
        assert {("H1", child.digest) for child in MULTI.children} <= by_record_named
        assert "H6" in {code for code, _ in by_record_named}
    else:
        assert set() == by_record_named
    differing = plan(installation, filled, "--compare", str(said))
    assert 1 == differing.exit_code
    assert "only in the dry run" in differing.output

    filled.garbage_collect()
    after = plan(installation, filled)
    assert 0 == after.exit_code, after.output
    assert "it would delete nothing" in after.output


def test_gc_plan__of_another_storage(
    installation: Installation, plain_registry: RegistryServer, tmp_path: Path
) -> None:
    """An empty directory is refused with one sentence; and so is text that is no whole dry run."""
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = installation.run("reconciler", "gc", "plan", RECONCILER_STORAGE_URL=f"file://{empty}")
    assert (1, "") == (refused.exit_code, refused.output)
    assert "not mounted" in refused.error
    cut = tmp_path / "cut"
    cut.write_text("app\napp: marking manifest sha256:…", encoding="utf-8")
    unread = installation.run("reconciler", "gc", "plan", "--from-dry-run", str(cut))
    assert (1, "") == (unread.exit_code, unread.output)
    assert "the dry run failed" in unread.error
    unset = installation.run("reconciler", "gc", "plan")
    assert 64 == unset.exit_code
    assert "RECONCILER_STORAGE_URL" in unset.error
    both = installation.run("reconciler", "gc", "plan", "--from-dry-run", str(cut), "--delete-untagged")
    assert 64 == both.exit_code
