"""Who writes through the proxy and then asks sees what was written, or what the registry itself says."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from indexer.store.write_notices import MOST_PER_ADDRESS
from tests.fixtures.installation import API_TOKEN, PATIENCE_SECONDS, PROXY_SECRET
from tests.fixtures.proxies import PROXIES, proxied
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Image, Pusher, artifact, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

APP = "team/app"
LIST = f"/v2/{APP}/tags/list"
OPERATOR = {"Authorization": f"Bearer {API_TOKEN}"}
ROUNDS = 12
FLOODERS = 8
FLOOD_SECONDS = 20.0


def by_us(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("cache-control") == "no-store")


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


@pytest.fixture(params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    installation: Installation,
    wired_registry: RegistryServer,
    tmp_path: Path,
) -> Iterator[httpx.Client]:
    """A client of the proxy, once the indexer answers by itself."""
    installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()
    image = oci_image("first")
    with (
        proxied(request.param, wired_registry, installation, directory) as address,
        httpx.Client(base_url=f"http://{address}", timeout=30, headers={"User-Agent": "client/1"}) as client,
    ):
        with Pusher(f"http://{address}") as pusher:
            pusher.push(APP, image, "first")
        installation.until(lambda: by_us(client.get(LIST)), "the indexer to answer")
        installation.until_settled()
        yield client


def put(proxy: httpx.Client, image: Image, tag: str) -> int:
    """Push a manifest whose blobs are there."""
    content = {"Content-Type": image.media_type}
    path = f"/v2/{APP}/manifests/{tag}"
    return proxy.put(path, content=image.manifest.data, headers=content).status_code


def tags(proxy: httpx.Client) -> tuple[set[str], bool]:
    answer = proxy.get(LIST)
    assert answer.status_code == 200, answer.text
    return set(answer.json()["tags"] or []), by_us(answer)


def gitlab_tags(proxy: httpx.Client) -> set[str]:
    """What GitLab gets; on a busy machine it may have to ask again, as the 503 says."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = proxy.get(f"/gitlab/v1/repositories/{APP}/tags/list/?n=1000", headers=OPERATOR)
        if answer.status_code == 200:
            return {tag["name"] for tag in answer.json()}
        assert answer.status_code == 503, answer.text
        assert time.monotonic() < deadline
        time.sleep(0.2)


