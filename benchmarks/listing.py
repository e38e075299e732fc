"""A newest-first page of 100 from 10,000 tags: asked from us, and put together from a plain registry.

Both sides hold the same repository and answer over HTTP on this machine, in one run, turn by turn. The plain
side is a real Distribution asked the only way it can be: tags/list, then each tag's manifest and config, with
32 connections kept alive; the client then sorts. Creation time is the key, since a plain registry knows no
other; both answers must be the same hundred tags. Printed: medians with spread, and their ratio.

    python3 dev.py bench listing [--tags N] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import orjson
import uvloop

from indexer.local.postgres import EmbeddedPostgres, EmbeddedSettings
from indexer.store.pool import connect
from tests.fixtures.rows import TagRow, put_repository
from tools import registry_binary
from tools.ports import free_port
from tools.registry_server import RegistryServer, RegistrySettings
from tools.sample_images import ACCEPT, Image, oci_image

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

REPOSITORY = "bench/app"
CONNECTIONS = 32
PAGE = 100
PAGES_A_ROUND = 200
WARM_UP = 20
TOKEN = "bench-token"  # noqa: S105 - guards a server that lives for a minute on 127.0.0.1
TARGET = 1000


@dataclass(frozen=True)
class Tag:
    """One tag of the repository, on both sides."""

    name: str
    created: datetime
    image: Image


def make_tags(count: int) -> list[Tag]:
    """Images that differ in their config; all share two layers, so that making them is quick."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    tags = []
    for number in range(count):
        created = first + timedelta(seconds=(number * 7919) % count)
        text = created.strftime("%Y-%m-%dT%H:%M:%SZ")
        image = oci_image("bench", created=text, labels={"number": str(number)})
        tags.append(Tag(f"build-{number:05d}", created, image))
    return tags


# --- the plain side --------------------------------------------------------------------------------------


def fill_storage(storage: Path, tags: Iterable[Tag]) -> None:
    """Write the repository as Distribution's filesystem driver lays it out; pushing would take minutes."""
    root = storage / "docker" / "registry" / "v2"
    repository = root / "repositories" / REPOSITORY
    for tag in tags:
        manifest = tag.image.manifest
        for blob in (manifest, *tag.image.blobs):
            write(root / "blobs" / "sha256" / blob.digest[7:9] / blob.digest[7:] / "data", blob.data)
        for blob in tag.image.blobs:
            link(repository / "_layers" / "sha256" / blob.digest[7:], blob.digest)
        link(repository / "_manifests" / "revisions" / "sha256" / manifest.digest[7:], manifest.digest)
        pointer = repository / "_manifests" / "tags" / tag.name
        link(pointer / "current", manifest.digest)
        link(pointer / "index" / "sha256" / manifest.digest[7:], manifest.digest)


def link(directory: Path, digest: str) -> None:
    write(directory / "link", digest.encode())


def write(path: Path, data: bytes) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


async def ask_plain(session: aiohttp.ClientSession, url: str) -> list[str]:
    """List, read every manifest and config, sort, and return the first page."""
    async with session.get(f"{url}/v2/{REPOSITORY}/tags/list") as response:
        names = (await response.json(content_type=None))["tags"]

    found: list[tuple[str, str]] = []
    waiting = iter(names)
    await asyncio.gather(*(ask_for_each(session, url, waiting, found) for _ in range(CONNECTIONS)))
    return [name for _, name in sorted(found, reverse=True)[:PAGE]]


async def ask_for_each(
    session: aiohttp.ClientSession, url: str, waiting: Iterator[str], found: list[tuple[str, str]]
) -> None:
    """Read the manifest and config of one tag after the other, as long as any waits."""
    path = f"{url}/v2/{REPOSITORY}"
    for name in waiting:
        async with session.get(f"{path}/manifests/{name}", headers={"Accept": ACCEPT}) as response:
            manifest = orjson.loads(await response.read())
        async with session.get(f"{path}/blobs/{manifest['config']['digest']}") as response:
            config = orjson.loads(await response.read())
        found.append((config["created"], name))


# --- our side --------------------------------------------------------------------------------------------


