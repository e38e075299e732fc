"""What ``pip install`` gets: the wheel holds the programs, their commands and every file they read."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOT_CODE = {".sql", ".html", ".css", ".js", ".svg", ".typed", ".json"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built from this source tree."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(directory.glob("*.whl"))) as opened:
        yield opened


def test_wheel__has_the_commands(wheel: zipfile.ZipFile) -> None:
    """Both commands are there after an install."""
    entry_points = next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(entry_points).decode()
    assert "indexer = indexer.__main__:main" in text
    assert "reconciler = reconciler.__main__:main" in text


def test_wheel__has_every_file(wheel: zipfile.ZipFile) -> None:
    """Modules, SQL and pages are in the wheel, and the schema where the program looks for it."""
    packages = [path for package in ("indexer", "reconciler") for path in (ROOT / package).rglob("*")]
    needed = {str(path.relative_to(ROOT)) for path in packages if path.suffix in {".py", *NOT_CODE}}
    assert needed | {"indexer/store/schema.sql"} <= set(wheel.namelist())


def test_wheel__has_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Tests, tools and secrets stay at home."""
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"indexer", "reconciler"}
