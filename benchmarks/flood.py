"""A rollout as the ingest sees it: 100,000 pulls by 5,000 nodes wait in the inbox; how long until all are applied.

    .venv/bin/python -m benchmarks.flood [--pulls 100000] [--nodes 5000] [--tags 50] [--by tag|check|digest]

By tag: each pull is a GET of the tag; by digest: of the digest, after a HEAD of the tag, so two events; check: a HEAD.
Runs the worker alone, on an embedded PostgreSQL of its own; its figures mean something only against each other.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time

from indexer.ingest.worker import IngestWorker
from indexer.store import inbox
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, open_pool
from tests.fixtures.floods import pulls, pushes
from tests.fixtures.postgres import SCHEMA, PostgresServer, embedded, programs


async def flood(server: PostgresServer, options: argparse.Namespace) -> None:
    """Fill the inbox of a fresh database, drain it, and say how long that took."""
    url = await server.create_database()
    async with (
        contextlib.AsyncExitStack() as stack,
        await open_pool(url, size=4, application="flood") as pool,
        await open_pool(url, size=2, application="flood words") as words,
    ):
        stack.push_async_callback(server.drop_database, url)
        await pool.execute(SCHEMA.read_text("utf-8"))
        worker = IngestWorker(pool, Lookups(words))
        await put(pool, pushes(options.tags))
        await drain(worker)
        await put(pool, pulls(options.pulls, nodes=options.nodes, tags=options.tags, by=options.by))
        began = time.perf_counter()
        await drain(worker)
        took = time.perf_counter() - began
        counted = await pool.fetchval("SELECT coalesce(sum(pull_count), 0) FROM tag_pull")
    sys.stdout.write(
        f"{options.pulls} pulls in {took:.1f} s: {options.pulls / took:.0f}/s, {counted} counted\n"
    )


async def put(pool: Pool, deliveries: list[inbox.Delivery]) -> None:
    """Store deliveries, some at a time."""
    for first in range(0, len(deliveries), 5000):
        async with pool.acquire() as connection:
            await inbox.put_deliveries(connection, deliveries=deliveries[first : first + 5000])


async def drain(worker: IngestWorker) -> None:
    """Apply everything that waits."""
    while (await worker.run_once()).items:
        pass


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pulls", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=5_000)
    parser.add_argument("--tags", type=int, default=50)
    parser.add_argument("--by", choices=["tag", "check", "digest"], default="tag")
    options = parser.parse_args()
    with asyncio.Runner() as runner, embedded(runner, programs("auto")) as url:
        runner.run(flood(PostgresServer(url, runner), options))


if __name__ == "__main__":
    main()
