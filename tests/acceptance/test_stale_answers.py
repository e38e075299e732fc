"""The hunt for a stale answer: concurrent writers who push and delete through the proxy, and ask right after."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg
import httpx
import pytest

from indexer.oci.digest import digest_of
from tests.fixtures.clients import client
from tests.fixtures.installation import PROXY_SECRET
from tests.fixtures.proxies import PROXIES, proxied
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

SHARED = "team/shared"
OF_CLIENTS = ("team/crane", "team/oras", "team/skopeo")
"""Each has its own: 2.8 answers 500 while two store one manifest in one repository."""
WRITERS = 4
FEW_ROUNDS = 30
"""Of a writer, each with two pairs of a write and a question."""
ROUNDS = 128
CRANE, ORAS, SKOPEO = 100, 80, 60
"""Pairs of each client. For two proxies and two registries this makes 5,056 pairs."""
ALONE = "PYTEST_XDIST_WORKER" not in os.environ
"""Who answers depends on how fast the machine is: beside other tests (without ``-n 0``) the share is only reported."""
BY_US = 0.95 if ALONE else 0.1
STILL_BY_US = 0.5 if ALONE else 0.1
"""After restarts: for each event that was lost, every question has a tag verified."""
KILLS = 9
ATTEMPTS = 3
"""On a machine that others use, a share is measured again; what is stale is stale."""


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


@dataclass
class Hunt:
    """What was asked, and what came of it. ``address`` writes, ``reader`` is asked: they may be two."""

    address: str
    reader: str
    installation: Installation
    pairs: int = 0
    stale: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    before: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        self.before = self.outcomes()

    def outcomes(self) -> tuple[float, float]:
        """How many questions the indexer answered, and how many it handed over."""
        text = REQUESTS.get(f"{self.installation.url}/metrics", timeout=30).text
        found = dict(
            re.findall(r'^indexer_barrier_questions_total\{outcome="(\w+)"\} (\S+)$', text, re.MULTILINE)
        )
        return float(found["passed"]), float(found["refused"])

    def ask(self, client: httpx.Client, repository: str, tag: str, *, there: bool, last: str) -> None:
        """Ask for the list, where ``tag`` was written by nobody else."""
        while True:
            began = time.monotonic()
            answer = client.get(f"http://{self.reader}/v2/{repository}/tags/list")
            seconds = time.monotonic() - began
            if answer.status_code != 502:  # the registry restarts
                break
        assert answer.status_code == 200, answer.text
        listed = answer.json()["tags"] or []
        by_us = answer.headers.get("cache-control") == "no-store"
        with self.lock:
            self.seconds.append(seconds)
        self.note(
            tag in listed, there, f"{repository}:{tag} after {last}, by {'us' if by_us else 'the registry'}"
        )

    def note(self, found: bool, expected: bool, what: str) -> None:
        """Count a pair."""
        with self.lock:
            self.pairs += 1
            if found is not expected:
                self.stale.append(what)

    def report(self) -> tuple[str, float]:
        """What is to be said, and the share of questions that the indexer answered."""
        passed, refused = (now - then for now, then in zip(self.outcomes(), self.before, strict=True))
        share = passed / max(1.0, passed + refused)
        ordered = sorted(self.seconds) or [0.0]
        middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        words = f"{self.pairs} pairs, {len(self.stale)} stale, {share:.1%} by us"
        return f"{words}, p50 {1000 * middle:.0f} ms, p99 {1000 * late:.0f} ms", share


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
        prepare(found, installation)
        yield found


def prepare(address: str, installation: Installation) -> None:
    """Push what the writers begin with, and wait until the indexer answers."""
    for repository in (SHARED, *OF_CLIENTS, *(f"team/of-{number}" for number in range(WRITERS))):
        with Pusher(f"http://{address}") as pusher:
            pusher.push(repository, oci_image("hunted"), "first")

    def answers() -> bool:
        answer = httpx.get(f"http://{address}/v2/{SHARED}/tags/list")
        return bool(answer.headers.get("cache-control") == "no-store")

    installation.until(answers, "the indexer to answer")


def write_and_ask(hunt: Hunt, number: int, rounds: range) -> None:
    """Push a manifest and delete it by its digest in a repository of its own; push two in one with others.

    2.8 answers 500 to a deletion by digest while another removes a tag of the same repository.
    """
    image = oci_image("hunted")
    manifest = json.loads(image.manifest.data)
    with httpx.Client(base_url=f"http://{hunt.address}", timeout=60) as client:

        def write(method: str, path: str, **more: object) -> bool:
            """Return whether the registry took it; while it restarts it takes nothing, and it is tried again."""
            for _ in range(600):
                answer = client.request(method, path, **more)  # type: ignore[arg-type]
                if answer.status_code not in (502, 503, 504):
                    assert answer.status_code in (201, 202, 404), answer.text
                    return True
                time.sleep(0.1)
            return False

        for round_number in rounds:
            repository = SHARED if round_number % 2 else f"team/of-{number}"
            tag = f"t{number}-{round_number}"
            path = f"/v2/{repository}/manifests/"
            content = json.dumps(manifest | {"annotations": {"org.example.tag": tag}}).encode()
            headers = {"Content-Type": image.media_type}
            assert write("PUT", path + tag, content=content, headers=headers)
            hunt.ask(client, repository, tag, there=True, last="push")
            if repository == SHARED:
                assert write("PUT", f"{path}{tag}-again", content=content, headers=headers)
                hunt.ask(client, repository, f"{tag}-again", there=True, last="second push")
            else:
                assert write("DELETE", path + digest_of(content))
                hunt.ask(client, repository, tag, there=False, last="deletion")


def is_left_over(registry_url: str, stale: str) -> bool:
    """Whether the registry lists the tag itself: it was ended in the middle of the deletion, and keeps the tag."""
    repository, _, tag = stale.partition(" ")[0].partition(":")
    listed = REQUESTS.get(f"{registry_url}/v2/{repository}/tags/list").json()["tags"] or []
    return " after deletion, " in stale and tag in listed


def write_all(hunt: Hunt, rounds: range) -> None:
    """Let all writers run to their end."""
    with ThreadPoolExecutor(WRITERS) as pool:
        for each in [pool.submit(write_and_ask, hunt, number, rounds) for number in range(WRITERS)]:
            each.result()


def test_hunt__concurrent_writers_see_what_they_wrote(address: str, installation: Installation) -> None:
    """No answer is older than the write before the question, and most are the indexer's."""
    for attempt in range(ATTEMPTS):
        hunt = Hunt(address, address, installation)
        write_all(hunt, range(attempt * FEW_ROUNDS, (attempt + 1) * FEW_ROUNDS))
        words, share = hunt.report()
        print(words)
        assert hunt.stale == []
        if share >= BY_US:
            return
    pytest.fail(words)


