"""Chaos of deletions, run by hand: each seed takes minutes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEST = "tests/integration/test_tag_actions_chaos.py"
SEEDS = "CLEANUP_CHAOS_SEEDS"
"""Environment variable: the seeds, a comma list."""
VERSIONS = {2: "2.8", 3: "3.x"}


def cases() -> list[Any]:
    """Return versions of the registry and seeds that the test runs with: every seed on both if it is run by hand."""
    by_hand = os.environ.get(SEEDS)
    if by_hand is None:
        named = [(2, 1), (3, 2)]
    else:
        named = [(version, int(each)) for each in by_hand.split(",") for version in VERSIONS]
    return [pytest.param(version, seed, id=f"{VERSIONS[version]}-{seed}") for version, seed in named]


def become(wanted: Sequence[int], *, version: int | None) -> NoReturn:
    """Run the test with these seeds, on one version of the registry or (None) on both, in place of this process."""
    os.chdir(ROOT)
    chosen = [] if version is None else ["-k", VERSIONS[version]]
    command = [sys.executable, "-m", "pytest", TEST, "--full", "-q", "-s", "-n", "0", *chosen]
    environment = {**os.environ, SEEDS: ",".join(map(str, wanted))}
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own Python, no shell wanted
