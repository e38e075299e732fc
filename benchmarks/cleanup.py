"""A cleanup plan as it is made: facts from PostgreSQL, evaluation, every verdict as JSON, the plan stored.

The inventory has 100,000 tags, in one repository or in a thousand; each image has three layers, a third was pulled. The
policy is that of the reference, with every kind of rule. Times are of the processor in the process that makes the plan,
each round in a process of its own, with the memory that it had at most; what PostgreSQL takes is beside them.

    python3 dev.py bench cleanup [--tags N] [--rounds N]
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from benchmarks._database import server
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks.policies import MEBIBYTES, SECONDS, policy_text
from indexer.cleanup.planning import make_plan
from indexer.policies.verdicts import Decision
from indexer.store import policies_in_force
from indexer.store.pool import connect

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 11, 29, tzinfo=UTC)
SINCE = NOW - timedelta(days=300)

BEGIN = """
INSERT INTO facet (key, media_type, artifact_type, kind, platforms) VALUES ('k', 'm', '', 'image', '{}');
INSERT INTO media_type (name) VALUES ('layer');
INSERT INTO blob (digest, size_bytes)
SELECT '\\x01' || sha256(('b ' || n)::bytea), 1000 FROM generate_series(1, 50000) AS n;
"""

OF_A_REGISTRY = """
WITH instance AS (
    INSERT INTO registry_instance (key, instance, address, first_seen_at, last_seen_at, first_event_at, last_event_at,
                                   events)
    VALUES ('i', 'i', 'a', $1, $2, $1, $2, 1)
), session AS (
    INSERT INTO receiver_session (opened_at, heartbeat_at, spooled, process) VALUES ($1, $2, 0, gen_random_uuid())
), trait AS (
    INSERT INTO registry_trait (trait, holds, because, changed_at, observed_at)
    VALUES ('announces_pulls', true, 'seen', $1, $2)
)
INSERT INTO repository (name, created_at, last_reconciled_at, tag_count, manifest_count)
SELECT 'bench/r' || n, $1, $2::timestamptz - interval '1 hour', $4, $4 FROM generate_series(1, $3::integer) AS n
"""

MANIFESTS = """
INSERT INTO manifest (digest, size_bytes, facet_id, content, read_at)
SELECT '\\x01' || sha256(('m ' || n)::bytea), 500, (SELECT min(id) FROM facet), 'read', $1
FROM generate_series(1, $2::integer) AS n
"""

LAYERS = """
INSERT INTO manifest_layer (manifest_id, blob_id, position, media_type_id, size_bytes)
SELECT m.id, 1 + (m.id * 7919 + n * 104729) % 50000, n, (SELECT min(id) FROM media_type), 1000
FROM manifest AS m CROSS JOIN generate_series(0, 2) AS n
"""

HELD = """
INSERT INTO repository_manifest (repository_id, manifest_id, pushed_at, as_of, last_pulled_at)
SELECT 1 + (id - 1) / $2::integer, id, at, at,
       CASE WHEN id % 3 = 0 THEN $1::timestamptz - make_interval(secs => (id * 104729) % 17280000) END
FROM manifest
CROSS JOIN LATERAL (SELECT $1::timestamptz - make_interval(secs => (id * 7919) % 17280000) AS at) AS pushed
"""

TAGS = """
INSERT INTO tag (repository_id, name, manifest_id, published_at, published_source, first_seen_at, last_event_at,
                 verified_at, facet_id, evidence)
SELECT h.repository_id,
       CASE m.id % 5 WHEN 0 THEN 'main-' || m.id WHEN 1 THEN 'pr-' || m.id WHEN 2 THEN 'v1.' || m.id || '.0'
                     WHEN 3 THEN 'feature.x-' || m.id ELSE 'nightly-' || m.id END,
       m.id, h.pushed_at, CASE WHEN m.id % 2 = 0 THEN 'event' ELSE 'first-seen' END, h.pushed_at, h.pushed_at, $1,
       m.facet_id, 'event'
