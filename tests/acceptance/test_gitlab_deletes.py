"""GitLab deletes repositories and cleans up through the proxy, and deletes nothing while the indexer is away."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.gitlab_worker import GitLabWorker
from tests.fixtures.installation import API_TOKEN, PATIENCE_SECONDS, PROXY_SECRET
from tests.fixtures.proxies import failing, proxied, usual
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

APP = "team/app"
PAGE = f"/gitlab/v1/repositories/{APP}/tags/list/?n=1000"
TAGS = 16
FEW = 8
SHARED = 4
"""So many tags point to the same manifest."""
LISTS = [
    pytest.param("tags-list", id="our-list"),
    pytest.param("", id="registrys-list", marks=pytest.mark.full),
]


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


def push_some(url: str, repository: str, count: int = TAGS) -> set[str]:
    """Push tags, of which some share a manifest."""
    with Pusher(url) as pusher:
        for number in range(count):
            image = oci_image(
                f"{repository} {number // SHARED}", created=f"2026-01-{1 + number // SHARED:02}T00:00:00Z"
            )
            pusher.push(repository, image, f"v{number}")
    return {f"v{number}" for number in range(count)}


def registrys_tags(registry: RegistryServer, repository: str) -> set[str]:
    answer = REQUESTS.get(f"{registry.url}/v2/{repository}/tags/list")
    return set(answer.json()["tags"] or []) if answer.status_code == 200 else set()


def until_listed(worker: GitLabWorker, tags: set[str]) -> None:
    """Wait until GitLab's own list has the tags: it may have to ask again, as a 503 says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    path = f"/gitlab/v1/repositories/{worker.repository}/tags/list/?n=1000"
    while {row["name"] for row in worker.page(path)[0]} != tags:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def attempt(worker: GitLabWorker) -> int:
    """Run the worker once; return how many tags it counts in the end."""
    worker.requests.clear()
    worker.unavailable.clear()
    return worker.delete_repository()


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("name", ["nginx", pytest.param("caddy", marks=pytest.mark.full)])
def test_repository__is_deleted_at_the_first_attempt(
    name: str, lists: str, installation: Installation, wired_registry: RegistryServer, tmp_path: Path
) -> None:
    """Right after its last deletion GitLab counts the tags: a list that lags behind would fail the deletion."""
    installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()
    included = usual(wired_registry) - {"tags-list"} | ({lists} if lists else set())
    with (
        proxied(name, wired_registry, installation, directory, optional=frozenset(included)) as address,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        for repository in ("team/one", "team/two"):
            tags = push_some(f"http://{address}", repository)
            worker = GitLabWorker(client, repository, API_TOKEN)
            until_listed(worker, tags)
            # On a machine that is too busy for an answer in time, GitLab is told to come again, and nothing is deleted.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (left := attempt(worker)) == TAGS and worker.unavailable:
                assert time.monotonic() < deadline
                assert not [path for method, path in worker.requests if method == "DELETE"]
            assert left == 0, repository
            assert registrys_tags(wired_registry, repository) == set()
            deletions = [path for method, path in worker.requests if method == "DELETE"]
            assert len(deletions) == (1 if wired_registry.major == 2 else TAGS)
            until_listed(worker, set())


@pytest.fixture(params=["nginx", pytest.param("caddy", marks=pytest.mark.full)])
def worker(
    request: pytest.FixtureRequest, installation: Installation, wired_registry: RegistryServer, tmp_path: Path
) -> Iterator[GitLabWorker]:
    """GitLab, in front of a repository with a few tags that its own list has."""
    installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()
    with (
        proxied(request.param, wired_registry, installation, directory) as address,
        httpx.Client(base_url=f"http://{address}", timeout=60) as client,
    ):
        worker = GitLabWorker(client, APP, API_TOKEN)
        until_listed(worker, push_some(f"http://{address}", APP, FEW))
        yield worker


def nothing_is_deleted(worker: GitLabWorker, registry: RegistryServer, trouble: str) -> None:
    """Clean up, and delete the repository: the API is there, its lists are not, and the tags are counted as ever."""
    worker.requests.clear()
    assert worker.clean_up(keep=1) == [], trouble
    assert worker.delete_repository() == FEW, trouble  # the true count: GitLab comes again later
    assert {"GET"} == {method for method, _ in worker.requests}, trouble
    assert not [path for _, path in worker.requests if "/blobs/" in path], (
        trouble
    )  # not by the dates of builds
    assert len(registrys_tags(registry, APP)) == FEW, trouble


def test_cleanup__deletes_nothing_in_an_outage(
    worker: GitLabWorker, installation: Installation, wired_registry: RegistryServer
) -> None:
    """The indexer is stopped or fails: nothing is deleted. When it is back, all tags but one are."""
    installation.end(installation.server)
    nothing_is_deleted(worker, wired_registry, "stopped")
    for status in (500, 502, 503, 504):
        with failing(installation.address, status):
            nothing_is_deleted(worker, wired_registry, str(status))

    installation.serve()
    tags = registrys_tags(wired_registry, APP)
    until_listed(worker, tags)
    deleted = worker.clean_up(keep=1)
    assert len(deleted) == FEW - 1
    (kept,) = registrys_tags(wired_registry, APP)
    assert tags == {kept, *deleted}


@pytest.mark.full
def test_cleanup__deletes_nothing_while_the_indexer_hangs(
    worker: GitLabWorker, installation: Installation, wired_registry: RegistryServer
) -> None:
    """A process that takes connections and never answers is an outage, too."""
    server = installation.server
    assert server is not None
    server.send_signal(signal.SIGSTOP)
    try:
        nothing_is_deleted(worker, wired_registry, "hangs")
    finally:
        server.send_signal(signal.SIGCONT)
