"""Every benchmark can be started; what it measures is not a test's business."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmarks__each_says_what_it_understands(name: str) -> None:
    """Each benchmark imports what it uses, and explains its command line."""
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("usage:")
