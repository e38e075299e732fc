"""``reconciler plan`` and ``once``: what notifications missed is found, shown and repaired, on real registries."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from indexer.inventory.precedence import RACE_WINDOW
from tests.fixtures.storage import blob_of, revision_of, tags_of
from tools.sample_images import Pusher, artifact, docker_image, multi_platform, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"
DRIFT = 2
BRAKED = 3


def everything(installation: Installation) -> dict[str, Any]:
    """All that a walk could have touched."""
    paths = ("repositories", "tags", "audit", "drift")
    found = {path: installation.get(f"/api/v1/{path}?limit=1000") for path in paths}
    return {path: [page["items"], page.get("runs")] for path, page in found.items()}


def test_once__queue_lost(installation: Installation, wired_registry: RegistryServer, pusher: Pusher) -> None:
    """What a registry's restart drops from its queue, plan shows (2) and does not touch, and once repairs (0)."""
    first, second, rebuilt = (oci_image(name) for name in ("first", "second", "rebuilt"))
    pusher.push(APP, first, "kept")
    pusher.push(APP, first, "moved")
    pusher.push(APP, second, "deleted")
    installation.until(lambda: len(installation.tags(APP)) == 3, "what was told")
    installation.end(installation.server)
    pusher.push(APP, rebuilt, "moved")
    pusher.push(APP, rebuilt, "created")
    pusher.push("team/new", second, "v1")
    assert 202 == pusher.delete(APP, second.digest).status
    wired_registry.restart()
    installation.serve()
    installation.until_applied()

    before = everything(installation)
    planned = installation.run("reconciler", "plan", "--json")
    assert DRIFT == planned.exit_code, planned.error
    assert {
        ("tag_stale", APP, "moved", first.digest, rebuilt.digest),
        ("tag_missing", APP, "created", None, rebuilt.digest),
        ("tag_missing", "team/new", "v1", None, second.digest),
        ("tag_extra", APP, "deleted", second.digest, None),
        ("manifest_extra", APP, None, second.digest, None),
    } == {
        (each["kind"], each["repository"], each["tag"], each["expected"], each["found"])
        for each in planned.json["differences"]
    }
    assert before == everything(installation)

    done = installation.run("reconciler", "once", "--json")
    assert 0 == done.exit_code, done.error
    assert "complete" == done.json["outcome"]
    assert {
        "kept": first.digest,
        "moved": rebuilt.digest,
        "created": rebuilt.digest,
    } == installation.tags(APP)
    assert {"v1": second.digest} == installation.tags("team/new")
    row = installation.get(f"/api/v1/repositories/{APP}/tags/created")
    assert rebuilt.size_bytes == row["size_bytes"]
    assert row["verified_at"]
    findings = installation.get("/api/v1/drift")["items"]
    assert {"moved", "created", "v1", "deleted", None} == {each["tag"] for each in findings}
    assert all(each["repaired_at"] for each in findings)
    repairs = installation.audit("&source=walk") + installation.audit(
        "&source=verify"
    )  # within the race window
    assert len(findings) == len(repairs)
    assert all(entry["event_id"] is None for entry in repairs)
    again = installation.run("reconciler", "plan")
    assert 0 == again.exit_code, again.output


