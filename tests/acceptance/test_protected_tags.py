"""Protected and immutable tags behind the real proxies, with real registries that want GitLab's tokens."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from indexer.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST
from tests.fixtures.guarded import ALL, APP, NOBODY, Site, refused, start_server, token
from tests.fixtures.installation import PROXY_SECRET
from tests.fixtures.proxies import proxied
from tests.fixtures.tokens import REALM, SERVICE, mint, rsa_key
from tests.unit.test_dummies import CONFIG, DUMMY
from tools.sample_images import Blob, Image, Pusher, oci_image
from tools.sample_images import index as image_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


ENFORCED = frozenset({"deny-tags"})


@pytest.fixture(params=["nginx", pytest.param("caddy", marks=pytest.mark.full)])
def enforced(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Iterator[Site]:
    """The site behind a proxy that enforces tags."""
    directory = tmp_path / "proxy"
    directory.mkdir()
    with proxied(request.param, site.registry, site.installation, directory, optional=ENFORCED) as address:
        site.address = address
        yield site


def test_rules__are_enforced(enforced: Site) -> None:
    """Each rule for each write; nobody else is held up, and the registry keeps what it had."""
    one, two = oci_image("one"), oci_image("two")
    enforced.upload(one, two)
    restricted = token(push=["^v"], delete=["^v"])
    releases = token(immutable=["^v"])

    refused(enforced.put(one, "v1", as_=restricted), "protected")
    assert enforced.put(one, "dev", as_=restricted).status_code == 201
    assert enforced.put(one, "v1").status_code == 201
    refused(enforced.put(two, "v1", as_=restricted), "protected")
    refused(enforced.put(two, "v1", as_=releases), "immutable")
    refused(enforced.put(one, "v1", as_=releases), "immutable")  # the same manifest, too
    assert enforced.put(two, "v2", as_=releases).status_code == 201
    refused(enforced.put(one, "v2", as_=releases), "immutable")
    assert enforced.put(two, "dev", as_=releases).status_code == 201

    for who in (restricted, releases):
        for reference in ("v1", one.digest, two.digest):  # v2 and dev point to two
            refused(enforced.delete(reference, as_=who), "protected" if who is restricted else "immutable")
    assert enforced.put(one, one.digest, as_=restricted).status_code == 201
    assert {"v1", "v2", "dev"} == enforced.tags()
    assert (one.digest, two.digest) == (enforced.digest("v1"), enforced.digest("v2"))

    unreadable = token(push=["["])
    refused(enforced.put(one, "dev", as_=unreadable), "unreadable")
    assert enforced.delete(two.digest).status_code == 202
    assert {"v1"} == enforced.tags()


@pytest.mark.full
def test_digest__is_judged_by_what_it_would_take_along(enforced: Site) -> None:
    """A digest without a protected tag may be deleted; not one that an index with a protected tag lists."""
    child, other = oci_image("child"), oci_image("other")
    index = image_index([child])
    enforced.upload(index, other)
    assert enforced.put(index, "v1").status_code == 201
    assert enforced.put(other, "dev").status_code == 201
    enforced.installation.until_settled()
    restricted = token(delete=["^v"])
    refused(enforced.delete(child.digest, as_=restricted), "protected")
    refused(enforced.delete(index.digest, as_=restricted), "protected")
    assert enforced.delete(other.digest, as_=restricted).status_code == 202
    assert {"v1"} == enforced.tags()


def test_immutable__is_pushed_once_when_many_race(enforced: Site) -> None:
    """Of pushes of the same tag at once exactly one passes, and it stays."""
    images = [oci_image(f"racer {number}") for number in range(6)]
    enforced.upload(*images)
    releases = token(immutable=["^v"])
    for round_number in range(3):
        tag = f"v{round_number}"
        start = threading.Barrier(len(images))

        def push(image: Image, tag: str = tag, start: threading.Barrier = start) -> int:
            start.wait()
            return enforced.put(image, tag, as_=releases).status_code

        with ThreadPoolExecutor(len(images)) as pool:
            statuses = list(pool.map(push, images))
        assert statuses.count(201) == 1, statuses
        assert set(statuses) <= {201, 403, 503}
        winner = images[statuses.index(201)].digest
        assert winner == enforced.digest(tag)
        refused(enforced.put(images[0], tag, as_=releases), "immutable")
        assert winner == enforced.digest(tag)


@pytest.mark.full
def test_immutable__that_the_index_does_not_know_is_known_to_the_registry(enforced: Site) -> None:
    """A tag whose push was not announced: the registry is asked before an immutable tag is pushed."""
    one, two = oci_image("one"), oci_image("two")
    enforced.upload(one, two)
    enforced.installation.until_settled()
    unannounced = enforced.installation.registry_url  # this registry has no endpoint
    with Pusher(unannounced) as pusher:
        pusher.push(APP, one, "v1")
    refused(enforced.put(two, "v1", as_=token(immutable=["^v"])), "immutable")
    assert one.digest == enforced.digest("v1")


def test_path__is_judged_as_the_registry_reads_it(enforced: Site) -> None:
    """However a path is written: the tag is not pushed, and a whole address in the request line changes nothing."""
    image = oci_image("attack")
    enforced.upload(image)
    restricted = token(push=["^v"], delete=["^v"])
    for path in (
        "/v2/team%2Fapp/manifests/v1",
        "/v2/team/app/manifests/%761",
        "/v2/team/app%2Fmanifests/v1",
        "/v2/team/app/manifests%2Fv1",
        "/%76%32/team/app/manifests/v1",
        "/v2/team//app/manifests/v1",
        "/v2/team/./app/manifests/v1",
        "/v2/team/other/../app/manifests/v1",
        "/v2/team/other/%2e%2e/app/manifests/v1",
        "/v2/team/app/manifests/v1/",
        "/v2/team/app/manifests//v1",
        "/v2/team/app/manifests/v1%2F",
        "/v2/team/app/manifests/v1?x=1",
        "/v2/team/app/manifests/v1?tag=dev",
        "/v2/team/app/manifests/v1%3Fx=1",
        "/v2/team/app/manifests/v1%00",
        "/v2/team/app/manifests/v1;x",
        "/v2/team/app/manifests/v1#x",
        "/v2/team/app/manifests/%2576%31",
        "//v2/team/app/manifests/v1",
        "/x/../v2/team/app/manifests/v1",
        f"/v2/team/app/manifests/{image.digest}?tag=v1",
        f"http://{enforced.address}/v2/team/app/manifests/v1",
        "http://x/v2/team/app/manifests/v1",
        "HTTP://x:1/v2/team%2Fapp/manifests/v1",
    ):
        for method in ("PUT", "DELETE"):
            status = raw(enforced, method, path, image, bearer=restricted)
            # Caddy has an empty answer for a host that it does not serve.
            assert not 200 <= status < 300 or path.lower().startswith("http://x"), (method, path, status)
        assert set() == enforced.tags(), path
    assert 201 == raw(enforced, "PUT", "/v2/team%2Fapp/manifests/d%65v", image, bearer=restricted)
    assert {"dev"} == enforced.tags()


def raw(site: Site, method: str, target: str, image: Image, *, bearer: str, more: str = "") -> int:
    """Send a request line as it stands; return the status."""
    host, port = site.address.split(":")
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: {site.address}\r\nAuthorization: Bearer {bearer}\r\n{more}"
        f"Content-Type: {image.media_type}\r\nContent-Length: {len(image.manifest.data)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + image.manifest.data)
        answer = b""
        while b"\r\n" not in answer:
            more_of_it = connection.recv(4096)
            if not more_of_it:
                break
            answer += more_of_it
    assert answer, (method, target)
    return int(answer.split(b" ", 2)[1])


@pytest.mark.full
def test_token__that_is_not_ours_writes_nothing(enforced: Site) -> None:
    """Expired, foreign, twice, or forged headers beside it: 401 with the registry's challenge, and no write."""
    image = oci_image("forged")
    enforced.upload(image)
    expired = token(changed={"exp": int(time.time()) - 3600})
    foreign = mint({"type": "repository", "name": APP, "actions": list(ALL)}, key=rsa_key("another"))
    for bearer in (expired, foreign, "x.y.z"):
        answer = enforced.put(image, "v1", as_=bearer)
        assert answer.status_code == 401
        (challenge,) = answer.headers.get_list("www-authenticate")
        assert f'Bearer realm="{REALM}",service="{SERVICE}"' in challenge
        assert f'scope="repository:{APP}:pull,push"' in challenge
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
    nobody = enforced.put(image, "v1", as_=NOBODY)
    assert (401, 1) == (nobody.status_code, len(nobody.headers.get_list("www-authenticate")))

    restricted = token(push=["^v"])
    for more in (
        f"Authorization: Bearer {token()}\r\n",
        f"X-Indexer-Proxy: {PROXY_SECRET}\r\n",
        "X-Original-Method: GET\r\n",
        "X-Original-URI: /v2/team/app/manifests/dev\r\n",
        "X-HTTP-Method-Override: GET\r\n",
        "X-Indexer-Refusal: x\r\n",
        "X-Request-Id: 0123456789\r\n",
    ):
        status = raw(enforced, "PUT", f"/v2/{APP}/manifests/v1", image, bearer=restricted, more=more)
        assert status in (400, 401, 403), (more, status)
    assert set() == enforced.tags()
    reads = token("pull", push=["^x"])
    assert enforced.put(image, "v1", as_=reads).status_code == 401  # the registry's own refusal


