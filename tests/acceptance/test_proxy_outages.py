"""The files of deploy/nginx and deploy/caddy: who may read, and what clients get in an outage."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from indexer.api.trust import key_set as key_set_of
from indexer.api.trust import load_keys
from tests.fixtures.installation import API_TOKEN, PROXY_SECRET
from tests.fixtures.proxies import PROXIES, failing, proxied
from tests.fixtures.requests import REQUESTS
from tests.fixtures.tokens import ISSUER, REALM, SERVICE, certificate, grant, mint, rsa_key
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

APP = "team/app"
LIST = f"/v2/{APP}/tags/list"
KNOWN = (HTPASSWD_USER, HTPASSWD_PASSWORD)
PROVEN = {"X-Indexer-Proxy": PROXY_SECRET}


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests believes a proxy."""
    return PROXY_SECRET


def by_us(answer: httpx.Response) -> bool:
    """Whether the indexer answered: a registry does not say how its answer may be cached."""
    return bool(answer.headers.get("cache-control") == "no-store")


def get(address: str, path: str, **more: Any) -> httpx.Response:
    return REQUESTS.get(f"http://{address}{path}", timeout=60, **more)


@pytest.mark.parametrize("name", ["nginx", pytest.param("caddy", marks=pytest.mark.full)])
def test_outage__the_registry_answers_as_if_alone(
    name: str, installation: Installation, wired_registry: RegistryServer, tmp_path: Path
) -> None:
    """The indexer hangs, fails or is stopped: the registry gives lists, GitLab deletes nothing, images come and go."""
    installation.start("reconciler", "run")
    image = oci_image("outage")
    with Pusher(wired_registry.url) as pusher:
        digest = pusher.push(APP, image, "v1")
    installation.until(lambda: installation.tags(APP) == {"v1": digest}, "the push to be applied")
    referrers = f"/v2/{APP}/referrers/{digest}"
    directory = tmp_path / "proxy"
    directory.mkdir()

    def as_if_alone(address: str, trouble: str) -> None:
        for path in (LIST, f"{LIST}?n=1", referrers, "/v2/no/such/tags/list"):
            through, plain = get(address, path), REQUESTS.get(f"{wired_registry.url}{path}")
            assert not by_us(through)
            assert (plain.status_code, plain.content) == (through.status_code, through.content), trouble
        probe = get(address, "/gitlab/v1/")
        assert (200, {}) == (probe.status_code, probe.json()), trouble
        paths = (f"repositories/{APP}/tags/list/?n=100", f"repositories/{APP}/", "statistics/")
        for path in paths[:1] if trouble == "hangs" else paths:
            answer = get(address, f"/gitlab/v1/{path}")
            assert (503, True) == (answer.status_code, "retry-after" in answer.headers), trouble
        with Pusher(f"http://{address}") as through_proxy:
            through_proxy.push(APP, image, trouble)
        accept = {"Accept": image.media_type}
        assert 200 == get(address, f"/v2/{APP}/manifests/{digest}", headers=accept).status_code

    with proxied(name, wired_registry, installation, directory) as address:
        installation.until(lambda: by_us(get(address, LIST)), "the indexer to answer")
        installation.until(lambda: by_us(get(address, referrers)), "the indexer to answer")
        server = installation.server
        assert server is not None
        server.send_signal(signal.SIGSTOP)
        try:
            as_if_alone(address, "hangs")
        finally:
            server.send_signal(signal.SIGCONT)
        installation.end(server)
        as_if_alone(address, "stopped")
        with failing(installation.address):
            as_if_alone(address, "fails")
        installation.serve()
        installation.until(lambda: by_us(get(address, LIST)), "the indexer to answer again")
        assert get(address, "/gitlab/v1/").status_code == 401


