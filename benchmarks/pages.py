"""Pages of 100 tags over HTTP: what the size of the repository adds, and what many readers wait.

One inventory holds repositories of 1,000 tags up to the largest asked for. For each sort key, in both directions, the
first page and a deep one are asked of the smallest and the largest repository, turn by turn; their ratio is printed.
Filters that match nothing follow. Then 1 to 300 readers ask for pages at once, beside two queries on as many
connections (64 at most): of the tags' rows alone, and of all that a page shows. The readers of either side are lean,
in a process of their own (``_reading.py``), and share the cores with server and database.

``--keep DIRECTORY`` asks inside the inventory that `growth --keep` left there.

    python3 dev.py bench pages [--tags N] [--rounds N] [--keep DIRECTORY]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import uvloop

from benchmarks._database import server
from benchmarks._inventory import Sized, fill
from benchmarks._report import Report, Target, announce, command_line, percentile, say
from benchmarks._serving import TOKEN, indexer, until_up
from indexer.store.pool import connect

if TYPE_CHECKING:
    import argparse

HERE = Path(__file__).parent
SORTS = ("name", "semver", "published_at", "created_at", "size", "last_pulled_at", "first_seen_at")
READERS = (1, 16, 64, 300)
MOST_CONNECTIONS = 64
"""More readers than that share their turns at the bare database, which takes no 300 connections."""
DEEP_PAGES = 5
ASKS = 20
NOTHING = {"name": "no-such-name", "name_regex": "zz.*[0-9]zz", "platform": "windows/arm64", "kind": "chart"}

_BARE = """
SELECT t.* FROM (
    SELECT name, published_at FROM tag WHERE repository_id = $1 ORDER BY published_at DESC, name DESC LIMIT 100
) AS page JOIN tag AS t ON t.repository_id = $1 AND t.name = page.name ORDER BY page.published_at DESC, page.name DESC
"""

_PAGE = """
SELECT t.name, m.digest, t.facet_id, t.size_bytes, t.published_at, t.published_source, t.image_created,
       t.first_seen_at, p.last_pulled_at, p.pull_count, m.config_digest, t.pushed_by, t.verified_at,
       t.broken_reason
FROM tag AS t LEFT JOIN manifest AS m ON m.id = t.manifest_id LEFT JOIN LATERAL (
    SELECT last_pulled_at, pull_count FROM tag_pull AS p
    WHERE p.repository_id = t.repository_id AND p.name = t.name LIMIT 1
) AS p ON true WHERE t.repository_id = $1 ORDER BY t.published_at DESC, t.name DESC LIMIT 100
"""
"""What a page shows beyond its tags' own rows: digests, pulls."""


async def page(session: aiohttp.ClientSession, address: str) -> dict[str, Any]:
    async with session.get(address) as response:
        assert response.status == 200, await response.text()
        found: dict[str, Any] = orjson.loads(await response.read())
        return found


async def seconds(session: aiohttp.ClientSession, address: str) -> float:
    """Return the median time of one page."""
    took = []
    for _ in range(ASKS):
        began = time.perf_counter()
        await page(session, address)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def deep(session: aiohttp.ClientSession, address: str) -> str:
    """Return the address of a page some pages on."""
    later = address
    for _ in range(DEEP_PAGES):
        cursor = (await page(session, later))["next"]
        if cursor is None:
            break
        later = f"{address}&after={cursor}"
    return later


def address_of(url: str, repository: str, **query: str) -> str:
    parameters = "&".join(f"{key}={value}" for key, value in query.items())
    return f"{url}/api/v1/repositories/{repository}/tags?limit=100&{parameters}"


async def by_size(
    report: Report, session: aiohttp.ClientSession, url: str, sized: list[Sized], rounds: int
) -> None:
    """Ask for the same pages of the smallest and the largest repository."""
    small, large = sized[0].name, sized[-1].name
    for key in SORTS:
        for sort in (key, f"-{key}"):
            first = [address_of(url, name, sort=sort) for name in (small, large)]
            later = [await deep(session, address) for address in first]
            for _ in range(rounds):
                for depth, addresses in (("first", first), ("deep", later)):
                    for side, address in zip(("small", "large"), addresses, strict=True):
                        report.add(f"{sort} {depth}, {side}", await seconds(session, address) * 1000, "ms")
    for key, value in NOTHING.items():
        for _ in range(rounds):
            for side, name in (("small", small), ("large", large)):
                took = await seconds(session, address_of(url, name, sort="-published_at", **{key: value}))
                report.add(f"{key} matches nothing, {side}", took * 1000, "ms")