async def fill_database(database_url: str, tags: Iterable[Tag]) -> None:
    connection = await connect(database_url, application="bench")
    try:
        await put_repository(
            connection,
            REPOSITORY,
            [
                TagRow(
                    name=tag.name,
                    exact_digest=tag.image.digest,
                    size_bytes=tag.image.size_bytes,
                    created_at=tag.created,
                    published_at=tag.created,
                    pushed_by="ci",
                )
                for tag in tags
            ],
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def ask_us(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Ask for the page."""
    path = f"/api/v1/repositories/{REPOSITORY}/tags?sort=-created_at&limit={PAGE}"
    async with session.get(f"{url}{path}") as response:
        page: Any = orjson.loads(await response.read())
    return [item["name"] for item in page["items"]]


def indexer(verb: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "indexer"
    return subprocess.Popen([program, verb], env=os.environ | environment, stdout=subprocess.DEVNULL)


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    for _ in range(600):
        try:
            async with session.get(f"{url}/readyz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)
    sys.exit("the indexer did not become ready")


# --- both ------------------------------------------------------------------------------------------------


async def seconds(ask: Callable[[], Awaitable[list[str]]]) -> tuple[float, list[str]]:
    began = time.perf_counter()
    names = await ask()
    return time.perf_counter() - began, names


def spread(values: list[float], unit: str, factor: float) -> str:
    shown = sorted(value * factor for value in values)
    return f"{statistics.median(shown):,.2f} {unit} (from {shown[0]:,.2f} to {shown[-1]:,.2f})"


async def measure(plain_url: str, our_url: str, rounds: int) -> None:
    plain: list[float] = []
    ours: list[float] = []
    ratios: list[float] = []
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(connector=connector) as to_plain,
        aiohttp.ClientSession(headers=bearer) as to_us,
    ):
        await until_ready(to_us, our_url)
        for _ in range(WARM_UP):
            await ask_us(to_us, our_url)
        for number in range(rounds):
            took, expected = await seconds(lambda: ask_plain(to_plain, plain_url))
            plain.append(took)
            pages = []
            for _ in range(PAGES_A_ROUND):
                one, names = await seconds(lambda: ask_us(to_us, our_url))
                assert names == expected, "the two sides do not show the same page"
                pages.append(one)
            ours += pages
            ratios.append(took / statistics.median(pages))
            print(f"round {number + 1}: plain {took:.2f} s, ours {statistics.median(pages) * 1000:.2f} ms, "
                  f"ratio {ratios[-1]:,.0f}", flush=True)  # fmt: skip
    print(f"plain registry, {CONNECTIONS} connections: {spread(plain, 's', 1)}")
    print(f"indexer, 1 connection: {spread(ours, 'ms', 1000)}")
    ratio = statistics.median(plain) / statistics.median(ours)
    print(
        f"ratio of medians: {ratio:,.0f} (rounds from {min(ratios):,.0f} to {max(ratios):,.0f}), target {TARGET:,}"
    )


async def run(directory: Path, tags: list[Tag], rounds: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # to clean up all the same
    found = registry_binary.find(engines_last=True)
    print(f"registry {found.version} ({found.origin}), {len(tags):,} tags", flush=True)
    fill_storage(directory / "storage", tags)
    registry = RegistryServer(found, RegistrySettings(directory=directory, storage_dir=directory / "storage"))
    postgres = EmbeddedPostgres(EmbeddedSettings(data_dir=directory / "data"))
    server: subprocess.Popen[bytes] | None = None
    try:
        registry.start()
        await postgres.start()
        listen = f"127.0.0.1:{free_port()}"
        environment = {
            "INDEXER_DATABASE_URL": postgres.database_url,
            "INDEXER_NOTIFICATIONS_TOKEN": hashlib.sha256(os.urandom(16)).hexdigest(),
            "INDEXER_API_TOKENS": TOKEN,
            "INDEXER_LISTEN": listen,
            "INDEXER_LOG_LEVEL": "warning",
        }
        assert indexer("migrate", environment).wait(60) == 0
        await fill_database(postgres.database_url, tags)
        server = indexer("serve", environment)
        await measure(registry.url, f"http://{listen}", rounds)
    finally:
        if server is not None:
            server.terminate()
            server.wait(30)
        await postgres.stop()
        registry.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="A newest-first page from us and from a plain registry.")
    parser.add_argument("--tags", type=int, default=10_000, help="tags in the repository (10,000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both sides (5)")
    wanted = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="indexer-bench-"))
    directory.chmod(0o711)  # as root, PostgreSQL runs as somebody else and has to reach its data
    try:
        uvloop.run(run(directory, make_tags(wanted.tags), wanted.rounds))
    except (registry_binary.NoRegistryError, asyncpg.PostgresError) as error:
        sys.exit(str(error))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