@pytest.mark.parametrize("name", PROXIES)
def test_password__the_registry_decides(
    name: str,
    installation: Installation,
    start_registry: StartRegistry,
    registry_version: int,
    tmp_path: Path,
) -> None:
    """Before a registry with passwords the right one reads, and whoever has none gets the registry's own refusal."""
    registry = start_registry(registry_version, htpasswd=True, notifications=[installation.endpoint])
    installation.connect(registry)
    installation.start(
        "reconciler",
        "run",
        RECONCILER_REGISTRY_USERNAME=HTPASSWD_USER,
        RECONCILER_REGISTRY_PASSWORD=HTPASSWD_PASSWORD,
    )
    with Pusher(registry.url, username=HTPASSWD_USER, password=HTPASSWD_PASSWORD) as pusher:
        digest = pusher.push(APP, oci_image("guarded"), "v1")
    installation.until(lambda: installation.tags(APP) == {"v1": digest}, "the push to be applied")
    referrers = f"/v2/{APP}/referrers/{digest}"
    directory = tmp_path / "proxy"
    directory.mkdir()
    with proxied(name, registry, installation, directory) as address:
        installation.until(lambda: by_us(get(address, LIST, auth=KNOWN)), "the indexer to answer")
        installation.until(lambda: by_us(get(address, referrers, auth=KNOWN)), "the manifest to be read")
        for path in (LIST, referrers):
            read = get(address, path, auth=KNOWN)
            assert (200, True) == (read.status_code, by_us(read))
        assert {"name": APP, "tags": ["v1"]} == get(address, LIST, auth=KNOWN).json()
        assert 200 == get(address, "/v2/team//app/../app/tags/list", auth=KNOWN).status_code
        for auth in (None, (HTPASSWD_USER, "wrong")):
            for path in (LIST, "/v2/no/such/tags/list"):
                refused = get(address, path, auth=auth)
                plain = REQUESTS.get(f"{registry.url}{path}", auth=auth)
                assert (401, plain.json()) == (refused.status_code, refused.json())
                challenges = refused.headers.get_list("www-authenticate")
                assert plain.headers.get_list("www-authenticate") == challenges
            assert 404 == get(address, referrers, auth=auth).status_code  # as the registry alone
        assert 401 == get(address, LIST, headers=PROVEN).status_code  # a client's own header proves nothing
        assert 401 == get(address, LIST, headers={"Authorization": f"Bearer {API_TOKEN}"}).status_code

    unproven = tmp_path / "unproven"
    unproven.mkdir()
    with proxied(name, registry, installation, unproven, secret="") as address:
        for headers in ({}, PROVEN):  # the proxy removes the header that a client sends
            read = get(address, LIST, auth=KNOWN, headers=headers)
            assert (200, False) == (read.status_code, by_us(read))


@pytest.mark.parametrize("name", PROXIES)
def test_token__for_one_repository_lists_no_other(
    name: str,
    installation: Installation,
    start_registry: StartRegistry,
    registry_version: int,
    tmp_path: Path,
) -> None:
    """The registry's tokens open behind the proxy what they open there, without trust in them on our side."""
    bundle, key_set = tmp_path / "bundle.pem", tmp_path / "jwks.json"
    bundle.write_bytes(certificate(rsa_key()))
    key_set.write_text(json.dumps(key_set_of(load_keys(bundle))), encoding="utf-8")
    token_auth = {"realm": REALM, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}
    if registry_version != 2:
        token_auth["jwks"] = str(key_set)
    extra = {"auth": {"token": token_auth}}
    registry = start_registry(registry_version, notifications=[installation.endpoint], extra=extra)
    of_app, of_other = mint(grant(APP, "pull", "push")), mint(grant("team/other", "pull", "push"))
    for repository, token in ((APP, of_app), ("team/other", of_other)):
        with Pusher(registry.url, token=token) as pusher:
            pusher.push(repository, oci_image(repository), "v1")
        installation.until(lambda: len(installation.tags(repository)) == 1, "the push to be applied")  # noqa: B023
    directory = tmp_path / "proxy"
    directory.mkdir()
    with proxied(name, registry, installation, directory) as address:
        bearer = {"Authorization": f"Bearer {of_app}"}
        installation.until(lambda: by_us(get(address, LIST, headers=bearer)), "the indexer to answer")
        read = get(address, LIST, headers=bearer)
        assert (200, True, ["v1"]) == (read.status_code, by_us(read), read.json()["tags"])
        for path in (
            "/v2/team/other/tags/list",
            "/v2/team%2Fother/tags/list",
            f"/v2/{APP}/../other/tags/list",
            f"/v2/{APP}/%2e%2e/other/tags/list",
            "/v2/team//other/tags/list",
            "/v2/team/other%3Fx=/tags/list",
            "/v2/team/other/tags/list%3F/tags/list",
        ):
            url = httpx.URL(f"http://{address}", raw_path=path.encode())
            answer = REQUESTS.get(url, headers=bearer)
            assert answer.status_code in (301, 400, 401, 404), (path, answer.text)
        assert 401 == get(address, "/v2/team/other/tags/list", headers=bearer).status_code


def test_secret__opens_nothing_else(installation: Installation) -> None:
    """The proxy's secret reads what the proxy asks for under /v2, and neither the API nor GitLab's."""

    def listed() -> tuple[int, str]:
        answer = REQUESTS.get(f"{installation.url}{LIST}", headers=PROVEN)
        return answer.status_code, answer.json()["errors"][0]["code"]

    installation.until(lambda: listed() == (404, "NAME_UNKNOWN"), "the indexer to answer")
    for headers in ([], [("X-Indexer-Proxy", "wrong")], [("X-Indexer-Proxy", PROXY_SECRET)] * 2):
        assert 401 == REQUESTS.get(f"{installation.url}{LIST}", headers=headers).status_code
    for path in ("/api/v1/status", "/api/v1/repositories", "/gitlab/v1/", f"/gitlab/v1/repositories/{APP}/"):
        assert 401 == REQUESTS.get(f"{installation.url}{path}", headers=PROVEN).status_code
    bearer = {"Authorization": f"Bearer {PROXY_SECRET}"}
    assert 401 == REQUESTS.get(f"{installation.url}/api/v1/status", headers=bearer).status_code
    assert 401 == installation.post(b"{}", {"Authorization": f"Bearer {PROXY_SECRET}"})