async def read(kind: str, readers: int, asks: int, *rest: str) -> tuple[float, list[float]]:
    """Let readers of a process of their own ask at once; return pages a second, and how long each waited."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        HERE / "_reading.py",
        kind,
        str(readers),
        str(asks),
        *rest,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    found = orjson.loads(said)
    return found["rate"], found["took"]


async def by_readers(report: Report, url: str, database: str, repository: str, asks: int) -> None:
    """Let readers ask at once, of us and, beside it, of the bare database."""
    connection = await connect(database, application="bench")
    number = await connection.fetchval("SELECT id FROM repository WHERE name = $1", repository)
    await connection.close()
    address = address_of(url, repository, sort="-published_at")
    for readers in READERS:
        direct = min(readers, MOST_CONNECTIONS)
        for name, statement in (("bare query", _BARE), ("page's own query", _PAGE)):
            rate, _ = await read("database", direct, asks, database, statement, str(number))
            report.add(f"{name}, {readers} readers", rate, "pages/s")
        rate, took = await read("http", readers, asks, address, TOKEN)
        report.add(f"HTTP, {readers} readers", rate, "pages/s")
        report.add(f"HTTP p50, {readers} readers", percentile(took, 0.5) * 1000, "ms")
        report.add(f"HTTP p99, {readers} readers", percentile(took, 0.99) * 1000, "ms")


def by_size_ratios(report: Report) -> None:
    for key in SORTS:
        for sort in (key, f"-{key}"):
            for depth in ("first", "deep"):
                report.ratio(f"{sort} {depth}, large", f"{sort} {depth}, small", target=Target(at_most=1.3))
    for key in NOTHING:
        report.ratio(f"{key} matches nothing, large", f"{key} matches nothing, small")


async def run(arguments: argparse.Namespace) -> None:
    report = Report("pages")
    quick = arguments.quick
    tags = arguments.tags or (2_000 if quick else 100_000)
    rounds = arguments.rounds or (1 if quick else 5)
    sized = [Sized(f"bench/of-{size}", size) for size in (1_000, 10_000, 50_000, 500_000) if size <= tags]
    sized += [Sized("bench/largest", tags)] if sized[-1].tags < tags else []
    async with server(arguments.keep) as place:
        await place.template()
        async with place.inventory(kept=arguments.keep is not None) as database:
            connection = await connect(database, application="bench")
            began = time.perf_counter()
            await fill(connection, sized)
            all_tags = await connection.fetchval("SELECT sum(tag_count) FROM repository")
            await connection.close()
            filled = time.perf_counter() - began
            announce(
                report,
                repositories=[s.tags for s in sized],
                inventory=int(all_tags),
                filled_in_seconds=round(filled, 1),
            )
            with indexer(database, place.directory) as (url, _):
                await until_up(f"{url}/healthz")
                if not arguments.readers_only:
                    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
                        await by_size(report, session, url, sized, rounds)
                    say("sizes measured")
                for _ in range(rounds):
                    await by_readers(report, url, database, sized[-1].name, 300 if quick else 2_000)
    report.show()
    if not arguments.readers_only:
        by_size_ratios(report)
    report.ratio("HTTP, 16 readers", "bare query, 16 readers", target=Target(at_least=0.55))
    report.ratio("HTTP, 16 readers", "page's own query, 16 readers")
    report.ratio("HTTP p99, 64 readers", "HTTP p50, 64 readers", target=Target(at_most=1.5))
    report.keep(arguments)


def main() -> None:
    parser = command_line("Pages of 100 tags by sort key, size, depth and number of readers.")
    parser.add_argument("--tags", type=int, help="tags in the largest repository (100,000)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="leave the inventory there, or use what is there"
    )
    parser.add_argument("--readers-only", action="store_true", help="leave out sizes, sorts and depths")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
