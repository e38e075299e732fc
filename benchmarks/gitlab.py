"""What GitLab asks for: in database time, and beside one bare query that shows the same.

In database time: a page of 20 tags, and pages of 1,000 by publish time and by name, of a repository of 10,000 tags in a
vacuumed database; the statements are the product's own, and their time is what PostgreSQL itself reports (``EXPLAIN
ANALYZE``, execution). Sides take turns. The probe asks no database at all.

Beside a bare query: every page as the endpoint answers it, up to the encoded body and without HTTP, of 500 repositories
below one group and one of 10,000 tags. The other side sends one statement on the same connections and takes the rows.

    python3 dev.py bench gitlab [--tags N] [--rounds N] [--quick] [--json FILE] [--compare FILE]
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import orjson
import uvloop
from multidict import MultiDict

from benchmarks._database import server
from benchmarks._inventory import Sized, fill, fill_evenly
from benchmarks._report import Report, Target, announce, command_line
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall
from indexer.api.gitlab.repositories import get_repository, list_sub_repositories
from indexer.api.gitlab.tags import get_tag
from indexer.api.gitlab.tags import list_tags as answer_tags
from indexer.store.gitlab import TagsWanted, page_statement
from indexer.store.listing.interned import Interned
from indexer.store.pool import Connection, connect, open_pool
from indexer.store.reading import Readers
from tests.fixtures.rows import TagRow, at, put_repository

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Iterator

REPOSITORY = "group/app"
PAGES_A_ROUND = 50
PAGES: dict[str, dict[str, Any]] = {
    "20 tags, newest first": {"limit": 20, "key": "published_at", "descending": True},
    "20 tags by name": {"limit": 20},
    "1,000 tags, newest first": {"limit": 1000, "key": "published_at", "descending": True},
    "1,000 tags by name": {"limit": 1000},
}

GROUP, LARGE = "group/app-", "group/large"
BESIDE_A_ROUND = 50
ATTRIBUTES = (
    "t.name, m.digest, f.media_type, f.kind, t.size_bytes, t.published_at, t.alive_since, m.config_digest"
)
FROM = """
FROM tag AS t LEFT JOIN manifest AS m ON m.id = t.manifest_id LEFT JOIN facet AS f ON f.id = t.facet_id
WHERE t.repository_id = (SELECT id FROM repository WHERE name = $1)
"""
SIZE = """
SELECT sum(size) FROM (
    SELECT coalesce(nullif(b.size_bytes, 0), max(l.size_bytes)) AS size
    FROM repository AS r JOIN tag AS t ON t.repository_id = r.id
    JOIN manifest_layer AS l ON l.manifest_id = t.manifest_id JOIN blob AS b ON b.id = l.blob_id
    WHERE {} GROUP BY b.id
) AS layer
"""
BELOW = "r.name = $1 OR (r.name > $1 || '/' AND r.name < $1 || '0')"
LAYERS = """
WITH made AS (
    INSERT INTO blob (digest, size_bytes)
    SELECT '\\x01' || sha256(('layer ' || n)::bytea), 1000 + n FROM generate_series(0, $1::bigint - 1) AS n RETURNING id
), numbered AS (SELECT id, row_number() OVER (ORDER BY id) - 1 AS n FROM made)
INSERT INTO manifest_layer (manifest_id, position, blob_id, media_type_id, size_bytes)
SELECT m.id, p, b.id, $2, 1000 + b.n
FROM manifest AS m CROSS JOIN generate_series(0, 4) AS p
JOIN numbered AS b ON b.n = CASE WHEN p < 2 THEN (m.id * 2 + p) % 50 ELSE (m.id * 5 + p) % $1 END
"""
BESIDE: dict[
    str, tuple[Callable[[GitlabCall], Awaitable[GitlabAnswer]], dict[str, Any], str, tuple[object, ...]]
] = {
    "list of 20 tags, newest first": (
        answer_tags,
        {"repository": LARGE, "query": {"n": "20", "sort": "-published_at"}},
        f"SELECT {ATTRIBUTES} {FROM} ORDER BY t.published_at DESC, t.name DESC LIMIT 21",
        (LARGE,),
    ),
    "list of 1,000 tags by name": (
        answer_tags,
        {"repository": LARGE, "query": {"n": "1000"}},
        f"SELECT {ATTRIBUTES} {FROM} ORDER BY t.name LIMIT 1001",
        (LARGE,),
    ),
    "details of a tag": (
        get_tag,
        {"repository": LARGE, "tag": "v1.7.5"},
        f"SELECT {ATTRIBUTES}, m.os_version {FROM} AND t.name = $2",
        (LARGE, "v1.7.5"),
    ),
    "size of a repository": (
        get_repository,
        {"repository": LARGE, "query": {"size": "self"}},
        SIZE.format("r.name = $1"),
        (LARGE,),
    ),
    "size of all below a group": (
        get_repository,
        {"repository": "group", "query": {"size": "self_with_descendants"}},
        SIZE.format(BELOW),
        ("group",),
    ),
    "list of 100 repositories": (
        list_sub_repositories,
        {"repository": "group", "query": {"n": "100"}},
        f"SELECT name, created_at FROM repository AS r WHERE ({BELOW}) AND tag_count > 0 ORDER BY name LIMIT 100",
        ("group",),
    ),
}
"""Each page: who answers it, what is asked, and the bare query with its parameters."""


async def beside(url: str, count: int, rounds: int, report: Report) -> None:
    """Answer each page, and send the bare query of the same, in turns."""
    connection = await connect(url, application="bench gitlab")
    pool = await open_pool(url, size=4, application="bench gitlab")
    readers = Readers(pool, size=3, statement_timeout_seconds=60)
    interned = Interned()
    try:
        await fill_evenly(connection, GROUP, repositories=500, tags_each=max(count // 500, 2))
        await fill(connection, [Sized(LARGE, count)])
        kind = await connection.fetchval(
            "INSERT INTO media_type (name) VALUES ('application/layer') RETURNING id"
        )
        await connection.execute(LAYERS, count * 3, kind)
        await connection.execute("VACUUM ANALYZE")
        for _ in range(rounds):
            for name, (endpoint, asked, text, parameters) in BESIDE.items():
                call = GitlabCall(
                    repository=asked["repository"],
                    tag=asked.get("tag", ""),
                    query=MultiDict(asked.get("query", {})),
                    readers=readers,
                    interned=interned,
                )

                async def answer(endpoint: Any = endpoint, call: GitlabCall = call) -> None:
                    orjson.dumps((await endpoint(call)).body)

                async def bare(text: str = text, parameters: tuple[object, ...] = parameters) -> None:
                    async with readers.reading() as held:
                        await held.fetch(text, *parameters)

                for side, ask in (("", answer), (", bare query", bare)):
                    taken = [await _taken(ask) for _ in range(BESIDE_A_ROUND)]
                    report.add(name + side, sorted(taken)[len(taken) // 2] * 1000, "ms")
    finally:
        await readers.close()
        await pool.close()
        await connection.close()


async def _taken(ask: Callable[[], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await ask()
    return time.perf_counter() - began


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
        async with postgres.copy("bench_gitlab_beside") as url:
            await beside(url, count, rounds, report)
    report.show()
    for name in BESIDE:
        report.ratio(name, f"{name}, bare query", target=Target(at_most=1.5))
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
