"""How cost grows with the inventory: the same work inside 10,000, 100,000, 1,000,000 and more tags.

One database grows from size to size, repositories of 200 tags each (Harbor's "medium" set: 8,000,000 tags in 40,000).
Beside them lie two repositories that stay as they are, of 1,000 and of 10,000 tags. At each size, in several rounds:

- apply: 2,000 pushes over 300 of the repositories, half to new tags, from a full inbox to an empty one, per event;
- pages of 100 over HTTP, newest first and by size, first and deep, of both fixed repositories; the newest tags of the
  whole registry; a name that matches nothing;
- bytes of the database per tag.

A power law is fitted to each (least squares of the logarithms): exponent 0 is flat, 1 is linear in the size of the
inventory. ``--plot FILE`` draws them, where matplotlib is installed. ``--keep DIRECTORY`` leaves the inventory there:
another run goes on from its size, ``--after FILE`` with the figures that the one before saved, and `pages --keep` asks
for pages inside it.

    python3 dev.py bench growth [--sizes 10000,100000,1000000,8000000] [--keep DIRECTORY] [--plot FILE.svg]
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import uvloop

from benchmarks._database import server
from benchmarks._events import pushes
from benchmarks._inventory import Sized, fill, fill_evenly
from benchmarks._report import Report, announce, command_line, say
from benchmarks._serving import TOKEN, indexer, until_up
from benchmarks.apply import drain, put_inbox
from benchmarks.pages import address_of, deep, seconds
from indexer.store.pool import connect

if TYPE_CHECKING:
    import argparse

SIZES = (10_000, 100_000, 1_000_000)
TAGS_EACH = 200
APPLIED_REPOSITORIES = 300
EVENTS = 2_000
SLOW_SECONDS = 600
FIXED = (Sized("bench/of-1000", 1_000), Sized("bench/of-10000", 10_000))


async def grown(url: str) -> int:
    """Return how many tags were added so far."""
    connection = await connect(url, application="bench")
    found = await connection.fetchval(
        "SELECT count(*) FROM repository WHERE name LIKE 'grown-%'", timeout=SLOW_SECONDS
    )
    await connection.close()
    return int(found) * TAGS_EACH


async def grow(url: str, tags: int, *, number: int) -> None:
    """Add repositories."""
    connection = await connect(url, application="bench")
    await fill_evenly(connection, f"grown-{number}/app-", repositories=tags // TAGS_EACH, tags_each=TAGS_EACH)
    await connection.close()


async def apply_events(report: Report, url: str, size: int, *, rounds: int, events: int) -> None:
    """Apply pushes to repositories all over the inventory."""
    connection = await connect(url, application="bench")
    found = await connection.fetch(
        "SELECT name FROM repository WHERE name LIKE 'grown%' ORDER BY md5(name) LIMIT $1",
        APPLIED_REPOSITORIES,
    )
    await connection.close()
    for turn in range(rounds):
        batch = pushes(events, [(row["name"], TAGS_EACH) for row in found], seed=size + turn)
        await put_inbox(url, batch)
        began = time.perf_counter()
        await drain(url, workers=1)
        report.add(f"apply, {size:,} tags", (time.perf_counter() - began) / events * 1000, "ms/event")


async def ask_pages(report: Report, server_url: str, size: int, *, rounds: int) -> None:
    """Ask for the same pages at every size."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        addresses = {}
        for repository in FIXED:
            for sort in ("-published_at", "size"):
                first = address_of(server_url, repository.name, sort=sort)
                addresses[f"{sort} of {repository.tags:,}, first"] = first
                addresses[f"{sort} of {repository.tags:,}, deep"] = await deep(session, first)
        addresses["newest of all"] = f"{server_url}/api/v1/tags?limit=100&sort=-published_at"
        addresses["no such name of 10,000"] = address_of(
            server_url, FIXED[1].name, sort="-published_at", name="no-such-name"
        )
        for _ in range(rounds):
            for name, address in addresses.items():
                report.add(f"page {name}, {size:,} tags", await seconds(session, address) * 1000, "ms")


async def weigh(report: Report, url: str, size: int) -> None:
    """Note what the database weighs."""
    connection = await connect(url, application="bench")
    total = await connection.fetchval("SELECT pg_database_size(current_database())")
    tags = await connection.fetchval("SELECT count(*) FROM tag", timeout=SLOW_SECONDS)
    await connection.close()
    report.add(f"database, {size:,} tags", total / tags, "bytes/tag")


