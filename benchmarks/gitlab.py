"""What GitLab asks for, in database time: a page of 20 tags, and pages of 1,000 by publish time and by name.

A repository of 10,000 tags in a vacuumed database; the statements are the product's own, and their time is what
PostgreSQL itself reports (``EXPLAIN ANALYZE``, execution). Sides take turns. The probe asks no database at all.

    python3 dev.py bench gitlab [--tags N] [--rounds N] [--quick] [--json FILE] [--compare FILE]
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from benchmarks._database import server
from benchmarks._report import Report, Target, announce, command_line
from indexer.store.gitlab import TagsWanted, page_statement
from indexer.store.pool import Connection, connect
from tests.fixtures.rows import TagRow, at, put_repository

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

REPOSITORY = "group/app"
PAGES_A_ROUND = 50
PAGES: dict[str, dict[str, Any]] = {
    "20 tags, newest first": {"limit": 20, "key": "published_at", "descending": True},
    "20 tags by name": {"limit": 20},
    "1,000 tags, newest first": {"limit": 1000, "key": "published_at", "descending": True},
    "1,000 tags by name": {"limit": 1000},
}


def tags(count: int) -> Iterator[TagRow]:
    """Tags in no order, two to a manifest."""
    chance = random.Random(count)  # noqa: S311 - made-up data
    for number in chance.sample(range(count), count):
        yield TagRow(
            name=f"v{number:06}",
            published_at=at(chance.randrange(count)),
            seed=f"{chance.randrange(count // 2)}",
        )


async def milliseconds(connection: Connection, repository: int, wanted: dict[str, Any]) -> float:
    """Return what the database took for one page."""
    statement, text = page_statement(TagsWanted(repository_id=repository, **wanted))
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {text}", *statement.values)
    return float(orjson.loads(plan)[0]["Execution Time"])


async def measure(url: str, count: int, rounds: int, report: Report) -> None:
    """Fill the database and take turns."""
    connection = await connect(url, application="bench gitlab")
    try:
        await put_repository(connection, REPOSITORY, list(tags(count)))
        await connection.execute("VACUUM ANALYZE")
        number = await connection.fetchval("SELECT id FROM repository WHERE name = $1", REPOSITORY)
        for _ in range(rounds):
            for name, wanted in PAGES.items():
                taken = [await milliseconds(connection, number, wanted) for _ in range(PAGES_A_ROUND)]
                report.add(name, sorted(taken)[len(taken) // 2], "ms")
    finally:
        await connection.close()


async def run(arguments: argparse.Namespace) -> None:
    """Measure on a server of our own."""
    report = Report("gitlab")
    count = arguments.tags or (1_000 if arguments.quick else 10_000)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    async with server() as postgres:
        await postgres.template()
        async with postgres.copy("bench_gitlab") as url:
            announce(report, tags=count, pages_a_round=PAGES_A_ROUND)
            await measure(url, count, rounds, report)
    report.show()
    report.ratio("1,000 tags, newest first", "1,000 tags by name", target=Target(at_most=1.0))
    print(f"20 tags, newest first: {Target(at_most=1.0).judge(report.median('20 tags, newest first'))} ms")
    report.keep(arguments)


def main() -> None:
    """Read the command line and run."""
    parser = command_line("Pages that GitLab asks for, in database time.")
    parser.add_argument("--tags", type=int, help="tags in the repository (10,000)")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
