"""Storage that is there in part, or may not be written: nothing is deleted for it, and all is well when it is back."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.fixtures.storage import repository_of, root_of
from tools.registry_server import RegistryServer
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

pytestmark = pytest.mark.slow

REPOSITORIES = tuple(f"team/app{number}" for number in range(4))
TAGS = 4
BRAKED = 3


@pytest.fixture
def filled(installation: Installation, plain_registry: RegistryServer) -> RegistryServer:
    """A registry with sixteen tags in four repositories, all on record."""
    with Pusher(plain_registry.url) as client:
        for repository in REPOSITORIES:
            for number in range(TAGS):
                image = oci_image(f"{repository} {number}", layer_sizes=(64,))
                client.push(repository, image, f"v{number}")
    assert 0 == installation.run("reconciler", "once").exit_code
    return plain_registry


def tags(installation: Installation) -> dict[tuple[str, str], tuple[str, bool]]:
    found: list[dict[str, Any]] = installation.get("/api/v1/tags?limit=1000")["items"]
    return {(row["repository"], row["name"]): (row["digest"], row["broken"]) for row in found}


def deletions(installation: Installation) -> list[str]:
    return [entry["action"] for entry in installation.audit() if entry["action"].endswith(".deleted")]


def test_storage__half_of_the_repositories_missing(
    installation: Installation, filled: RegistryServer
) -> None:
    """Half a mount pulls the brake, which says what it holds back; mounted again, nothing had happened."""
    before = tags(installation)
    place = repository_of(filled, "team")
    aside = filled.storage_dir.with_name("aside")
    aside.mkdir()
    for name in ("app0", "app1"):
        (place / name).rename(aside / name)
    done = installation.run("reconciler", "once", "--json")
    assert BRAKED == done.exit_code, done.error
    assert 2 * TAGS == len(done.json["held_back"])
    assert "8 of 16 tags are in repositories that the registry no longer knows" in done.json["brake"]
    assert before == tags(installation)
    for name in ("app0", "app1"):
        (aside / name).rename(place / name)
    assert 0 == installation.run("reconciler", "once").exit_code
    assert before == tags(installation)
    assert [] == deletions(installation)


def test_storage__content_missing(installation: Installation, filled: RegistryServer) -> None:
    """Links without their content make tags broken, not gone; manifests are held back, and all can be read again."""
    before = tags(installation)
    content = root_of(filled) / "blobs"
    aside = content.rename(filled.storage_dir.with_name("content"))
    filled.restart()
    done = installation.run("reconciler", "once", "--json")
    assert BRAKED == done.exit_code, done.output + done.error
    broken = tags(installation)
    assert {key: digest for key, (digest, _) in before.items()} == {
        key: digest for key, (digest, _) in broken.items()
    }
    assert {True} == {each for _, each in broken.values()}
    shutil.rmtree(content, ignore_errors=True)
    aside.rename(content)
    filled.restart()
    assert 0 == installation.run("reconciler", "once").exit_code
    assert before == tags(installation)
    assert [] == deletions(installation)


def test_storage__read_only(
    installation: Installation, filled: RegistryServer, start_registry: StartRegistry, registry_version: int
) -> None:
    """A registry that may not be written is looked at like any other, and nothing changes."""
    before = tags(installation)
    filled.stop()
    read_only = start_registry(
        registry_version,
        storage_dir=filled.storage_dir,
        extra={"storage": {"maintenance": {"readonly": {"enabled": True}}}},
    )
    done = installation.run("reconciler", "once", "--json", RECONCILER_REGISTRY_URL=read_only.url)
    assert 0 == done.exit_code, done.error
    assert (len(before), 0) == (done.json["counts"]["tags"], done.json["counts"].get("changed", 0))
    assert before == tags(installation)
    assert [] == deletions(installation)
