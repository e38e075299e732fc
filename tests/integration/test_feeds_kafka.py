"""Feeds to a real Kafka broker: every entry, each repository's in order, through the broker's being killed."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from indexer.common.errors import Postponed
from indexer.store import feeds
from indexer.store.pool import Pool
from tests.fixtures.feeding import MakeFeed, deliver_all, write_log
from tests.fixtures.sinks import Server, absent
from tools import kafka_broker
from tools.ports import free_port, free_ports

TOPICS = count()


@dataclass
class Kafka:
    """A broker; every test has a topic of its own."""

    server: Server

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def make_topic(self, name: str, **config: str) -> None:
        async with self._admin() as admin:
            made = await admin.create_topics([NewTopic(name, 3, 1, topic_configs=config)])
        assert [0] == [error[1] for error in made.topic_errors]

    async def records(self, topic: str) -> list[Any]:
        """Everything in the topic, partition by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=[self.address])
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(3)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Any] = []
            async with asyncio.timeout(60):
                while len(found) < sum(ends.values()):
                    for batch in (await consumer.getmany(timeout_ms=200)).values():
                        found += batch
            return found
        finally:
            await consumer.stop()

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=[self.address])
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """One broker for all tests of this module."""
    try:
        jars = kafka_broker.find(fetch=False)
    except kafka_broker.NoBrokerError as error:
        absent(str(error))
        raise
    directory = tmp_path_factory.mktemp("kafka")
    port, controller_port = free_ports(2)
    command = kafka_broker.prepare(jars, directory, port=port, controller_port=controller_port)
    server = Server(command, port, directory)
    server.start()
    yield Kafka(server)
    server.stop(signal.SIGKILL)


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    name = f"audit-{next(TOPICS)}"
    await kafka.make_topic(name)
    return name


def table(kafka: Kafka, topic: str, **more: Any) -> dict[str, Any]:
    return {"kind": "kafka", "servers": [kafka.address], "topic": topic, "transport": "tcp", **more}


def subjects(count: int) -> list[str]:
    return [f"team/app{number % 5}:v{number}" for number in range(count)]


def in_order(records: list[Any]) -> dict[bytes, list[int]]:
    """The positions that arrived by key, the first time each did."""
    found: dict[bytes, dict[int, None]] = {}
    for record in sorted(records, key=lambda each: (each.partition, each.offset)):
        found.setdefault(record.key, {})[int(json.loads(record.value)["sequence"])] = None
    return {key: list(positions) for key, positions in found.items()}


def expected(count: int) -> dict[bytes, list[int]]:
    return {
        f"team/app{number}".encode(): list(range(number + 1, count + 1, 5)) for number in range(min(count, 5))
    }


async def test_kafka__each_entry_is_a_record(
    pool: Pool, make_feed: MakeFeed, kafka: Kafka, topic: str
) -> None:
    """Keyed by repository, so each repository's entries are in one partition, in the log's order, once."""
    await write_log(pool, *subjects(50))
    await deliver_all(pool, make_feed(batch=20, **table(kafka, topic)))
    records = await kafka.records(topic)
    assert (50, expected(50)) == (len(records), in_order(records))
    assert {("content-type", b"application/cloudevents+json; charset=utf-8")} == {
        header for record in records for header in record.headers
    }
    assert len({record.key for record in records}) == 5


@pytest.mark.full
async def test_kafka__broker_killed_and_started_again(
    pool: Pool, make_feed: MakeFeed, kafka: Kafka, topic: str
) -> None:
    """While it is away everything waits and the feed says why; then nothing is missing or out of order."""
    feed = make_feed(timeout="3s", batch=5, **table(kafka, topic))
    await write_log(pool, *subjects(10))
    await deliver_all(pool, feed)
    kafka.server.stop(signal.SIGKILL)
    await write_log(pool, *subjects(10))
    with pytest.raises(Postponed, match="the brokers do not take it"):
        await feed.run_once()
    assert 10 == await pool.fetchval("SELECT position FROM feed")
    kafka.server.start()
    await deliver_all(pool, feed)
    records = await kafka.records(topic)
    assert expected(20) == in_order(records)


async def test_kafka__too_large_a_record_is_a_dead_letter(
    pool: Pool, make_feed: MakeFeed, kafka: Kafka
) -> None:
    """What the topic does not take for its size is set aside; the others arrive, also those of its batch."""
    await kafka.make_topic("small", **{"max.message.bytes": "20000"})
    await write_log(pool, *subjects(12))
    await pool.execute("UPDATE audit_entry SET detail = $1 WHERE position = 7", {"filler": "x" * 30_000})
    await deliver_all(pool, make_feed(**table(kafka, "small")))
    arrived = sorted({n for positions in in_order(await kafka.records("small")).values() for n in positions})
    assert [n for n in range(1, 13) if n != 7] == arrived
    async with pool.acquire() as held:
        letters = await feeds.list_dead_letters(held, name="siem", after=0, limit=9)
    assert [(7, "the topic does not take so large a record")] == [
        (letter.position, letter.reason) for letter in letters
    ]


async def test_kafka__without_the_topic_nothing_is_given_up(
    pool: Pool, make_feed: MakeFeed, kafka: Kafka
) -> None:
    """A topic that is missing is the operator's to make; then all arrives."""
    await write_log(pool, *subjects(3))
    feed = make_feed(timeout="1s", **table(kafka, "later"))
    with pytest.raises(Postponed, match="the brokers do not take it"):
        await feed.run_once()
    await kafka.make_topic("later")
    await deliver_all(pool, feed)
    assert expected(3) == in_order(await kafka.records("later"))


async def test_kafka__a_replay_is_more_records(
    pool: Pool, make_feed: MakeFeed, kafka: Kafka, topic: str
) -> None:
    """What is replayed is there twice, the same event each time."""
    await write_log(pool, *subjects(4))
    feed = make_feed(**table(kafka, topic))
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        await feeds.replay_feed(held, name="siem", after=2)
    await deliver_all(pool, feed)
    events = [json.loads(record.value) for record in await kafka.records(topic)]
    assert [1, 2, 3, 3, 4, 4] == sorted(int(event["sequence"]) for event in events)
    assert 4 == len({event["id"] for event in events})


async def test_kafka__no_broker_there(pool: Pool, make_feed: MakeFeed) -> None:
    """An address where nobody listens is a failure that says so, and leaves nothing open."""
    await write_log(pool, *subjects(1))
    feed = make_feed(
        kind="kafka", servers=[f"127.0.0.1:{free_port()}"], topic="audit", transport="tcp", timeout="2s"
    )
    with pytest.raises(Postponed, match="the brokers do not take it"):
        await feed.run_once()