def before(report: Report, saved: Path) -> list[int]:
    """Take in the figures of a saved run at other sizes; return these."""
    found = json.loads(saved.read_text(encoding="utf-8"))
    report.figures = found["figures"] | report.figures
    report.units = found["units"] | report.units
    sizes: list[int] = found["conditions"]["sizes"]
    return sizes


def exponent(points: list[tuple[int, float]]) -> float:
    """Return the exponent of the power law that fits best."""
    return statistics.linear_regression(
        [math.log(size) for size, _ in points], [math.log(value) for _, value in points]
    ).slope


def fitted(report: Report, sizes: list[int]) -> dict[str, list[tuple[int, float]]]:
    """Print each figure by size with its exponent; return the points."""
    kinds = dict.fromkeys(name.rsplit(", ", 1)[0] for name in report.figures)
    curves = {kind: [(size, report.median(f"{kind}, {size:,} tags")) for size in sizes] for kind in kinds}
    width = max(map(len, kinds))
    print(f"{'':{width}}  " + "".join(f"{size:>14,}" for size in sizes) + "  exponent")
    for kind, points in curves.items():
        grown = f"{exponent(points):10.2f}" if len(points) > 1 else f"{'-':>10}"
        print(f"{kind:{width}}  " + "".join(f"{value:>14,.2f}" for _, value in points) + grown)
    return curves


def plot(curves: dict[str, list[tuple[int, float]]], report: Report, file: Path) -> None:
    """Draw the curves, one panel a unit."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - only for those who draw
        from matplotlib import pyplot as plt  # noqa: PLC0415
    except ImportError:
        sys.exit("--plot needs matplotlib: .venv/bin/pip install matplotlib")
    mpl.rcParams |= {"svg.hashsalt": "growth", "svg.fonttype": "none"}
    units = list(dict.fromkeys(report.units.values()))
    figure, panels = plt.subplots(1, len(units), figsize=(5 * len(units), 4.5), squeeze=False)
    for panel, unit in zip(panels[0], units, strict=True):
        for kind, points in curves.items():
            if report.units[f"{kind}, {points[0][0]:,} tags"] == unit:
                panel.loglog(*zip(*points, strict=True), marker="o", label=f"{kind} ({exponent(points):.2f})")
        panel.set(xlabel="tags in the inventory", ylabel=unit)
        panel.set_ylim(bottom=panel.get_ylim()[0] / 4, top=panel.get_ylim()[1] * 4)
        panel.legend(fontsize=7)
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


async def run(arguments: argparse.Namespace) -> None:
    report = Report("growth")
    quick = arguments.quick
    sizes = sorted(map(int, arguments.sizes.split(","))) if arguments.sizes else list(SIZES)
    sizes = [4_000, 8_000] if quick and not arguments.sizes else sizes
    rounds = arguments.rounds or (1 if quick else 3)
    events = 200 if quick else EVENTS
    async with server(arguments.keep) as place:
        await place.template()
        async with place.inventory(kept=arguments.keep is not None) as url:
            there = await grown(url)
            sizes = [size for size in sizes if size >= there]
            announce(report, sizes=sizes, tags_a_repository=TAGS_EACH, events=events, rounds=rounds)
            connection = await connect(url, application="bench")
            await fill(connection, FIXED)
            await connection.close()
            for size in sizes:
                began = time.perf_counter()
                if size > there:
                    await grow(url, size - there, number=there)
                there = size
                say(f"{size:,} tags after {time.perf_counter() - began:,.0f} s more")
                await weigh(report, url, size)
                await apply_events(report, url, size, rounds=rounds, events=events)
                with indexer(url, place.directory) as (server_url, _):
                    await until_up(f"{server_url}/healthz")
                    await ask_pages(report, server_url, size, rounds=rounds)
                say(f"{size:,} tags measured")
    if arguments.after is not None:
        sizes = before(report, arguments.after) + sizes
    curves = fitted(report, sizes)
    report.keep(arguments)
    if arguments.plot is not None:
        plot(curves, report, arguments.plot)


def main() -> None:
    parser = command_line("How cost grows with the inventory.")
    parser.add_argument("--sizes", help="tags in the inventory, comma list (10000,100000,1000000)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="leave the inventory there, or go on with it"
    )
    parser.add_argument("--after", type=Path, metavar="FILE", help="figures saved by a run at smaller sizes")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the curves")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
