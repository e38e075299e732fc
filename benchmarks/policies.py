"""A policy of every kind of rule over 100,000 tags: how long its evaluation takes, and how much memory with its facts.

One side is one repository of all the tags, the other a thousand repositories; beside them the least that anything has
to do: look at every tag's name and push once. Every tenth image is an index of three children, every seventh tag has a
sibling, every fifth image has a signature; a third was pulled, and half of the times are known no better than "before".
Times are of the processor, in a process of its own each, with the memory that the process had at most.

    python3 dev.py bench policies [--tags N] [--rounds N]
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from benchmarks._report import Report, Target, announce, command_line, say
from indexer.oci.digest import Digest
from indexer.policies.cleanup import evaluate
from indexer.policies.document import read_policies
from indexer.policies.facts import Coverage, ManifestFacts, Pull, RepositoryFacts, Snapshot, TagFacts
from indexer.policies.freed import owners_of
from indexer.policies.intervals import before, exactly
from indexer.policies.serialize import as_json

if TYPE_CHECKING:
    from indexer.policies.intervals import Between

NOW = datetime(2026, 11, 29, tzinfo=UTC)
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "policies.md"
SECONDS = 5.0
MEBIBYTES = 300.0
LAYERS = [(f"layer-{number}", 1000) for number in range(50_000)]
"""Whoever reads facts makes the text of a digest once, too."""


def policy_text() -> str:
    """Return the file that the reference shows: every kind of rule, without the source that would have to report."""
    text = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    return text.split("in_use:\n")[0]


def digest(*parts: object) -> Digest:
    """Return a digest of a number; hashing would be what is measured."""
    return Digest("sha256:" + "".join(f"{part:0>16}" for part in parts).rjust(64, "a"))


def repository(name: str, number: int, tags: int) -> RepositoryFacts:
    """Return a repository of so many tags."""
    drawn = random.Random(number)  # noqa: S311 - not a secret
    found: list[TagFacts] = []
    manifests: list[ManifestFacts] = []
    pulls: list[Pull] = []

    def instant() -> Between:
        at = NOW - timedelta(seconds=drawn.randrange(200 * 86400))
        return exactly(at) if drawn.random() < 0.5 else before(at)

    at = 0
    while len(found) < tags:
        own, pushed = digest(number, at), instant()
        children: tuple[str, ...] = ()
        if at % 10 == 0:
            children = tuple(digest(number, at, child) for child in range(1, 4))
            manifests += [image(child, pushed, drawn) for child in children]
        manifests.append(image(own, pushed, drawn, children))
        if at % 5 == 0:
            manifests.append(image(digest(number, at, 9), pushed, drawn, subject=own))
        if at % 3 == 0:
            pulls.append(
                Pull(own, NOW - timedelta(days=drawn.randrange(200)), actor="ci", address="10.0.0.1")
            )
        kind = ("main-{}", "pr-{}", "v1.{}.0", "feature.x-{}", "nightly-{}")[at % 5]
        found.append(TagFacts(name=kind.format(at), digest=own, pushed=pushed))
        if at % 7 == 0:
            found.append(TagFacts(name=f"sibling-{at}", digest=own, pushed=pushed))
        at += 1
    return RepositoryFacts(name=name, tags=found[:tags], manifests=manifests, pulls=pulls)


def image(
    own: str,
    pushed: Between,
    drawn: random.Random,
    children: tuple[str, ...] = (),
    subject: str | None = None,
) -> ManifestFacts:
    layers = () if children else tuple(drawn.choices(LAYERS, k=3))
    return ManifestFacts(
        digest=own, pushed=pushed, size_bytes=500, blobs=layers, children=children, subject=subject
    )


def measure(tags: int, repositories: int) -> dict[str, float]:
    """Evaluate once; return seconds of the processor and MiB."""
    policy = read_policies(policy_text().encode()).cleanup[0]
    facts = [repository(f"bench/r{number}", number, tags // repositories) for number in range(repositories)]
    snapshot = Snapshot(repositories=facts, coverage=Coverage(pulls_since=NOW - timedelta(days=150)))
    owners = owners_of(manifest for each in facts for manifest in each.manifests)
    holding = memory()
    began = time.process_time()
    least = sum(
        1 for each in facts for tag in each.tags if tag.name.startswith("pr-") and tag.pushed.latest < NOW
    )
    bare = time.process_time() - began
    began = time.process_time()
    found = evaluate(snapshot, policy, now=NOW, owners=owners)
    took = time.process_time() - began
    whole = memory()
    began = time.process_time()
    size = sum(len(orjson.dumps(as_json(verdict))) for verdict in found.verdicts)
    return {
        "evaluate": took,
        "bare": bare,
        "as JSON": time.process_time() - began,
        "facts": holding,
        "memory": whole,
        "verdicts": len(found.verdicts),
        "pr tags": least,
        "json": size / 2**20,
    }


def memory() -> float:
    """Return the most memory that this process had so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = command_line("Evaluation of a cleanup policy: processor and memory.")
    parser.add_argument("--tags", type=int, help="tags in all (100,000)")
    parser.add_argument(
        "--measure", type=int, nargs=2, metavar=("TAGS", "REPOSITORIES"), help="one run, as JSON"
    )
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(orjson.dumps(measure(*arguments.measure)).decode())
        return
    tags = arguments.tags or (10_000 if arguments.quick else 100_000)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    report = Report("policies")
    announce(report, tags=tags, rounds=rounds)
    for number in range(rounds):
        for side, repositories in (("one repository", 1), ("1,000 repositories", 1000)):
            done = subprocess.run(
                [sys.executable, __file__, "--measure", str(tags), str(repositories)],
                capture_output=True,
                check=True,
            )
            found = orjson.loads(done.stdout)
            report.add(f"evaluate, {side}", found["evaluate"], "s")
            report.add(f"look at every tag, {side}", found["bare"], "s")
            report.add(f"verdicts as JSON, {side}", found["as JSON"], "s")
            report.add(f"facts, {side}", found["facts"], "MiB")
            report.add(f"facts and verdicts, {side}", found["memory"], "MiB")
        say(f"round {number + 1}")
    report.show()
    for side in ("one repository", "1,000 repositories"):
        seconds, mebibytes = report.median(f"evaluate, {side}"), report.median(f"facts and verdicts, {side}")
        print(f"evaluate, {side}: {Target(at_most=SECONDS).judge(seconds)}")
        print(f"memory, {side}: {Target(at_most=MEBIBYTES).judge(mebibytes)}")
    report.keep(arguments)


if __name__ == "__main__":
    main()
