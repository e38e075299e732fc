"""The lanes of the inbox: one worker at a time in each, every repository in one."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from indexer.store import inbox
from indexer.store.inbox import PARTITIONS, Delivery, partition_of
from indexer.store.pool import Connection, Pool, transaction

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ALL = 1 << 20


def told(repository: str, *, imported: bool = False) -> Delivery:
    body = json.dumps({"events": [{"target": {"repository": repository, "fromRepository": "a/b"}}]}).encode()
    return Delivery(received_at=NOW, body=body, imported=imported)


def of_lanes(count: int) -> list[str]:
    """Return a repository for each of so many lanes."""
    found: dict[int, str] = {}
    for number in range(1000):
        name = f"team/app-{number}"
        found.setdefault(partition_of(told(name)), name)
    return [found[partition] for partition in range(count)]


async def put(pool: Pool, repositories: list[str]) -> None:
    async with transaction(pool) as held:
        await inbox.put_deliveries(held, deliveries=[told(name) for name in repositories])


async def take(held: Connection, limit: int) -> list[str]:
    taken = await inbox.take_deliveries(held, can_wait=False, limit=limit, limit_bytes=ALL)
    return [json.loads(delivery.body)["events"][0]["target"]["repository"] for delivery in taken]


@pytest.mark.parametrize("indent", [None, 3])
def test_lane_of__is_the_repositorys_however_it_is_written(indent: int | None) -> None:
    """Distribution indents its envelopes by three; the lane comes from the repository alone."""
    events = {"events": [{"id": "1", "target": {"digest": "sha256:0", "repository": "team/app-7"}}]}
    delivery = Delivery(received_at=NOW, body=json.dumps(events, indent=indent).encode())
    assert partition_of(delivery) == partition_of(told("team/app-7"))


def test_lane_of__every_lane_is_used() -> None:
    """Names are spread over all lanes."""
    assert len(of_lanes(PARTITIONS)) == PARTITIONS


@pytest.mark.parametrize("body", [b"", b"\x1f\x8b\x00", b'{"events": [{"target": {"repository": 5}}]}'])
def test_lane_of__what_cannot_be_read_is_in_the_first(body: bytes) -> None:
    """A compressed or broken body names no repository; it has a lane all the same."""
    assert partition_of(Delivery(received_at=NOW, body=body)) == 0


def test_lane_of__what_is_imported_stays_together() -> None:
    """An import's deliveries hold many repositories each and are applied one after the other."""
    assert {partition_of(told(name, imported=True)) for name in of_lanes(PARTITIONS)} == {0}


async def test_take__few_deliveries_come_together_in_their_order(pool: Pool) -> None:
    """While less than a batch waits, one transaction takes from all lanes."""
    first, second, third = of_lanes(3)
    await put(pool, [third, first, second, first])
    async with transaction(pool) as held:
        assert await take(held, 5) == [third, first, second, first]
    async with transaction(pool) as other:
        assert await take(other, 5) == [third, first, second, first]  # nothing was marked as done


async def test_take__a_whole_batch_is_of_the_lane_with_the_oldest(pool: Pool) -> None:
    """Where more waits than a batch, each worker takes from a lane of its own, and none waits for another."""
    first, second = of_lanes(2)
    await put(pool, [second, first, second, first, second])
    async with transaction(pool) as held, transaction(pool) as other, transaction(pool) as third:
        assert await take(held, 2) == [second, second]
        assert await take(other, 2) == [first, first]
        assert await take(third, 2) == []


async def test_take__a_lane_is_left_alone_while_another_is_in_it(pool: Pool) -> None:
    """What arrives for a repository while its earlier news is being applied waits for that, and keeps its order."""
    first, second = of_lanes(2)
    await put(pool, [first])
    async with transaction(pool) as held:
        assert await take(held, 10) == [first]
        await put(pool, [first, second])
        async with transaction(pool) as other:
            assert await take(other, 10) == [second]
    async with transaction(pool) as later:
        assert await take(later, 10) == [first, first, second]
