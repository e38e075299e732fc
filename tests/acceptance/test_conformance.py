"""The conformance suite of the OCI distribution specification: what passes without us passes behind the proxies."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.fixtures.clients import client
from tests.fixtures.installation import PROXY_SECRET
from tests.fixtures.proxies import PROXIES, proxied
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation
    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

RUN_WITHIN_SECONDS = 900
REFERRERS = tuple(
    f"OCI Conformance Test/{case}/referrers"
    for case in ("empty", "artifacts-with-subject", "index-with-subject", "missing-subject")
)
"""No release of Distribution passes these."""
ATTEMPTS = 5
"""The suite asks right after it pushed. On a machine that others use, too, a question may take longer than 500 ms, and
then the registry answers it."""


@pytest.fixture
def proxy_secret() -> str:
    """The server of these tests takes notices."""
    return PROXY_SECRET


def run(address: str, directory: Path) -> dict[str, bool]:
    """Run the suite against a registry; whether each of its tests passed, those left out not among them."""
    directory.mkdir()
    subprocess.run(
        [client("conformance")],
        cwd=directory,
        check=False,  # it fails if any test does
        capture_output=True,
        timeout=RUN_WITHIN_SECONDS,
        env={
            **os.environ,
            "OCI_REGISTRY": address,
            "OCI_TLS": "disabled",
            "OCI_VERSION": "1.1",
            "OCI_DATA_SHA512": "false",  # Distribution passes none of it, with and without us
            "OCI_RESULTS_DIR": str(directory),
        },
    )
    found = ET.parse(directory / "junit.xml")  # noqa: S314 - written by the suite
    passed: dict[str, bool] = {}
    for case in found.iter("testcase"):
        if case.get("status") not in ("skipped", "disabled"):
            name = case.get("name", "")
            passed[name] = passed.get(name, True) and case.get("status") == "passed"
    return passed


def count(passed: dict[str, bool]) -> int:
    """How many failed."""
    return sum(not each for each in passed.values())


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("name", PROXIES)
def test_conformance__is_no_worse_behind_the_proxy(  # noqa: PLR0917 - fixtures
    name: str,
    installation: Installation,
    start_registry: StartRegistry,
    wired_registry: RegistryServer,
    registry_version: int,
    tmp_path: Path,
) -> None:
    """No test that passes without us fails with us, and those of referrers pass, which fail without us."""
    client("conformance")
    plain = run(start_registry(registry_version).host, tmp_path / "plain")
    installation.start("reconciler", "run")
    directory = tmp_path / "proxy"
    directory.mkdir()
    with proxied(name, wired_registry, installation, directory) as address:
        with Pusher(f"http://{address}") as pusher:
            pusher.push("team/app", oci_image("first"), "v1")

        def ours() -> bool:
            answer: httpx.Response = REQUESTS.get(f"http://{address}/v2/team/app/tags/list")
            return bool(answer.headers.get("cache-control") == "no-store")

        installation.until(ours, "the indexer to answer")
        behind = run(address, tmp_path / "behind")
        missing = {test for test in REFERRERS if not behind[test]}
        for attempt in range(1, ATTEMPTS):
            if not missing:
                break
            print(f"once more, since the registry answered {sorted(missing)}")
            again = run(address, tmp_path / f"behind-{attempt}")
            missing -= {test for test, passed in again.items() if passed}
    assert len(plain) > 250
    assert not all(plain.values())  # what Distribution lacks
    assert [test for test, passed in plain.items() if passed and not behind.get(test, True)] == []
    assert missing == set()
    assert not any(plain[test] for test in REFERRERS)
    print(f"{len(plain)} tests; fail without us {count(plain)}, behind {name} {count(behind)}")