def rounds(least: int, ours: Sequence[str]) -> Iterator[int]:
    """Count so far; on a busy machine, where the registry answers at first, go on until an answer was ours."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    number = 0
    while number < least or not ours:
        assert number < least or time.monotonic() < deadline, "the indexer never answered"
        yield number
        number += 1


def test_write__then_ask(proxy: httpx.Client, installation: Installation) -> None:
    """After each push and each deletion the next list has it, whoever answers; the indexer does."""
    image = oci_image("first")
    ours: list[str] = []

    def check(tag: str, *, there: bool) -> None:
        listed, indexed = tags(proxy)
        assert (tag in listed) is there, (tag, indexed)
        assert (tag in gitlab_tags(proxy)) is there, tag
        if indexed:
            ours.append(tag)

    for number in rounds(ROUNDS, ours):
        other = oci_image(f"other {number}")
        with Pusher(str(proxy.base_url).rstrip("/")) as pusher:
            digest = pusher.push(APP, other, f"v{number}")
        check(f"v{number}", there=True)
        assert put(proxy, image, f"w{number}") == 201
        check(f"w{number}", there=True)
        assert proxy.delete(f"/v2/{APP}/manifests/{digest}").status_code == 202
        check(f"v{number}", there=False)

    agents = {entry["request"]["user_agent"] for entry in installation.audit() if entry["request"]}
    assert not [agent for agent in agents if "indexer-write" in agent]


def test_write__that_is_refused_holds_nobody_up(proxy: httpx.Client, installation: Installation) -> None:
    """A refused write has no event: exactly its tag is verified, and the indexer goes on to answer."""
    without_blobs = oci_image("never pushed")
    for tag in ("first", "never"):
        assert put(proxy, without_blobs, tag) == 400
        assert {"first"} == tags(proxy)[0]
        assert {"first"} == gitlab_tags(proxy)
        installation.until(lambda: tags(proxy) == ({"first"}, True), "the indexer to answer")
    gone = f"/v2/{APP}/manifests/sha256:{'0' * 64}"
    assert proxy.delete(gone).status_code == 404
    installation.until(lambda: tags(proxy) == ({"first"}, True), "the indexer to answer")


def test_write__of_a_referrer(proxy: httpx.Client) -> None:
    """What was just attached is among the referrers, or the registry answers that it has no such endpoint."""
    subject = oci_image("first")
    ours: list[str] = []
    for number in rounds(10, ours):
        attached = artifact(f"sbom {number}", subject=subject)
        with Pusher(str(proxy.base_url).rstrip("/")) as pusher:
            pusher.push(APP, attached)
        answer = proxy.get(f"/v2/{APP}/referrers/{subject.digest}")
        if by_us(answer):
            ours.append(attached.digest)
            listed: list[dict[str, Any]] = answer.json()["manifests"]
            assert attached.digest in {each["digest"] for each in listed}
        else:
            assert answer.status_code == 404


def test_notice__without_an_event_is_never_answered_over(
    proxy: httpx.Client, installation: Installation, wired_registry: RegistryServer
) -> None:
    """While a write is open of which nothing can be known, the registry gives the list, and GitLab gets 503."""
    reconciler = installation.started[-1]
    installation.end(reconciler)
    refused = proxy.put(f"/v2/{APP}/manifests/first", content=b"{}", headers={"Content-Type": "text/plain"})
    assert refused.status_code >= 400
    assert ({"first"}, False) == tags(proxy)
    answer = proxy.get(f"/gitlab/v1/repositories/{APP}/tags/list/?n=10", headers=OPERATOR)
    assert (503, True) == (answer.status_code, "retry-after" in answer.headers)
    installation.start("reconciler", "run")
    installation.until(lambda: tags(proxy) == ({"first"}, True), "the indexer to answer again")
    assert {"first"} == gitlab_tags(proxy)


def test_notice__is_taken_of_the_proxy_alone(installation: Installation) -> None:
    """Without the secret no notice is taken, so nobody can hold up a repository."""
    asked = {
        "X-Original-Method": "PUT",
        "X-Original-URI": f"/v2/{APP}/manifests/v1",
        "X-Request-Id": "0123456789abcdef",
    }
    url = f"{installation.url}/gitlab/authorize"
    assert 401 == REQUESTS.get(url, headers=asked).status_code
    assert 401 == REQUESTS.get(url, headers=asked | {"X-Indexer-Proxy": "wrong"}).status_code
    assert 401 == REQUESTS.get(url, headers=asked | OPERATOR).status_code
    assert 204 == REQUESTS.get(url, headers=asked | {"X-Indexer-Proxy": PROXY_SECRET}).status_code


def refuse_me(address: str, stop: threading.Event, name: str) -> int:
    """Send pushes that the registry refuses, as fast as it answers, until told to stop; return how many."""
    sent = 0
    with closing(HTTPConnection(address, timeout=60)) as connection:
        while not stop.is_set():
            headers = {"Content-Type": "text/plain"}
            connection.request("PUT", f"/v2/{APP}/manifests/{name}-{sent}", body=b"{}", headers=headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 400, answer.status
            sent += 1
    return sent


@pytest.mark.full
@pytest.mark.slow
def test_flood__of_refused_writes_leaves_lists_answered(proxy: httpx.Client) -> None:
    """While anybody sends pushes that are refused, and no tokens are trusted, lists are ours, GitLab's pages 200."""
    address = str(proxy.base_url).removeprefix("http://").rstrip("/")
    image = oci_image("first")
    stop = threading.Event()
    asked = ours = 0
    gitlab: list[int] = []
    began = time.monotonic()
    with ThreadPoolExecutor(FLOODERS) as pool:
        flooding = [pool.submit(refuse_me, address, stop, f"x{number}") for number in range(FLOODERS)]
        try:
            while time.monotonic() < began + FLOOD_SECONDS:
                asked += 1
                assert put(proxy, image, f"t{asked}") == 201
                listed, indexed = tags(proxy)
                assert f"t{asked}" in listed, (asked, indexed)
                ours += indexed
                answer = proxy.get(f"/gitlab/v1/repositories/{APP}/tags/list/?n=1000", headers=OPERATOR)
                gitlab.append(answer.status_code)
                if answer.status_code == 200:
                    assert f"t{asked}" in {tag["name"] for tag in answer.json()}
        finally:
            stop.set()
        seconds = time.monotonic() - began
        sent = sum(each.result() for each in flooding)
    good = gitlab.count(200)
    words = (
        f"{sent / seconds:.0f} refused pushes a second; {ours} of {asked} lists ours, {good} pages for GitLab"
    )
    print(words)
    assert sent > MOST_PER_ADDRESS, words
    assert ours > 0, words  # how many depends on how fast the machine is
    assert good >= 0.5 * len(gitlab), words
