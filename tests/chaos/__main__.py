"""Chaos by hand: prints what was compared, exits 1 if anything is wrong.

``python3 dev.py chaos [--seed N] [--minutes M] [--registry 2|3] [--storage filesystem|s3] [--processes N]``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run
from tools import registry_binary


def main() -> int:
    """Run once and report."""
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--registry", type=int, choices=(2, 3), default=3)
    parser.add_argument("--storage", choices=("filesystem", "s3"), default="filesystem")
    parser.add_argument("--processes", type=int, choices=(1, 2, 3), default=1, help="of the registry")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="indexer-chaos-"))
    print(f"seed {arguments.seed}, Distribution {arguments.registry}.x, logs in {directory}", flush=True)
    outcome = asyncio.run(
        run(
            registry_binary.find(arguments.registry),
            directory,
            seed=arguments.seed,
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