@pytest.mark.full
@pytest.mark.slow
def test_hunt__real_clients_see_what_they_wrote(
    address: str, installation: Installation, skopeo: str, tmp_path: Path
) -> None:
    """crane, oras, skopeo and plain HTTP, all at once: no answer is stale, and nearly all are the indexer's."""
    crane, oras = client("crane"), client("oras")
    of_crane, of_oras, of_skopeo = (f"{address}/{repository}" for repository in OF_CLIENTS)
    hunt = Hunt(address, address, installation)

    def run(*command: str) -> str:
        done = subprocess.run(command, check=False, timeout=120, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def by_crane(number: int) -> None:
        run(crane, "tag", "--insecure", f"{of_crane}:first", f"crane-{number}")
        listed = run(crane, "ls", "--insecure", of_crane).split()
        hunt.note(f"crane-{number}" in listed, True, f"crane-{number}")  # noqa: FBT003 - expected

    def by_oras(number: int) -> None:
        run(oras, "tag", "--plain-http", f"{of_oras}:first", f"oras-{number}")
        listed = run(oras, "repo", "tags", "--plain-http", of_oras).split()
        hunt.note(f"oras-{number}" in listed, True, f"oras-{number}")  # noqa: FBT003 - expected

    def by_skopeo(number: int) -> None:
        tls = ["--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"]
        source, target = f"docker://{of_skopeo}:first", f"docker://{of_skopeo}:skopeo-{number}"
        run(skopeo, "copy", "--quiet", *tls, source, target)
        listed = json.loads(run(skopeo, "list-tags", "--tls-verify=false", f"docker://{of_skopeo}"))["Tags"]
        hunt.note(f"skopeo-{number}" in listed, True, f"skopeo-{number}")  # noqa: FBT003 - expected

    def often(by: Callable[[int], None], count: int) -> None:
        for number in range(count):
            by(number)

    with ThreadPoolExecutor(4) as pool:
        running = [
            pool.submit(often, by_crane, CRANE),
            pool.submit(often, by_oras, ORAS),
            pool.submit(often, by_skopeo, SKOPEO),
        ]
        write_all(hunt, range(1000, 1000 + ROUNDS))
        for each in running:
            each.result()
    words, share = hunt.report()
    print(words)
    assert hunt.stale == []
    assert share >= BY_US, words


@pytest.mark.full
@pytest.mark.slow
def test_hunt__two_registry_processes_and_a_rolling_restart(
    installation: Installation, start_registry: StartRegistry, registry_version: int, tmp_path: Path
) -> None:
    """Who writes through one process and asks through another sees it; a restart drops events, and locks nobody out."""
    storage = tmp_path / "storage"
    registries = [
        start_registry(registry_version, notifications=[installation.endpoint], storage_dir=storage)
        for _ in range(2)
    ]
    installation.connect(registries[0])
    installation.start("reconciler", "run")
    with ExitStack() as stack:
        addresses = []
        for number, registry in enumerate(registries):
            directory = tmp_path / f"proxy-{number}"
            directory.mkdir()
            addresses.append(stack.enter_context(proxied("nginx", registry, installation, directory)))
        for each in addresses:
            prepare(each, installation)
        hunts = [Hunt(one, other, installation) for one, other in (addresses, addresses[::-1])]
        with ThreadPoolExecutor(2) as pool:
            running = [
                pool.submit(write_and_ask, hunt, number, range(60)) for number, hunt in enumerate(hunts)
            ]
            while not all(writer.done() for writer in running):
                time.sleep(1.0)
                registries[1].restart()
            for writer in running:
                writer.result()
        print(*(hunt.report()[0] for hunt in hunts), sep="\n")
        assert [
            stale for hunt in hunts for stale in hunt.stale if not is_left_over(registries[0].url, stale)
        ] == []
        after = Hunt(addresses[0], addresses[1], installation)
        write_all(after, range(2000, 2000 + FEW_ROUNDS))
        words, share = after.report()
        print(words)
        assert after.stale == []
        assert share >= STILL_BY_US, words


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("proxy_name", PROXIES)
def test_hunt__while_everything_is_killed(
    installation: Installation, wired_registry: RegistryServer, proxy_name: str, tmp_path: Path
) -> None:
    """The indexer, the reconciler and all connections to the database end between notice and event: no stale answer."""
    reconciler = installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()

    def end_connections() -> None:
        asyncio.run(terminate_backends(installation.database_url))

    with proxied(proxy_name, wired_registry, installation, directory) as address:
        prepare(address, installation)
        hunt = Hunt(address, address, installation)
        with ThreadPoolExecutor(WRITERS) as pool:
            running = [pool.submit(write_and_ask, hunt, number, range(200)) for number in range(WRITERS)]
            for turn in range(KILLS):
                time.sleep(2.0)
                match turn % 3:
                    case 0:
                        installation.end(installation.server, signal.SIGKILL)
                        installation.serve()
                    case 1:
                        installation.end(reconciler, signal.SIGKILL)
                        reconciler = installation.start("reconciler", "run")
                    case _:
                        end_connections()
            for writer in running:
                writer.result()
        print(f"{hunt.pairs} pairs, {len(hunt.stale)} stale")
        assert hunt.stale == []
        prepare(address, installation)


async def terminate_backends(database_url: str) -> None:
    """End every connection to the database but this one, as a failover does."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