@pytest.mark.full
def test_dummy__does_not_delete_a_protected_tag(enforced: Site) -> None:
    """GitLab's way to delete on 2.8, by who may push but not delete: the tag stays, until who may deletes it."""
    image = oci_image("kept")
    dummy = Image(Blob(DOCKER_MANIFEST, DUMMY), (Blob(DOCKER_CONFIG, CONFIG),))
    enforced.upload(image, dummy)
    assert enforced.put(image, "v1").status_code == 201
    restricted = token(delete=["^v"])
    assert enforced.put(dummy, "v1", as_=restricted).status_code == 201
    refused(enforced.delete(dummy.digest, as_=restricted), "protected")
    assert {"v1"} == enforced.tags()
    assert enforced.delete(dummy.digest, as_=token(immutable=["^v"])).status_code == 202
    assert set() == enforced.tags()


@pytest.mark.parametrize("name", ["nginx", pytest.param("caddy", marks=pytest.mark.full)])
def test_outage__nothing_is_written(name: str, site: Site, tmp_path: Path) -> None:
    """The sidecar hangs, is stopped, or does not know the proxy: 503 with Retry-After; everything else passes."""
    image = oci_image("outage")
    site.upload(image)
    directory = tmp_path / "proxy"
    directory.mkdir()

    def nothing_is_written() -> None:
        for method, reference in (("PUT", "v1"), ("DELETE", image.digest)):
            answer = site.once(
                method,
                f"/v2/{APP}/manifests/{reference}",
                content=image.manifest.data if method == "PUT" else b"",
                media_type=image.media_type,
            )
            assert (503, True) == (answer.status_code, "retry-after" in answer.headers), answer.text
            assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
        assert set() == site.tags()
        path = f"/v2/{APP}/manifests/{image.digest}"
        assert site.request("GET", path).status_code == 200
        with Pusher(f"http://{site.address}", token=token()) as pusher:
            pusher.push_blob(APP, oci_image(f"layer {time.monotonic()}").blobs[0])

    with proxied(name, site.registry, site.installation, directory, optional=ENFORCED) as site.address:
        assert site.put(image, "first").status_code == 201
        assert site.delete(image.digest).status_code == 202
        site.upload(image)
        server = site.installation.server
        assert server is not None
        server.send_signal(signal.SIGSTOP)
        try:
            nothing_is_written()
        finally:
            server.send_signal(signal.SIGCONT)
        site.installation.end(server)
        nothing_is_written()
    unproven = tmp_path / "unproven"
    unproven.mkdir()
    start_server(site.installation, tmp_path / "bundle.pem")
    with proxied(
        name, site.registry, site.installation, unproven, optional=ENFORCED, secret="another"
    ) as site.address:
        nothing_is_written()


