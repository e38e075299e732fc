"""Feeds to a real Kafka broker that lets in only whom it knows: SASL, TLS, and what is said of a refusal."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, product

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from indexer.store.pool import Pool
from tests.fixtures.feed_secrets import RIGHT, WRONG, refusal, secret
from tests.fixtures.feeding import MakeFeed, deliver_all, write_log
from tests.fixtures.sinks import Certificates, Server, absent
from tools import kafka_broker
from tools.ports import free_ports

pytestmark = [
    pytest.mark.usefixtures("log_without_secrets"),
    pytest.mark.full,  # a broker for each way to say who one is
]

TOPICS = count()


@dataclass
class Guarded:
    """A broker with an open listener for the tests' own client, and the guarded ones."""

    server: Server
    ports: dict[str, int]

    async def make_topic(self) -> str:
        name = f"guarded-{next(TOPICS)}"
        admin = AIOKafkaAdminClient(bootstrap_servers=[f"127.0.0.1:{self.server.port}"])
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, 1, 1)])
        finally:
            await admin.close()
        return name

    async def positions(self, topic: str) -> list[int]:
        """The positions of the entries in a topic, each as often as it is there."""
        consumer = AIOKafkaConsumer(bootstrap_servers=[f"127.0.0.1:{self.server.port}"])
        await consumer.start()
        try:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_beginning(partition)
            end = (await consumer.end_offsets([partition]))[partition]
            found: list[int] = []
            async with asyncio.timeout(60):
                while len(found) < end:
                    record = await consumer.getone()
                    found.append(int(json.loads(record.value)["sequence"]))
            return found
        finally:
            await consumer.stop()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Guarded]:
    """One broker for all tests of this module."""
    try:
        jars = kafka_broker.find(fetch=False)
    except kafka_broker.NoBrokerError as error:
        absent(str(error))
        raise
    directory = tmp_path_factory.mktemp("guarded")
    keystore = directory / "keystore.pem"
    keystore.write_bytes(certificates.key.read_bytes() + certificates.certificate.read_bytes())
    port, controller_port, *others = free_ports(5)
    ports = dict(zip(("SSL", "SASL_SSL", "SASL_PLAINTEXT"), others, strict=True))
    security = "org.apache.kafka.common.security"
    settings = {"ssl.keystore.type": "PEM", "ssl.keystore.location": str(keystore)}
    for listener in ("sasl_ssl", "sasl_plaintext"):
        prefix = f"listener.name.{listener}"
        settings[f"{prefix}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        settings[f"{prefix}.plain.sasl.jaas.config"] = (
            f'{security}.plain.PlainLoginModule required user_feeds="{RIGHT}";'
        )
        for scram in ("scram-sha-256", "scram-sha-512"):
            settings[f"{prefix}.{scram}.sasl.jaas.config"] = f"{security}.scram.ScramLoginModule required;"
    command = kafka_broker.prepare(
        jars,
        directory,
        port=port,
        controller_port=controller_port,
        guarded=ports,
        more=settings,
        users={"feeds": RIGHT},
    )
    server = Server(command, port, directory)
    server.start()
    yield Guarded(server, ports)
    server.stop(signal.SIGKILL)


@pytest.mark.parametrize("way", [*product(("tls", "tcp"), ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"))])
async def test_kafka__wrong_password_is_said_and_the_right_one_delivers(
    pool: Pool, make_feed: MakeFeed, guarded: Guarded, certificates: Certificates, way: tuple[str, str]
) -> None:
    """The operator reads that the brokers refuse the password, mends the file, and everything is there."""
    transport, mechanism = way
    topic = await guarded.make_topic()
    await write_log(pool, "team/app:v1", "team/app:v2")
    port = guarded.ports["SASL_SSL" if transport == "tls" else "SASL_PLAINTEXT"]
    table = {
        "kind": "kafka", "servers": [f"localhost:{port}"], "topic": topic, "transport": transport,
        "sasl_mechanism": mechanism, "user": "feeds", "ca_file": certificates.ca,
    }  # fmt: skip
    wrong = make_feed(**table, password_file=secret(guarded.server.directory, WRONG))
    said = await refusal(pool, wrong)
    assert said.startswith(
        f"the brokers do not take it: localhost:{port}: the server refuses us: Authentication failed"
    )
    await wrong.close()
    await deliver_all(pool, make_feed(**table, password_file=secret(guarded.server.directory, RIGHT)))
    assert [1, 2] == await guarded.positions(topic)


async def test_kafka__own_authority(
    pool: Pool, make_feed: MakeFeed, guarded: Guarded, certificates: Certificates
) -> None:
    """Without ca_file the brokers' certificate is not trusted; with it everything is delivered."""
    topic = await guarded.make_topic()
    await write_log(pool, "team/app:v1", "team/app:v2")
    table = {"kind": "kafka", "servers": [f"localhost:{guarded.ports['SSL']}"], "topic": topic}
    nobody = make_feed(**table)
    assert "localhost:{}: the server's certificate is not trusted: ".format(
        guarded.ports["SSL"]
    ) in await refusal(pool, nobody)
    await nobody.close()
    await deliver_all(pool, make_feed(**table, ca_file=certificates.ca))
    assert [1, 2] == await guarded.positions(topic)


async def test_kafka__without_a_user_or_without_tls(
    pool: Pool, make_feed: MakeFeed, guarded: Guarded, certificates: Certificates
) -> None:
    """A feed that says less than the brokers ask for delivers nothing; each server that was tried is named."""
    topic = await guarded.make_topic()
    await write_log(pool, "team/app:v1")
    port = guarded.ports["SASL_SSL"]
    table = {"kind": "kafka", "servers": [f"localhost:{port}"], "topic": topic, "timeout": "5s"}
    for less, reason in (
        (
            {"ca_file": certificates.ca},
            "the server connects, but answers no request; does it ask for a user?",
        ),
        ({"transport": "tcp"}, ""),
    ):
        feed = make_feed(**table, **less)
        assert f"the brokers do not take it: localhost:{port}: {reason}" in await refusal(pool, feed)
        await feed.close()
        await pool.execute("UPDATE feed SET retry_at = NULL")
    assert [] == await guarded.positions(topic)
