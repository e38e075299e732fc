"""Real clients through the proxies: each pushes, reads and lists as usual, and the inventory has what it did."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fixtures.clients import client
from tests.fixtures.installation import PROXY_SECRET
from tests.fixtures.proxies import proxied
from tests.fixtures.requests import REQUESTS
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

pytestmark = [pytest.mark.full, pytest.mark.slow]

WITHIN_SECONDS = 300
FIRST = oci_image("first")
SITES = (("nginx", 2, False), ("caddy", 3, True))
"""A proxy, the version of the registry, and whether that lets everybody in; else it wants a password."""


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


@dataclass
class Site:
    """A repository behind a proxy, which has an image ``first``, and a directory where a client keeps its files."""

    address: str
    installation: Installation
    repository: str
    directory: Path
    anonymous: bool
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.address}/{self.repository}"

    def run(self, *command: str, given: str = "", fails: bool = False) -> str:
        """Run a client; return what it wrote."""
        done = subprocess.run(
            command,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            input=given,
            check=False,
            capture_output=True,
            text=True,
            timeout=WITHIN_SECONDS,
        )
        assert fails is (done.returncode != 0), f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def get(self, path: str) -> httpx.Response:
        """Ask the proxy."""
        auth = None if self.anonymous else (HTPASSWD_USER, HTPASSWD_PASSWORD)
        return REQUESTS.get(f"http://{self.address}/v2/{self.repository}/{path}", auth=auth)

    def lists(self, *names: str) -> None:
        """Assert that the proxy lists exactly these tags, and that the inventory has them as well.

        A client that takes us for a registry without referrers also writes fallback tags, which are left out.
        """
        assert set(names) == without_fallback(self.get("tags/list").json()["tags"])
        self.installation.until(
            lambda: set(names) == without_fallback(self.installation.tags(self.repository)),
            "the inventory to have what the client did",
        )

    def referrers(self, digest: str) -> list[str]:
        """What refers to a digest; empty as well if the registry itself answered."""
        answer = self.get(f"referrers/{digest}")
        return [each["digest"] for each in answer.json()["manifests"]] if answer.is_success else []

    def questions(self) -> int:
        """How many questions reached the indexer by now, answered or handed over."""
        text = REQUESTS.get(f"{self.installation.url}/metrics", timeout=30).text
        found = re.findall(r"^indexer_barrier_questions_total\{\S+ (\S+)$", text, re.MULTILINE)
        return sum(int(float(value)) for value in found)


def without_fallback(names: Iterable[str]) -> set[str]:
    """Tags without those that clients write for a registry that lacks the referrers API."""
    return {name for name in names if not name.startswith("sha256-")}


@pytest.fixture(params=SITES, ids=["nginx-2.8-password", "caddy-3.x-anonymous"])
def site(
    request: pytest.FixtureRequest,
    installation: Installation,
    start_registry: StartRegistry,
    tmp_path: Path,
) -> Iterator[Site]:
    """A proxy before a registry that everybody may use, or that wants a password."""
    name, version, anonymous = request.param
    registry = start_registry(version, notifications=[installation.endpoint], htpasswd=not anonymous)
    installation.connect(registry)
    user = None if anonymous else HTPASSWD_USER
    password = None if anonymous else HTPASSWD_PASSWORD
    installation.start(
        "reconciler", "run", RECONCILER_REGISTRY_USERNAME=user, RECONCILER_REGISTRY_PASSWORD=password
    )
    proxy, files = tmp_path / "proxy", tmp_path / "client"
    proxy.mkdir()
    files.mkdir()
    with proxied(name, registry, installation, proxy) as address:
        made = Site(address, installation, "team/app", files, anonymous)
        made.environment = {
            "HOME": str(files),
            "DOCKER_CONFIG": str(files),
            "REGISTRY_AUTH_FILE": str(files / "auth.json"),
            "HELM_REGISTRY_CONFIG": str(files / "config.json"),
            "REGCTL_CONFIG": str(files / "regctl.json"),
            "COSIGN_PASSWORD": "",
        }
        (files / "layer.txt").write_text("content", encoding="utf-8")
        with Pusher(registry.url, username=user, password=password) as pusher:
            pusher.push(made.repository, FIRST, "first")
        installation.until(
            lambda: made.get("tags/list").headers.get("cache-control") == "no-store",
            "the indexer to answer",
        )
        yield made


def test_crane(site: Site) -> None:
    """It pulls, pushes, tags, deletes and lists what it did."""
    crane = client("crane")
    if not site.anonymous:
        site.run(crane, "auth", "login", site.address, "-u", HTPASSWD_USER, "-p", HTPASSWD_PASSWORD)
    asked = site.questions()
    site.run(crane, "pull", "--insecure", f"{site.name}:first", "first.tar")
    site.run(crane, "push", "--insecure", "first.tar", f"{site.name}:pushed")
    site.run(crane, "tag", "--insecure", f"{site.name}:first", "tagged")
    assert FIRST.digest == site.run(crane, "digest", "--insecure", f"{site.name}:tagged").strip()
    assert ["first", "pushed", "tagged"] == site.run(crane, "ls", "--insecure", site.name).split()
    pushed = site.run(crane, "digest", "--insecure", f"{site.name}:pushed").strip()
    site.run(crane, "delete", "--insecure", f"{site.name}@{pushed}")
    assert ["first", "tagged"] == site.run(crane, "ls", "--insecure", site.name).split()
    assert site.questions() >= asked + 2
    site.lists("first", "tagged")


def test_regctl(site: Site) -> None:
    """It copies, lists in pages, attaches an artifact and finds it."""
    regctl = client("regctl")
    site.run(regctl, "registry", "set", "--skip-check", "--tls", "disabled", site.address)
    if not site.anonymous:
        login = (regctl, "registry", "login", "--user", HTPASSWD_USER, "--pass-stdin", site.address)
        site.run(*login, given=HTPASSWD_PASSWORD)
    site.run(regctl, "image", "copy", f"{site.name}:first", f"{site.name}:copied")
    assert ["copied", "first"] == site.run(regctl, "tag", "ls", site.name).split()
    assert ["copied"] == site.run(regctl, "tag", "ls", "--limit", "1", site.name).split()
    attach = ("artifact", "put", "--artifact-type", "application/vnd.example.sbom", "--file", "layer.txt")
    site.run(regctl, *attach, "--subject", f"{site.name}:first")
    found = json.loads(site.run(regctl, "artifact", "list", "--format", "{{json .}}", f"{site.name}:first"))
    assert ["application/vnd.example.sbom"] == [each["artifactType"] for each in found["descriptors"]]
    assert FIRST.digest in site.run(regctl, "artifact", "tree", f"{site.name}:first")
    site.run(regctl, "tag", "rm", f"{site.name}:copied")
    assert "first" in site.run(regctl, "tag", "ls", site.name).split()
    site.lists("first")


def test_oras(site: Site) -> None:
    """It pushes, pulls, attaches an artifact and discovers it at once."""
    oras = client("oras")
    if not site.anonymous:
        login = (oras, "login", "--plain-http", "-u", HTPASSWD_USER, "--password-stdin", site.address)
        site.run(*login, given=HTPASSWD_PASSWORD)
    site.run(oras, "push", "--plain-http", f"{site.name}:pushed", "layer.txt:text/plain")
    site.run(oras, "pull", "--plain-http", "--output", "pulled", f"{site.name}:pushed")
    assert "content" == (site.directory / "pulled" / "layer.txt").read_text(encoding="utf-8")
    assert ["first", "pushed"] == site.run(oras, "repo", "tags", "--plain-http", site.name).split()
    attach = ("attach", "--plain-http", "--artifact-type", "application/vnd.example.sbom")
    site.run(oras, *attach, f"{site.name}:pushed", "layer.txt:text/plain")
    discover = ("discover", "--plain-http", "--format", "json", f"{site.name}:pushed")
    found = json.loads(site.run(oras, *discover))
    assert ["application/vnd.example.sbom"] == [each["artifactType"] for each in found["referrers"]]
    site.lists("first", "pushed")


def test_skopeo(site: Site, skopeo: str) -> None:
    """It copies in and out, inspects, lists and deletes."""
    if not site.anonymous:
        login = (skopeo, "login", "--tls-verify=false", "-u", HTPASSWD_USER, "--password-stdin", site.address)
        site.run(*login, given=HTPASSWD_PASSWORD)
    out, back = ("--src-tls-verify=false", "--dest-tls-verify=false")
    copy = (skopeo, "copy", "--quiet", "--insecure-policy")
    site.run(*copy, out, f"docker://{site.name}:first", "oci:layout:first")
    site.run(*copy, back, "oci:layout:first", f"docker://{site.name}:copied")
    site.run(*copy, back, "--format", "v2s2", "oci:layout:first", f"docker://{site.name}:docker")
    shown = json.loads(site.run(skopeo, "inspect", "--tls-verify=false", f"docker://{site.name}:copied"))
    assert FIRST.digest == shown["Digest"]
    assert ["copied", "docker", "first"] == sorted(shown["RepoTags"])
    site.run(skopeo, "delete", "--tls-verify=false", f"docker://{site.name}:docker")
    listed = json.loads(site.run(skopeo, "list-tags", "--tls-verify=false", f"docker://{site.name}"))
    assert ["copied", "first"] == sorted(listed["Tags"])
    site.lists("copied", "first")


def test_cosign(site: Site) -> None:
    """It signs with a key and verifies, offline; its signature is among the referrers."""
    cosign = client("cosign")
    image = f"{site.name}@{FIRST.digest}"
    if not site.anonymous:
        site.run(cosign, "login", site.address, "-u", HTPASSWD_USER, "-p", HTPASSWD_PASSWORD)
    site.run(cosign, "generate-key-pair")
    verify = (
        cosign,
        "verify",
        "--key",
        "cosign.pub",
        "--insecure-ignore-tlog",
        "--allow-http-registry",
        image,
    )
    site.run(*verify, fails=True)
    site.run(
        cosign, "sign", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry", "--yes", image
    )
    assert FIRST.digest in site.run(*verify)
    site.installation.until(lambda: site.referrers(FIRST.digest), "the signature among the referrers")
    site.lists("first")


def test_helm(site: Site) -> None:
    """It pushes a chart, and pulls the newest version, which it finds by the list of tags."""
    helm = client("helm")
    if not site.anonymous:
        login = (
            helm,
            "registry",
            "login",
            "--plain-http",
            "-u",
            HTPASSWD_USER,
            "--password-stdin",
            site.address,
        )
        site.run(*login, given=HTPASSWD_PASSWORD)
    chart = site.directory / "chart"
    chart.mkdir()
    site.repository = "team/app/chart"
    for version in ("1.0.0", "1.1.0"):
        (chart / "Chart.yaml").write_text(
            f"apiVersion: v2\nname: chart\nversion: {version}\n", encoding="utf-8"
        )
        site.run(helm, "package", "chart")
        site.run(helm, "push", "--plain-http", f"chart-{version}.tgz", f"oci://{site.address}/team/app")
    asked = site.questions()
    shutil.rmtree(chart)
    site.run(helm, "pull", "--plain-http", "--untar", f"oci://{site.name}")
    assert "version: 1.1.0" in (chart / "Chart.yaml").read_text(encoding="utf-8")
    assert site.questions() > asked
    site.lists("1.0.0", "1.1.0")
