"""The demo from outside: it shows the truth, stays up as long as it should, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.registries import found_registry
from tests.fixtures.requests import REQUESTS
from tools.registry_binary import FoundRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WITHIN_SECONDS = 120

pytestmark = [pytest.mark.slow, pytest.mark.registry]


@pytest.fixture
def directory() -> Iterator[Path]:
    """A temporary directory for the demo's own; as root, PostgreSQL runs as another user, who must get there."""
    path = Path(tempfile.mkdtemp(prefix="indexer-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start(found: FoundRegistry, directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "DEMO_REGISTRY": found.to_text(), "TMPDIR": str(directory), "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left_behind(directory: Path) -> list[str]:
    """Files, and processes that were told of them."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"{directory}/".encode() in words:
            processes.append(entry.name)
    return [*processes, *map(str, directory.iterdir())]


@pytest.mark.parametrize("version", [2, 3], ids=["2.8", "3.x"])
def test_demo__once(pytestconfig: pytest.Config, version: int, directory: Path) -> None:
    """With --once it checks what it shows against what it did, says so, and ends with 0."""
    process = start(found_registry(pytestconfig, version), directory, "--once")
    output, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert 0 == process.returncode, output
    print(output)
    for shown in ("shop/web:1.2.0.sbom", "linux/arm64", "tag.moved", "tag_missing", "tag_stale", "tag_extra"):
        assert shown in output
    assert "checked 6 tags" in output
    assert "✗" not in output
    assert [] == left_behind(directory)


@pytest.mark.full
def test_demo__stays(pytestconfig: pytest.Config, directory: Path) -> None:
    """Without, it stays up: the line it offers works as it is, and a Ctrl-C ends it with nothing left behind."""
    process = start(found_registry(pytestconfig, 3), directory)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        offered = re.search(r"curl -H '(.+): (.+)' '(.+)'", line)
        if offered:
            break
    else:
        pytest.fail("".join(lines))
    answer = REQUESTS.get(offered[3], headers={offered[1]: offered[2]})
    assert 5 == len(answer.json()["items"])
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert 0 == process.returncode, output
    assert [] == left_behind(directory)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo__interrupted(pytestconfig: pytest.Config, number: signal.Signals, directory: Path) -> None:
    """Interrupted on the way, whenever that is, it ends with 130 and leaves nothing behind."""
    process = start(found_registry(pytestconfig, 3), directory)
    deadline = time.monotonic() + WITHIN_SECONDS
    while not list(directory.glob("*/data/postgres/postmaster.pid")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert 130 == process.returncode, output
    assert [] == left_behind(directory)


def test_demo__registry_does_not_start(directory: Path) -> None:
    """A registry that does not start is said in a line, not in a traceback; exit code 1."""
    broken = FoundRegistry("3.9.9", "a test", binary=Path("/bin/false"))
    process = start(broken, directory, "--once")
    output, _ = process.communicate(timeout=WITHIN_SECONDS)
    assert 1 == process.returncode, output
    assert "registry 3.9.9 did not start" in output
    assert "Traceback" not in output
    assert [] == left_behind(directory)