FROM manifest AS m JOIN repository_manifest AS h ON h.manifest_id = m.id
"""

HISTORY = """
INSERT INTO tag_history (repository_id, name, valid_from, manifest_id, from_source)
SELECT repository_id, name, published_at, manifest_id, published_source FROM tag
"""


def in_force(tags: int) -> str:
    """Return the file that the reference shows, with limits that let something be deleted here."""
    text = policy_text()
    assert "bytes: 200GiB" in text
    assert "repository_share: 50%" in text
    return text.replace("bytes: 200GiB", f"bytes: {tags // 2000}MiB").replace("_share: 50%", "_share: 100%")


async def fill(url: str, *, tags: int, repositories: int) -> None:
    """Write the inventory."""
    connection = await asyncpg.connect(url)
    each = tags // repositories
    await connection.execute(BEGIN)
    await connection.execute(OF_A_REGISTRY, SINCE, NOW, repositories, each)
    await connection.execute(MANIFESTS, SINCE, each * repositories)
    await connection.execute(LAYERS)
    await connection.execute(HELD, NOW, each)
    await connection.execute(TAGS, NOW)
    await connection.execute(HISTORY)
    await connection.close()
    held = await connect(url, application="bench")
    async with held.transaction():
        await policies_in_force.put_in_force(held, content=in_force(tags).encode(), at=SINCE, by=None)
    await held.execute("ANALYZE")
    await held.close()


async def measure(url: str) -> dict[str, float]:
    """Make one plan; return seconds of the processor and of the clock, MiB, and how many verdicts there were."""
    held = await connect(url, application="bench")
    file = await policies_in_force.in_force(held)
    assert file is not None
    policies = file.policies()
    reasons: Counter[str] = Counter()

    def show(verdict: Mapping[str, Any]) -> None:
        reasons[verdict["reason"]] += 1
        orjson.dumps(verdict)

    began, clock = time.process_time(), time.monotonic()
    made = await make_plan(held, policies, now=NOW, operator=None, show=show)
    took, waited = time.process_time() - began, time.monotonic() - clock
    await held.close()
    deleted = sum(outcome.counts[Decision.DELETE] for outcome in made.outcomes)
    assert deleted > 0, reasons
    return {
        "processor": took,
        "clock": waited,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "deleted": deleted,
        "verdicts": reasons.total(),
    }


async def run(report: Report, *, tags: int, rounds: int) -> None:
    """Measure both sides."""
    async with server() as postgres:
        await postgres.template()
        for side, repositories in (("one repository", 1), ("1,000 repositories", 1000)):
            for number in range(rounds):
                async with postgres.copy("bench_cleanup") as url:
                    await fill(url, tags=tags, repositories=repositories)
                    before = postgres.processor_seconds()
                    done = await asyncio.to_thread(
                        subprocess.run,
                        [sys.executable, __file__, "--measure", url],
                        stdout=subprocess.PIPE,
                        check=True,
                    )
                    found = orjson.loads(done.stdout)
                    report.add(f"plan, {side}", found["processor"], "s")
                    report.add(f"PostgreSQL, {side}", postgres.processor_seconds() - before, "s")
                    report.add(f"clock, {side}", found["clock"], "s")
                    report.add(f"memory, {side}", found["memory"], "MiB")
                say(f"{side}: round {number + 1}, {found['deleted']} of {found['verdicts']} verdicts delete")


def main() -> None:
    parser = command_line("A cleanup plan from the database: processor and memory.")
    parser.add_argument("--tags", type=int, help="tags in all (100,000)")
    parser.add_argument("--measure", metavar="URL", help="make one plan, as JSON")
    arguments = parser.parse_args()
    if arguments.measure:
        sys.stdout.write(orjson.dumps(asyncio.run(measure(arguments.measure))).decode())
        return
    tags = arguments.tags or (10_000 if arguments.quick else 100_000)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    report = Report("cleanup")
    announce(report, tags=tags, rounds=rounds)
    asyncio.run(run(report, tags=tags, rounds=rounds))
    report.show()
    for side in ("one repository", "1,000 repositories"):
        print(f"plan, {side}: {Target(at_most=SECONDS).judge(report.median(f'plan, {side}'))}")
        print(f"memory, {side}: {Target(at_most=MEBIBYTES).judge(report.median(f'memory, {side}'))}")
    report.keep(arguments)


if __name__ == "__main__":
    main()
