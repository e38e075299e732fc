"""The benchmark that writes what we write by statements of its own: both sides must come to the same rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_bench_apply__both_sides_write_the_same() -> None:
    """It compares the rows of both sides itself, and ends badly where they differ or a statement changed."""
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "apply.py", "--quick"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "ours, 2 / bare SQL, 2" in ran.stdout
    assert "ours, 1: processor / bare SQL, 1: processor" in ran.stdout
    assert "MISSED" not in ran.stdout, "a trial is judged by nobody"
