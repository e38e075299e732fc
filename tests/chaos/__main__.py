"""Chaos by hand: prints what was compared, exits 1 if anything is wrong.

``python3 dev.py chaos [--seed N] [--minutes M] [--registry 2|3] [--storage filesystem|s3] [--processes N]``.
``python3 dev.py chaos --cleanup [--seeds N] [--seed N] [--registry 2|3]``: of deletions beside pushers, 500 for each
seed and version.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos import cleanup
from tests.chaos.run import run
from tools import registry_binary


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def main() -> int:
    """Run once and report."""
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--cleanup", action="store_true", help="of deletions")
    parser.add_argument("--seeds", type=_count, help="with --cleanup: so many seeds, from 1 or --seed on")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--registry", type=int, choices=(2, 3), help="3; with --cleanup both")
    parser.add_argument("--storage", choices=("filesystem", "s3"), default="filesystem")
    parser.add_argument("--processes", type=int, choices=(1, 2, 3), default=1, help="of the registry")
    arguments = parser.parse_args()
    if arguments.cleanup:
        first = 1 if arguments.seed is None else arguments.seed
        cleanup.become(range(first, first + (arguments.seeds or 1)), version=arguments.registry)
    if arguments.seeds is not None:
        parser.error("--seeds is for --cleanup")
    version = arguments.registry or 3
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    directory = Path(tempfile.mkdtemp(prefix="indexer-chaos-"))
    print(f"seed {seed}, Distribution {version}.x, logs in {directory}", flush=True)
    outcome = asyncio.run(
        run(
            registry_binary.find(version),
            directory,
            seed=seed,
            seconds=arguments.minutes * 60,
            say=lambda text: print(text, flush=True),
            on_s3=arguments.storage == "s3",
            registry_processes=arguments.processes,
        )
    )
    print(f"operations {outcome.operations}, faults {sum(outcome.faults.values())}: {outcome.faults}")
    print(f"tags compared {outcome.tags}, differences {len(outcome.differences)}")
    print(f"acknowledged {outcome.acknowledged}, missing {len(outcome.missing)}, refused {outcome.refused}")
    for line in [*outcome.differences, *outcome.missing[:20], *outcome.wrong]:
        print(f"  wrong: {line}")
    if outcome.good:
        shutil.rmtree(directory, ignore_errors=True)
    return 0 if outcome.good else 1


sys.exit(main())
