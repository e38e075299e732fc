"""One run: writers race on shared tags while everything fails; then all is mended and compared."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from indexer.oci.digest import digest_from_bytes
from indexer.oci.reference import TagName, parse_repository_name
from reconciler.registry.answers import Found
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.chaos.world import Command, World
from tests.fixtures import invariants
from tools.registry_binary import FoundRegistry
from tools.sample_images import Pusher, PushError, oci_image

REPOSITORIES = ["team/app", "team/app/7", "other"]
TAGS = ["latest", "v1", "v10", "v2", "v3"]
"""On S3 3.1 does not list ``v10`` beside ``v1``."""
IMAGES = 6
WRITERS = 3
SETTLE_SECONDS = 120


@dataclass(kw_only=True)
class Outcome:
    """What a run came to. ``differences`` and ``missing`` must be empty."""

    operations: int
    faults: dict[str, int] = field(default_factory=dict)
    tags: int = 0
    differences: list[str] = field(default_factory=list)
    acknowledged: int = 0
    refused: int = 0
    missing: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return not (self.differences or self.missing or self.wrong)


async def run(
    binary: FoundRegistry,
    directory: Path,
    *,
    seed: int,
    seconds: float,
    say: Callable[[str], None],
    on_s3: bool = False,
    registry_processes: int = 1,
) -> Outcome:
    """Run chaos for some seconds and compare what is left."""
    made = World(binary, directory, seed, on_s3=on_s3, registry_processes=registry_processes)
    async with made as world:
        stop_at = time.monotonic() + seconds
        writers = [asyncio.create_task(asyncio.to_thread(write, world, n, stop_at)) for n in range(WRITERS)]
        faults: dict[str, int] = {}
        while time.monotonic() < stop_at:
            await asyncio.sleep(world.randomness.random() * 1.5)
            fault = await world.fail_once()
            faults[fault] = faults.get(fault, 0) + 1
            say(f"{seconds - (stop_at - time.monotonic()):5.1f} s  {fault}")
        operations = sum(await asyncio.gather(*writers))
        outcome = Outcome(operations=operations, faults=faults)
        say("quiet: settling")
        await settle(world, outcome)
        await compare(world, outcome)
        return outcome


def write(world: World, number: int, stop_at: float) -> int:
    """Push, move and delete until told to stop; a registry that is down just now is no failure."""
    randomness = random.Random(world.seed * 1000 + number)
    images = [oci_image(f"chaos-{n}") for n in range(IMAGES)]
    done = 0
    while time.monotonic() < stop_at:
        url = randomness.choice(world.registries).url
        with suppress(OSError, PushError), Pusher(url, user_agent=f"chaos/{number}") as pusher:
            while time.monotonic() < stop_at:
                repository, image = randomness.choice(REPOSITORIES), randomness.choice(images)
                dice = randomness.random()
                if dice < 0.80:
                    pusher.push(repository, image, randomness.choice(TAGS))
                elif dice < 0.90:
                    pusher.delete(repository, image.digest)
                else:
                    pusher.delete(repository, randomness.choice(TAGS))
                done += 1
        time.sleep(0.05)
    return done


async def settle(world: World, outcome: Outcome) -> None:
    """Mend everything, wait for the queues to run empty, and walk once."""
    world.database.resume()
    world.to_registry.resume()
    await world.until_ready()
    await until_nothing_waits(world)
    for _ in range(2):
        once = Command(["reconciler", "once"], world.server.environment, world.directory / "once.log")
        once.start()
        assert once.process is not None
        code = await asyncio.to_thread(once.process.wait)
        if code == 0:
            break
    else:
        outcome.wrong.append(f"`reconciler once` exited {code}: see {once.log}")
    await until_nothing_waits(world)


async def until_nothing_waits(world: World) -> None:
    """Wait for every queue to run empty; say what is left if one does not."""
    left: dict[str, int] = {}
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while any((left := await waiting(world)).values()):
                await asyncio.sleep(0.2)
    except TimeoutError:
        words = "\n".join(
            each.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            for each in (world.server, world.reconciler)
        )
        raise AssertionError(f"after {SETTLE_SECONDS} s there still wait {left}\n{words}") from None


async def waiting(world: World) -> dict[str, int]:
    connection = await asyncpg.connect(world.postgres.database_url)
    try:
        row = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM inbox WHERE done_at IS NULL) AS deliveries,"
            " (SELECT count(*) FROM audit_staged) AS entries,"
            " (SELECT count(*) FROM work_item WHERE kind = 'verify') AS tags,"
            " (SELECT count(*) FROM work_item WHERE kind = 'resolve') AS manifests"
        )
    finally:
        await connection.close()
    assert row is not None
    return dict(row)


async def compare(world: World, outcome: Outcome) -> None:
    """Hold the inventory against the registry, and the log against what was acknowledged."""
    connection = await asyncpg.connect(world.postgres.database_url)
    try:
        recorded = {
            (row["repository"], row["name"]): "broken"
            if row["broken_reason"] is not None
            else str(digest_from_bytes(row["digest"]))
            for row in await connection.fetch(
                "SELECT r.name AS repository, t.name, t.broken_reason, m.digest FROM tag AS t"
                " JOIN repository AS r ON r.id = t.repository_id LEFT JOIN manifest AS m ON m.id = t.manifest_id"
            )
        }
        truth = await truth_of(world)
        outcome.tags = len(truth)
        outcome.differences = [
            f"{key[0]}:{key[1]}: recorded {recorded.get(key)}, registry {truth.get(key)}"
            for key in sorted(recorded.keys() | truth.keys())
            if recorded.get(key) != truth.get(key)
        ]
        await compare_log(world, connection, outcome)
        await compare_tables(connection, outcome)
    finally:
        await connection.close()


async def truth_of(world: World) -> dict[tuple[str, str], str]:
    """Ask the registry itself, past every proxy, also for what it has and does not list.

    What it neither lists nor serves it has not, whatever is left in its storage.
    """
    truth: dict[tuple[str, str], str] = {}
    stored = await asyncio.to_thread(world.storage.tags)
    async with RegistryClient(TransportSettings(base_url=world.registries[0].url)) as registry:
        for name in REPOSITORIES:
            repository = parse_repository_name(name)
            listed = (await registry.list_tags(repository)).names
            for tag in {*listed, *(TagName(tag) for place, tag in stored if place == name)}:
                look = await registry.head_tag(repository, tag)
                if isinstance(look, Found):
                    truth[repository, tag] = str(look.digest)
                elif tag in listed:
                    truth[repository, tag] = "broken"
    return truth


async def compare_log(world: World, connection: asyncpg.Connection[asyncpg.Record], outcome: Outcome) -> None:
    rows = await connection.fetch(
        "SELECT event_key::text AS id, split_part(action::text, '.', 1) AS noun, count(*) AS times FROM audit_entry"
        " WHERE event_key IS NOT NULL GROUP BY 1, 2"
    )
    logged = {row["id"] for row in rows}
    outcome.acknowledged = len(world.recorder.acknowledged)
    outcome.refused = world.recorder.refused
    outcome.missing = [event for event in world.recorder.acknowledged if event not in logged]
    outcome.wrong += [f"event {row['id']} is logged {row['times']} times" for row in rows if row["times"] > 1]
    gaps = await connection.fetchval("SELECT max(position) - count(*) FROM audit_entry")
    if gaps:
        outcome.wrong.append(f"the log has {gaps} gaps")
    if quarantined := await connection.fetchval("SELECT count(*) FROM quarantine"):
        outcome.wrong.append(f"{quarantined} events are quarantined")


async def compare_tables(connection: asyncpg.Connection[asyncpg.Record], outcome: Outcome) -> None:
    overlapping = await connection.fetch(
        "SELECT a.name FROM tag_history AS a JOIN tag_history AS b ON a.repository_id = b.repository_id"
        " AND a.name = b.name AND a.valid_from < b.valid_from AND a.valid_to > b.valid_from"
    )
    outcome.wrong += [f"intervals of {row['name']} overlap" for row in overlapping]
    for wrong in (invariants.miscounted, invariants.not_held, invariants.not_read, invariants.wrongly_read):
        outcome.wrong += await wrong(connection)
