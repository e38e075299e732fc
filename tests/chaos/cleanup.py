"""Chaos of deletions by hand: the test of it, with more seeds than the long run has."""

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
USUAL = (1, 2)
"""Of the long run."""
VERSIONS = {2: "2.8", 3: "3.x"}


def seeds() -> list[int]:
    """Return the seeds that the test runs with."""
    given = os.environ.get(SEEDS)
    return list(USUAL) if given is None else [int(each) for each in given.split(",")]


def become(wanted: Sequence[int], *, version: int | None) -> NoReturn:
    """Run the test with these seeds, on one version of the registry or (None) on both, in place of this process."""
    os.chdir(ROOT)
    chosen = [] if version is None else ["-k", VERSIONS[version]]
    command = [sys.executable, "-m", "pytest", TEST, "--full", "-q", "-s", "-n", "0", *chosen]
    environment = {**os.environ, SEEDS: ",".join(map(str, wanted))}
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own Python, no shell wanted