@pytest.mark.full
def test_immutable__cannot_be_pushed_while_the_registry_is_not_asked(enforced: Site) -> None:
    """Without a reconciler it is not known whether an immutable tag exists; others are pushed as ever."""
    image = oci_image("unasked")
    enforced.upload(image)
    enforced.installation.end(enforced.installation.started[-1])
    releases = token(immutable=["^v"])
    push: dict[str, Any] = {"as_": releases, "content": image.manifest.data, "media_type": image.media_type}
    answer = enforced.once("PUT", f"/v2/{APP}/manifests/v1", **push)
    assert (503, True) == (answer.status_code, "retry-after" in answer.headers)
    assert enforced.put(image, "dev", as_=releases).status_code == 201
    enforced.installation.start("reconciler", "run")
    assert enforced.put(image, "v1", as_=releases).status_code == 201
    assert {"dev", "v1"} == enforced.tags()


@pytest.mark.full
def test_push__that_is_slow_holds_its_tag(enforced: Site) -> None:
    """While one push of an immutable tag may still arrive, no other passes; and it is one that is judged once."""
    one, two = oci_image("slow"), oci_image("quick")
    enforced.upload(one, two)
    releases = token(immutable=["^v"])
    host, port = enforced.address.split(":")
    head = (
        f"PUT /v2/{APP}/manifests/v1 HTTP/1.1\r\nHost: {enforced.address}\r\nAuthorization: Bearer {releases}\r\n"
        f"Content-Type: {one.media_type}\r\nContent-Length: {len(one.manifest.data)}\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(head.encode() + one.manifest.data[:10])
        enforced.installation.until(lambda: is_noted(enforced, "v1"), "the slow push to be judged")
        push: dict[str, Any] = {"content": two.manifest.data, "media_type": two.media_type}
        for _ in range(2):
            other = enforced.once("PUT", f"/v2/{APP}/manifests/v1", as_=releases, **push)
            assert other.status_code == 503
        slow.sendall(one.manifest.data[10:])
        assert b" 201 " in slow.recv(4096)
    refused(enforced.put(two, "v1", as_=releases), "immutable")
    assert one.digest == enforced.digest("v1")


def is_noted(site: Site, tag: str) -> bool:
    """Whether there is notice of a write of a tag."""

    async def noted() -> bool:
        database = await asyncpg.connect(site.installation.database_url)
        try:
            query = "SELECT EXISTS (SELECT FROM write_notice WHERE reference = $1 AND verified > 0)"
            return bool(await database.fetchval(query, tag))
        finally:
            await database.close()

    return asyncio.run(noted())


@pytest.mark.full
def test_deletion__passes_at_once(enforced: Site) -> None:
    """A deletion that was judged cannot be kept back with a body that does not come."""
    image = oci_image("not kept back")
    enforced.upload(image)
    host, port = enforced.address.split(":")
    for framing in ("Content-Length: 10", "Transfer-Encoding: chunked"):
        head = (
            f"DELETE /v2/{APP}/manifests/{image.digest} HTTP/1.1\r\nHost: {enforced.address}\r\n"
            f"Authorization: Bearer {token()}\r\n{framing}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(head.encode())
            if "Length" in framing:
                connection.sendall(b"x" * 10)  # Caddy answers when it has all of the request
                assert b" 403 " in connection.recv(4096)
                assert enforced.digest(image.digest) is not None
            else:  # the registry deletes at once, and answers when it has all of the request
                enforced.installation.until(lambda: enforced.digest(image.digest) is None, "the deletion")
