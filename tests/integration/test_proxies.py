"""The files of deploy/nginx and deploy/caddy, with the real proxies in front of real registries and the index."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.clients import client
from tests.fixtures.installation import API_TOKEN, PATIENCE_SECONDS
from tests.fixtures.proxies import PROXIES, proxied
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, artifact, oci_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tools.registry_server import RegistryServer

OPERATOR = {"Authorization": f"Bearer {API_TOKEN}"}
APP = "team/app"
SBOM = "application/vnd.example.sbom.v1+json"
SIGNATURE = "application/vnd.example.signature"


@pytest.fixture(params=PROXIES)
def proxy(
    request: pytest.FixtureRequest,
    installation: Installation,
    wired_registry: RegistryServer,
    tmp_path: Path,
) -> Iterator[str]:
    """The address of a proxy in front of a registry and the index that hears of it and looks."""
    directory = tmp_path / "proxy"
    directory.mkdir()
    installation.start("reconciler", "run")
    with proxied(request.param, wired_registry, installation, directory) as address:
        yield address


def get(proxy: str, path: str, *, token: bool = True) -> httpx.Response:
    return REQUESTS.get(f"http://{proxy}{path}", headers=OPERATOR if token else {}, timeout=30)


def referrers(proxy: str, digest: str) -> list[dict[str, Any]]:
    answer = get(proxy, f"/v2/{APP}/referrers/{digest}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/vnd.oci.image.index.v1+json"
    found: list[dict[str, Any]] = answer.json()["manifests"]
    return found


def test_proxy__leads_each_to_its_own(
    proxy: str, installation: Installation, wired_registry: RegistryServer
) -> None:
    """Images go to the registry; what GitLab asks, referrers and names of tags to the index; nothing else anywhere."""
    image = oci_image("proxied", layer_sizes=(20_000_000,))
    sbom = artifact("sbom of proxied", subject=image)
    with Pusher(f"http://{proxy}") as pusher:
        for tag in ("1.10.0", "1.9.0"):
            pusher.push(APP, image, tag)
        pusher.push(APP, sbom)
    installation.until(lambda: len(installation.tags(APP)) == 2, "the pushes to be announced")
    installation.until_settled()

    assert get(proxy, "/gitlab/v1/").status_code == 200
    assert get(proxy, "/gitlab/v1/", token=False).status_code == 401
    listed = get(proxy, f"/gitlab/v1/repositories/{APP}/tags/list/?n=1&sort=-name")
    assert [tag["name"] for tag in listed.json()] == ["1.9.0"]
    assert [each["digest"] for each in referrers(proxy, image.digest)] == [sbom.digest]
    assert {"name": APP, "tags": ["1.10.0", "1.9.0"]} == get(proxy, f"/v2/{APP}/tags/list").json()

    probe = httpx.options(f"http://{proxy}/v2/{APP}/manifests/1.9.0")
    if wired_registry.major == 2:
        assert probe.status_code == 404
    else:
        assert (probe.status_code, "DELETE" in probe.headers["allow"]) == (200, True)

    for path in ("/notifications", "/notifications/", "/metrics", "/api/v1/status", "/", "/healthz"):
        assert get(proxy, path).status_code == 404, path
    climbing = httpx.URL(f"http://{proxy}", raw_path=b"/gitlab/v1/../../metrics")
    assert REQUESTS.get(climbing, headers=OPERATOR).status_code in (400, 404)


def test_proxy__hands_on_what_was_sent(proxy: str, installation: Installation) -> None:
    """Markers and names reach the index as they were encoded: both answer to the letter the same."""
    with Pusher(f"http://{proxy}") as pusher:
        pusher.push(APP, oci_image("sent"), "rc_1")
    installation.until_settled()
    for path in (
        f"/gitlab/v1/repositories/{APP}/tags/list/?last=a%2Fb%2Bc&n=1",
        f"/gitlab/v1/repositories/{APP}/tags/list/?name=rc%5F1",
        "/gitlab/v1/repositories/team%2Fapp/tags/list/",
        f"/v2/{APP}/referrers/sha256%3A{'0' * 64}",
    ):
        asked = httpx.URL(f"http://{proxy}", raw_path=path.encode())
        direct = httpx.URL(installation.url, raw_path=path.encode())
        through = REQUESTS.get(asked, headers=OPERATOR)
        expected = REQUESTS.get(direct, headers=OPERATOR)
        assert (expected.status_code, expected.content) == (through.status_code, through.content), path


def test_proxy__skopeo(proxy: str, installation: Installation, skopeo: str, tmp_path: Path) -> None:
    """A client that nobody here wrote copies an image in and out again."""
    with Pusher(f"http://{proxy}") as pusher:
        digest = pusher.push(APP, oci_image("copied"), "v1")
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--insecure-policy"]
    copy = [f"docker://{proxy}/{APP}:v1", f"docker://{proxy}/team/copy:v1"]
    subprocess.run([skopeo, "copy", "--quiet", *plain, *copy], check=True, timeout=120, cwd=tmp_path)
    installation.until(lambda: installation.tags("team/copy") == {"v1": digest}, "the copy to be told of")


# --- clients of referrers: they take the answer of the index as any registry's -----------------------------

with_any_proxy = pytest.mark.parametrize(
    "proxy",
    ["nginx", *(pytest.param(name, marks=pytest.mark.full) for name in PROXIES if name != "nginx")],
    indirect=True,
)
"""That both proxies lead to the index, and hand on what it answers, is proved above."""


@pytest.fixture
def open_proxy(proxy: str, installation: Installation, wired_registry: RegistryServer) -> tuple[str, str]:
    """The proxy with the read APIs open, as beside a registry without authentication; and an image behind it."""
    installation.end(installation.server)
    installation.server = installation.start("indexer", "serve", INDEXER_ANONYMOUS_READ="true")
    installation.until(lambda: _is_up(installation), "the open server")
    with Pusher(wired_registry.url) as pusher:
        digest = pusher.push(APP, oci_image("attached to"), "v1")
    installation.until_settled()
    return proxy, digest


def _is_up(installation: Installation) -> bool:
    try:
        return REQUESTS.get(f"{installation.url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "HOME": str(cwd), "COSIGN_PASSWORD": "", "DOCKER_CONFIG": str(cwd)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, check=False, cwd=cwd, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@with_any_proxy
def test_oras__discovers_what_it_attached(open_proxy: tuple[str, str], tmp_path: Path) -> None:
    """``oras attach`` through the proxy, then ``oras discover`` lists it, by type, too."""
    proxy, digest = open_proxy
    oras = client("oras")
    (tmp_path / "sbom.json").write_text("{}", encoding="utf-8")
    run(
        oras,
        "attach",
        "--plain-http",
        "--artifact-type",
        SBOM,
        f"{proxy}/{APP}:v1",
        "sbom.json",
        cwd=tmp_path,
    )
    discover = (oras, "discover", "--plain-http", "--format", "json")

    def found(*options: str) -> list[str]:
        answer = json.loads(run(*discover, *options, f"{proxy}/{APP}@{digest}", cwd=tmp_path))
        listed = answer.get("referrers", answer.get("manifests")) or []
        return [each["artifactType"] for each in listed]

    _until(lambda: found() == [SBOM])
    assert found("--artifact-type", SBOM) == [SBOM]
    assert found("--artifact-type", SIGNATURE) == []


@with_any_proxy
def test_regctl__lists_what_it_put(open_proxy: tuple[str, str], tmp_path: Path) -> None:
    """``regctl artifact put --subject`` and ``artifact list`` through the proxy."""
    proxy, _ = open_proxy
    regctl = client("regctl")
    host = ("--host", f"reg={proxy},tls=disabled")
    (tmp_path / "sbom.json").write_text("{}", encoding="utf-8")
    put = ("artifact", "put", "--artifact-type", SBOM, "--subject", f"{proxy}/{APP}:v1", "-f", "sbom.json")
    run(regctl, *host, *put, cwd=tmp_path)
    _until(lambda: SBOM in run(regctl, *host, "artifact", "list", f"{proxy}/{APP}:v1", cwd=tmp_path))


@with_any_proxy
def test_cosign__tree_shows_the_signature(open_proxy: tuple[str, str], tmp_path: Path) -> None:
    """``cosign sign`` with a key of its own through the proxy, ``cosign tree`` and ``verify`` find the signature."""
    proxy, digest = open_proxy
    cosign = client("cosign")
    run(cosign, "generate-key-pair", cwd=tmp_path)
    image = f"{proxy}/{APP}@{digest}"
    sign = ("sign", "--yes", "--tlog-upload=false", "--allow-http-registry", "--key", "cosign.key", image)
    run(cosign, *sign, cwd=tmp_path)
    assert "Signatures" in run(cosign, "tree", "--allow-http-registry", image, cwd=tmp_path)
    verify = ("verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key", "cosign.pub", image)
    assert digest in run(cosign, *verify, cwd=tmp_path)
    _until(lambda: [each["digest"] for each in referrers(proxy, digest)] != [])


def _until(true: Callable[[], bool]) -> None:
    """An artifact shows once the reconciler has read its manifest."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
