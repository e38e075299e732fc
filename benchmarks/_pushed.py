"""The database after real pushes: a registry, `indexer serve` and `reconciler run`, each a process of its own.

Each push is one tag of one manifest with a config of its own, in the way of a pipeline: 20 repositories, a base layer
that is there already. The registry announces pulls, so our own requests make deliveries, too.
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from benchmarks._report import Report, say
from benchmarks._serving import indexer, memory_mib, until_up
from benchmarks.verify import reconciler, registry_of
from indexer.store.pool import Connection, connect
from tools import registry_binary
from tools.ports import free_port
from tools.sample_images import Pusher, oci_image, with_config_of_its_own

if TYPE_CHECKING:
    from benchmarks._database import Server

BEGAN = datetime(2026, 1, 2, tzinfo=UTC)
REPOSITORIES = 20
WRITERS = 4
QUIET_SECONDS = 5
ANNOUNCED = {"mediatypes": ["application/octet-stream"]}
"""What `indexer up` advises: no blobs, but pulls."""

INBOX = ("inbox", "quarantine")

_SIZE = "SELECT pg_database_size(current_database())"
_TABLES = """
SELECT coalesce(partition.inhparent::regclass, c.oid::regclass)::text AS name,
       sum(pg_table_size(c.oid))::bigint AS heap, sum(pg_indexes_size(c.oid))::bigint AS indexes
FROM pg_class AS c LEFT JOIN pg_inherits AS partition ON partition.inhrelid = c.oid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace GROUP BY 1
"""
_INDEXES = """
SELECT i.indexrelid::regclass::text AS name, pg_relation_size(i.indexrelid) AS size
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indrelid
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
"""
_WAITING = """
SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) + (SELECT count(*) FROM work_item)
     + (SELECT count(*) FROM audit_staged)
"""


def push(url: str, tags: int) -> None:
    """Push tags from some threads, one manifest each."""
    base = oci_image("base", layer_sizes=(512,))

    def write(number: int) -> None:
        with Pusher(url) as pusher:
            for each in range(number, tags, WRITERS):
                at = BEGAN + timedelta(seconds=each)
                image = with_config_of_its_own(base, created=at.isoformat())
                pusher.push(f"team/app-{each % REPOSITORIES:02d}", image, f"build-{each:06d}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def sizes(connection: Connection) -> dict[str, tuple[int, int]]:
    """Return the bytes of each table's heap (with TOAST) and of its indexes."""
    return {row["name"]: (row["heap"], row["indexes"]) for row in await connection.fetch(_TABLES)}


async def index_sizes(connection: Connection) -> dict[str, int]:
    """Return the bytes of each index."""
    return {row["name"]: row["size"] for row in await connection.fetch(_INDEXES)}


async def pushed_bytes(
    place: Server, report: Report, *, tags: int, settle_minutes: float, registry: int = 3
) -> None:
    """Push, wait until nothing waits, and weigh the database after some minutes."""
    port = free_port()
    async with place.copy("bench_pushed") as url:
        connection = await connect(url, application="bench")
        empty, empty_tables = await connection.fetchval(_SIZE), await sizes(connection)
        empty_indexes = await index_sizes(connection)
        with (
            indexer(url, place.directory, port=port) as (address, server),
            registry_of(
                registry_binary.find(version=registry), place.directory / "pushed", port, ignore=ANNOUNCED
            ) as running,
            reconciler(url, running) as beside,
        ):
            await until_up(f"{address}/readyz")
            began = time.monotonic()
            await asyncio.to_thread(push, running.url, tags)
            ended = time.monotonic()
            say(f"{tags} pushed in {ended - began:.0f} s")
            while await connection.fetchval(_WAITING):
                await asyncio.sleep(1)
            say(f"nothing waits after {time.monotonic() - ended:.0f} s more")
            while (left := ended + settle_minutes * 60 - time.monotonic()) > 0:
                await asyncio.sleep(min(left, 60))
                size = await connection.fetchval(_SIZE)
                say(f"{(time.monotonic() - ended) / 60:.1f} min: {(size - empty) / tags:,.0f} bytes a tag")
            full, tables = await connection.fetchval(_SIZE), await sizes(connection)
            by_index = await index_sizes(connection)
            for name, process in (("indexer serve", server), ("reconciler run", beside)):
                report.add(f"memory of {name}, after the pushes", memory_mib(process.pid), "MiB")
        await connection.execute("VACUUM FULL", timeout=3600)
        packed, packed_indexes = await sizes(connection), await index_sizes(connection)
        await connection.close()
    for name, (heap, indexes) in sorted(tables.items(), key=lambda each: -sum(each[1])):
        before = empty_tables[name]
        grown = heap - before[0], indexes - before[1]
        if sum(grown) / tags >= 1:
            least_of = [(a - b) / tags for a, b in zip(packed[name], before, strict=True)]
            say(
                f"{name:24} heap {grown[0] / tags:7,.0f}  indexes {grown[1] / tags:7,.0f} bytes a tag;"
                f" packed {least_of[0]:7,.0f} {least_of[1]:7,.0f}"
            )
    for name, size in sorted(by_index.items(), key=lambda each: -each[1]):
        before_it = empty_indexes.get(name, 0)
        if (grown_by := (size - before_it) / tags) >= 1:
            say(
                f"{name:40} {grown_by:7,.0f} bytes a tag; packed {(packed_indexes[name] - before_it) / tags:7,.0f}"
            )
    inbox = sum(sum(tables[name]) - sum(empty_tables[name]) for name in INBOX)
    report.add("database after pushes, all in", (full - empty) / tags, "bytes/tag")
    report.add("database after pushes, the inbox", inbox / tags, "bytes/tag")
