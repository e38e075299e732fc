"""Chaos of deletions, run by hand: each seed takes minutes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
TEST = "tests/integration/test_tag_actions_chaos.py"
SEEDS = "CLEANUP_CHAOS_SEEDS"
"""Environment variable: the seeds, a comma list."""
VERSIONS = {2: "2.8", 3: "3.x"}


def seeds() -> list[int]:
    """Return the seeds that the test runs with; one that is left out if it is not run by hand."""
    return [int(each) for each in os.environ.get(SEEDS, "1").split(",")]


def become(wanted: Sequence[int], *, version: int | None) -> NoReturn:
    """Run the test with these seeds, on one version of the registry or (None) on both, in place of this process."""
    os.chdir(ROOT)
    chosen = [] if version is None else ["-k", VERSIONS[version]]
    command = [sys.executable, "-m", "pytest", TEST, "--full", "-q", "-s", "-n", "0", *chosen]
    environment = {**os.environ, SEEDS: ",".join(map(str, wanted))}
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own Python, no shell wanted
