"""What is a pull, with real registries and clients: who fetches pulls, who asks by HEAD checks, we do neither."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest

from tools.registry_server import Endpoint
from tools.sample_images import ACCEPT, Pusher, oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry

pytestmark = pytest.mark.slow

APP = "team/app"
TAGS = ("fetched", "checked", "copied", "imitated")


def test_pulls__of_real_clients(
    installation: Installation,
    start_registry: StartRegistry,
    registry_version: int,
    skopeo: str,
    tmp_path: Path,
) -> None:
    """HEAD and GET of the digest are one pull, HEAD alone none; our name hides nothing; a reconciler adds none."""
    endpoint = Endpoint(
        f"{installation.url}/notifications",
        installation.endpoint.token,
        ignore={"mediatypes": ["application/octet-stream"]},
    )
    registry = start_registry(registry_version, notifications=[endpoint])
    installation.connect(registry)
    with Pusher(registry.url) as pusher:
        for tag in TAGS:
            pusher.push(APP, oci_image(tag), tag)
    assert installation.run("reconciler", "once").exit_code == 0
    assert installation.run("reconciler", "once").exit_code == 0
    installation.until_settled()
    rows = installation.get(f"/api/v1/repositories/{APP}/tags")["items"]
    assert [(0, None, None)] * len(TAGS) == [
        (row["pull_count"], row["last_pulled_at"], row["last_checked_at"]) for row in rows
    ]
    manifests = installation.get(f"/api/v1/repositories/{APP}/manifests")["items"]
    assert {0} == {row["pull_count"] for row in manifests}

    def ask(method: str, tag: str, *, agent: str) -> str:
        url = f"{registry.url}/v2/{APP}/manifests/{tag}"
        answer = httpx.request(method, url, headers={"Accept": ACCEPT, "User-Agent": agent})
        return answer.raise_for_status().headers["Docker-Content-Digest"]

    ask("GET", ask("HEAD", "fetched", agent="containerd/2.1"), agent="containerd/2.1")
    ask("HEAD", "checked", agent="containerd/2.1")
    ask("GET", "imitated", agent="registry-indexer-reconciler/9")
    source = f"docker://{registry.host}/{APP}:copied"
    copy = [
        skopeo,
        "--insecure-policy",
        "copy",
        "--src-tls-verify=false",
        source,
        f"dir:{tmp_path / 'copied'}",
    ]
    subprocess.run(copy, check=True, capture_output=True, timeout=60)
    assert installation.run("reconciler", "once").exit_code == 0

    def pulls() -> dict[str, tuple[int, bool, bool]]:
        rows = installation.get(f"/api/v1/repositories/{APP}/tags")["items"]
        return {
            row["name"]: (
                row["pull_count"], row["last_pulled_at"] is not None, row["last_checked_at"] is not None
            )
            for row in rows
        }  # fmt: skip

    expected = {
        "fetched": (1, True, True),
        "checked": (0, False, True),
        "copied": (1, True, False),
        "imitated": (1, True, False),
    }
    installation.until(lambda: expected == pulls(), f"pulls to be {expected}, and not {pulls()}")
    installation.until_settled()
    assert expected == pulls()
    assert installation.get(f"/api/v1/repositories/{APP}")["pulls_known"]
