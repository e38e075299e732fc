"""The hunt for a stale answer: concurrent writers who push and delete through the proxy, and ask right after."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from indexer.oci.digest import digest_of
from tests.fixtures.installation import PROXY_SECRET
from tests.fixtures.proxies import PROXIES, proxied
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

SHARED = "team/shared"
WRITERS = 4
ROUNDS = 160
"""Of a writer, each with two pairs of a write and a question: 5,120 pairs for two proxies and two registries."""
COPIES = 25


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


@dataclass
class Hunt:
    """What was asked, and what came of it."""

    ours: int = 0
    stale: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, client: httpx.Client, repository: str, tag: str, *, there: bool, last: str) -> None:
        """Ask for the list, where ``tag`` was written by nobody else."""
        began = time.monotonic()
        answer = client.get(f"/v2/{repository}/tags/list")
        seconds = time.monotonic() - began
        by_us = answer.headers.get("cache-control") == "no-store"
        listed = answer.json().get("tags") or [] if answer.status_code == 200 else None
        with self.lock:
            self.ours += by_us
            self.seconds.append(seconds)
            if listed is None or (tag in listed) is not there:
                self.stale.append(f"{repository}:{tag} after {last}, by {'us' if by_us else 'the registry'}")

    def report(self) -> str:
        ordered = sorted(self.seconds)
        middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return (
            f"{len(ordered)} pairs, {len(self.stale)} stale, {self.ours / len(ordered):.1%} by us, "
            f"p50 {1000 * middle:.0f} ms, p99 {1000 * late:.0f} ms"
        )


@pytest.fixture(params=PROXIES)
def address(
    request: pytest.FixtureRequest,
    installation: Installation,
    wired_registry: RegistryServer,
    tmp_path: Path,
) -> Iterator[str]:
    """The address of a proxy behind which the indexer answers."""
    installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()
    with proxied(request.param, wired_registry, installation, directory) as found:
        for repository in (SHARED, *(f"team/of-{number}" for number in range(WRITERS))):
            with Pusher(f"http://{found}") as pusher:
                pusher.push(repository, oci_image("hunted"), "first")

        def answers() -> bool:
            answer = httpx.get(f"http://{found}/v2/{SHARED}/tags/list")
            return bool(answer.headers.get("cache-control") == "no-store")

        installation.until(answers, "the indexer to answer")
        yield found


def write_and_ask(address: str, hunt: Hunt, number: int, rounds: int) -> None:
    """Push a manifest and delete it by its digest in a repository of its own; push two in one with others.

    2.8 answers 500 to a deletion by digest while another removes a tag of the same repository.
    """
    image = oci_image("hunted")
    manifest = json.loads(image.manifest.data)
    with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        for round_number in range(rounds):
            repository = SHARED if round_number % 2 else f"team/of-{number}"
            tag = f"t{number}-{round_number}"
            path = f"/v2/{repository}/manifests/"
            content = json.dumps(manifest | {"annotations": {"org.example.tag": tag}}).encode()
            headers = {"Content-Type": image.media_type}
            pushed = client.put(path + tag, content=content, headers=headers)
            assert pushed.status_code == 201, pushed.text
            hunt.ask(client, repository, tag, there=True, last="push")
            if repository == SHARED:
                again = client.put(f"{path}{tag}-again", content=content, headers=headers)
                assert again.status_code == 201, again.text
                hunt.ask(client, repository, f"{tag}-again", there=True, last="second push")
            else:
                deleted = client.delete(path + digest_of(content))
                assert deleted.status_code == 202, deleted.text
                hunt.ask(client, repository, tag, there=False, last="deletion")


@pytest.mark.full
@pytest.mark.slow
def test_hunt__concurrent_writers_see_what_they_wrote(address: str) -> None:
    """No answer is older than the write before the question; on a machine that is not starved nearly all are ours."""
    hunt = Hunt()
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(write_and_ask, address, hunt, number, ROUNDS) for number in range(WRITERS)]
        for each in running:
            each.result()
    print(hunt.report())
    assert hunt.stale == []
    assert hunt.ours >= 0.5 * len(hunt.seconds), hunt.report()


@pytest.mark.full
@pytest.mark.slow
def test_hunt__skopeo_lists_what_it_copied(address: str, skopeo: str, tmp_path: Path) -> None:
    """A client that nobody here wrote copies an image to a new tag, and lists it at once."""
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"]
    image = f"docker://{address}/{SHARED}"
    for number in range(COPIES):
        copy = [skopeo, "copy", "--quiet", *plain, f"{image}:first", f"{image}:copy-{number}"]
        subprocess.run(copy, check=True, timeout=120, cwd=tmp_path)
        listed = subprocess.run(
            [skopeo, "list-tags", "--tls-verify=false", image],
            check=True,
            timeout=120,
            cwd=tmp_path,
            capture_output=True,
        )
        assert f"copy-{number}" in json.loads(listed.stdout)["Tags"]