def test_once__its_entries_claim_no_more_than_was_seen(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """How it is known and between when it happened; not who did it or through which process, which nobody told."""
    pusher.push(APP, oci_image("first"), "moved")
    pusher.push(APP, oci_image("second"), "deleted")
    installation.until(lambda: len(installation.tags(APP)) == 2, "what was told")
    installation.until_applied()
    told = {entry["tag"]: entry["occurred_at"] for entry in installation.audit("&action=tag.created")}
    installation.end(installation.server)
    before = datetime.now(UTC)
    pusher.push(APP, oci_image("rebuilt"), "moved")
    shutil.rmtree(tags_of(wired_registry, APP) / "deleted")
    after = datetime.now(UTC)
    wired_registry.restart()
    installation.serve()
    # Within the race window verification repairs a tag, not the walk.
    quiet = datetime.fromisoformat(max(told.values())) + RACE_WINDOW
    installation.until(lambda: datetime.now(UTC) > quiet, "the race window to pass")
    done = installation.run("reconciler", "once", "--json")
    assert 0 == done.exit_code, done.error
    installation.until_applied()

    (walked,) = installation.audit("&action=operator.reconciled")
    repairs = [entry for entry in installation.audit("&source=walk") if entry["tag"]]
    findings = {each["tag"]: each for each in installation.get("/api/v1/drift")["items"]}
    assert {("moved", "tag.moved"), ("deleted", "tag.deleted")} == {(e["tag"], e["action"]) for e in repairs}
    for entry in repairs:
        finding = findings[entry["tag"]]
        assert (None,) * 4 == (entry["actor"], entry["request"], entry["registry"], entry["event_id"])
        last_told, seen = entry["occurred_between"]
        assert (told[entry["tag"]], finding["detected_at"]) == (last_told, seen)
        assert datetime.fromisoformat(last_told) < before < after < datetime.fromisoformat(seen)
        assert seen == entry["occurred_at"] <= entry["recorded_at"]
        assert walked["recorded_at"] <= entry["recorded_at"]
        assert walked["detail"]["run_id"] == finding["run_id"]
        assert (finding["expected"], finding["found"]) == (
            entry["previous_digest"],
            entry["digest"] if entry["action"] == "tag.moved" else None,
        )
    assert walked["actor"]["name"]


def test_once__backfill(installation: Installation, plain_registry: RegistryServer) -> None:
    """A registry that was filled before we came is known after one walk, down to sizes and referrers."""
    index, subject = multi_platform("old"), docker_image("older")
    sbom = artifact("sbom", artifact_type="application/spdx+json", subject=subject)
    with Pusher(plain_registry.url) as client:
        client.push("debian", subject, "12")
        client.push("debian/12", index, "slim")
        client.push("debian", sbom, "sbom")
    done = installation.run("reconciler", "once", "--json")
    assert 0 == done.exit_code, done.error
    rows = {row["name"]: row for row in installation.get("/api/v1/tags")["items"]}
    assert {
        "12": (subject.digest, subject.size_bytes, "image"),
        "slim": (index.digest, index.size_bytes, "index"),
        "sbom": (sbom.digest, sbom.size_bytes, "sbom"),
    } == {name: (row["digest"], row["size_bytes"], row["kind"]) for name, row in rows.items()}
    referrers = installation.get("/api/v1/repositories/debian/tags/12")["referrers"]
    assert [sbom.digest] == [each["digest"] for each in referrers]
    causes = {each["cause"] for each in installation.get("/api/v1/drift")["items"]}
    assert {"first_reconcile"} == causes
    assert 0 == installation.run("reconciler", "once").exit_code
    assert 3 == len(installation.get("/api/v1/drift")["items"])


def test_once__one_repository(installation: Installation, plain_registry: RegistryServer) -> None:
    """Asked for one repository, it repairs that one and leaves the others alone."""
    image = oci_image("one")
    with Pusher(plain_registry.url) as client:
        for repository in (APP, "team/other"):
            client.push(repository, image, "v1")
    done = installation.run("reconciler", "once", "--repository", APP)
    assert 0 == done.exit_code, done.error
    assert {"v1": image.digest} == installation.tags(APP)
    assert {} == installation.tags("team/other")


def test_once__mistyped_repository(installation: Installation, plain_registry: RegistryServer) -> None:
    """A name that neither side knows is said so (1), and does not become a repository of the inventory."""
    with Pusher(plain_registry.url) as client:
        client.push(APP, oci_image("one"), "v1")
    for verb in ("once", "plan"):
        done = installation.run("reconciler", verb, "--repository", APP, "team/ap")
        assert 1 == done.exit_code
        assert "team/ap: neither the registry nor the inventory knows" in done.output
    assert [APP] == [row["name"] for row in installation.get("/api/v1/repositories")["items"]]


@pytest.mark.full
def test_once__dangling_tag(installation: Installation, plain_registry: RegistryServer) -> None:
    """A tag whose manifest is unlinked is listed as broken, not gone; once it can be read again, so it says."""
    image, other = oci_image("one"), oci_image("other")
    with Pusher(plain_registry.url) as client:
        client.push(APP, image, "v1")
        client.push(APP, other, "v2")
        assert 0 == installation.run("reconciler", "once").exit_code
        shutil.rmtree(revision_of(plain_registry, APP, image.digest))
        done = installation.run("reconciler", "once", "--json")
        assert 0 == done.exit_code, done.error
        rows = installation.get(f"/api/v1/repositories/{APP}/tags")["items"]
        assert {"v1": True, "v2": False} == {row["name"]: row["broken"] for row in rows}
        broken = installation.get(f"/api/v1/repositories/{APP}/tags?broken=true")["items"]
        assert ["v1"] == [row["name"] for row in broken]
        client.push(APP, image, "v1")
    assert 0 == installation.run("reconciler", "once").exit_code
    assert [] == installation.get(f"/api/v1/repositories/{APP}/tags?broken=true")["items"]
    assert ["tag.broken", "tag.readable"] == [
        entry["action"] for entry in installation.audit("&tag=v1") if entry["action"] != "tag.created"
    ]


@pytest.mark.full
def test_once__manifest_blob_removed(installation: Installation, plain_registry: RegistryServer) -> None:
    """A manifest that somebody removed from the blob store makes its tag broken, and is held no longer."""
    image, other = oci_image("one"), oci_image("other")
    with Pusher(plain_registry.url) as client:
        client.push(APP, image, "v1")
        client.push(APP, other, "v2")
    assert 0 == installation.run("reconciler", "once").exit_code
    blob_of(plain_registry, image.digest).unlink()
    assert DRIFT == installation.run("reconciler", "plan").exit_code
    done = installation.run("reconciler", "once", "--json")
    assert 0 == done.exit_code, done.error + done.output
    row = installation.get(f"/api/v1/repositories/{APP}/tags/v1")
    assert (image.digest, True) == (row["digest"], row["broken"])
    kinds = {
        (each["kind"], each["tag"]) for each in installation.get("/api/v1/drift?cause=dangling_tag")["items"]
    }
    assert {("tag_broken", "v1")} == kinds


@pytest.mark.full
def test_once__untagged_manifest_collected(
    installation: Installation, plain_registry: RegistryServer
) -> None:
    """What garbage collection took, of which no event tells, is no longer held after a walk."""
    old, new = oci_image("old"), oci_image("new")
    with Pusher(plain_registry.url) as client:
        client.push(APP, old, "v1")
        assert 0 == installation.run("reconciler", "once").exit_code
        client.push(APP, new, "v1")
    assert 0 == installation.run("reconciler", "once").exit_code
    plain_registry.stop()
    plain_registry.garbage_collect("--delete-untagged")
    plain_registry.start()
    assert 0 == installation.run("reconciler", "once").exit_code
    held = installation.get(f"/api/v1/repositories/{APP}/manifests")["items"]
    assert [new.digest] == [row["digest"] for row in held]
    assert {"v1": new.digest} == installation.tags(APP)


def test_brake__empty_storage(installation: Installation, plain_registry: RegistryServer) -> None:
    """An empty mount looks like an empty registry: nothing is deleted (3) until the brake is released."""
    with Pusher(plain_registry.url) as client:
        for number in range(4):
            client.push(f"team/app{number}", oci_image(f"image {number}", layer_sizes=(64,)), "v1")
    assert 0 == installation.run("reconciler", "once").exit_code
    plain_registry.stop()
    aside = plain_registry.storage_dir.rename(plain_registry.storage_dir.with_name("aside"))
    plain_registry.start()
    before = installation.get("/api/v1/tags")["items"]

    braked = installation.run("reconciler", "once", "--json")
    assert BRAKED == braked.exit_code, braked.error
    assert "braked" == braked.json["outcome"]
    assert 4 == len(braked.json["held_back"])
    assert "--release-brake" in installation.run("reconciler", "once").output
    assert before == installation.get("/api/v1/tags")["items"]
    assert [] == installation.audit("&action=tag.deleted")
    assert {None} == {
        each["repaired_at"] for each in installation.get("/api/v1/drift?repaired=false")["items"]
    }

    plain_registry.stop()
    aside.rename(plain_registry.storage_dir.with_name("mounted"))
    shutil.rmtree(plain_registry.storage_dir)
    plain_registry.storage_dir.with_name("mounted").rename(plain_registry.storage_dir)
    plain_registry.start()
    back = installation.run("reconciler", "once")
    assert 0 == back.exit_code, back.output
    assert [row["digest"] for row in before] == [
        row["digest"] for row in installation.get("/api/v1/tags")["items"]
    ]

    shutil.rmtree(plain_registry.storage_dir / "docker")
    assert BRAKED == installation.run("reconciler", "once").exit_code
    released = installation.run("reconciler", "once", "--release-brake")
    assert 0 == released.exit_code, released.output
    assert [] == installation.get("/api/v1/tags")["items"]
    assert 4 == len(installation.audit("&action=tag.deleted"))
    (released_by,) = installation.audit("&action=operator.brake_released")
    assert released_by["actor"]["name"]
    assert released_by["detail"]["brake"]
    walked = installation.audit("&action=operator.reconciled")
    assert released_by["detail"]["run_id"] in [entry["detail"]["run_id"] for entry in walked]


@pytest.mark.full
def test_once__beside_the_daemon(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """Walks beside a running reconciler and a busy registry repair nothing that is right."""
    installation.start("reconciler", "run")
    for number in range(20):
        pusher.push(APP, oci_image(f"busy {number}", layer_sizes=(64,)), f"t{number % 7}")
        if number % 5 == 0:
            done = installation.run("reconciler", "once", "--json")
            assert 0 == done.exit_code, done.error
    installation.until_settled()
    truth = {f"t{number}": pusher.digest_of(APP, f"t{number}") for number in range(7)}
    assert truth == installation.tags(APP)
    told = [entry for entry in installation.audit() if entry["tag"]]
    assert 20 == len([entry for entry in told if entry["source"] == "notification"])
    assert 20 == len(told)
