"""A Kafka sink: a record per event, acknowledged by every replica in step, keyed by repository.

So a repository's events are in one partition, in their order. The client sends again by itself within the deadline of a
delivery; what is doubled has the event's id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    RecordTooLargeError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from indexer.audit.cloudevents import DeliveredEvent
from indexer.common.errors import SinkRefused, SinkUnavailable
from indexer.common.values import parse_address
from indexer.feeds.config import KafkaFeed, read_secret
from indexer.feeds.tls import tls_context, tls_failure
from indexer.store.pool import describe

CONTENT_TYPE = b"application/cloudevents+json; charset=utf-8"
TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError, RecordTooLargeError)
LARGEST_REQUEST_BYTES = 64 * 1024 * 1024
"""How large a record may be is the topic's to say, not the client's."""
OF_A_CONNECTION = frozenset({
    "client_id", "request_timeout_ms", "ssl_context", "security_protocol",
    "sasl_mechanism", "sasl_plain_username", "sasl_plain_password",
})  # fmt: skip
CLOSE_WITHIN_SECONDS = 5.0


def open_sink(feed: KafkaFeed) -> KafkaSink:
    """Return the sink of a feed; raise ``ConfigurationError`` where its files cannot be used."""
    logging.getLogger("aiokafka.conn").setLevel(
        logging.INFO
    )  # DEBUG shows requests: with PLAIN, the password
    seconds = feed.timeout.total_seconds()
    options: dict[str, Any] = {
        "bootstrap_servers": list(feed.servers),
        "client_id": f"registry-indexer-{feed.name}",
        "acks": "all",
        "request_timeout_ms": max(int(seconds * 1000), 1),
        "max_request_size": LARGEST_REQUEST_BYTES,
    }
    secure = feed.transport == "tls"
    if secure:
        options["ssl_context"] = tls_context(feed)
    if feed.password_file is not None:
        options["sasl_mechanism"] = feed.sasl_mechanism
        options["sasl_plain_username"] = feed.user
        options["sasl_plain_password"] = read_secret(feed.password_file, feed=feed.name, key="password_file")
        options["security_protocol"] = "SASL_SSL" if secure else "SASL_PLAINTEXT"
    else:
        options["security_protocol"] = "SSL" if secure else "PLAINTEXT"
    return KafkaSink(feed, options)


class KafkaSink:
    """The sink of one feed."""

    def __init__(self, feed: KafkaFeed, options: dict[str, Any]) -> None:
        self.largest_batch = feed.batch
        self._feed = feed
        self._options = options
        self._seconds = feed.timeout.total_seconds()
        self._producer: AIOKafkaProducer | None = None

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:  # noqa: ARG002 - Kafka keeps everything
        """Send a batch and wait for every acknowledgement."""
        try:
            async with asyncio.timeout(self._seconds):
                producer = await self._started()
                sent = [await self._send(producer, event) for event in events]
                outcomes = await asyncio.gather(*sent, return_exceptions=True)
        except SinkUnavailable:
            await self.close()
            raise
        except TOO_LARGE as error:
            raise SinkRefused("the record is larger than the client may send") from error
        except (KafkaError, OSError, TimeoutError) as error:
            await self.close()
            raise SinkUnavailable(f"the brokers do not take it: {describe(error)}") from error
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if any(isinstance(error, TOO_LARGE) for error in failed):
            raise SinkRefused("the topic does not take so large a record")
        if failed:
            await self.close()
            raise SinkUnavailable(f"the brokers do not take it: {describe(failed[0])}") from failed[0]

    async def begin_replay(self, replay: int) -> None:
        """Nothing to prepare: Kafka keeps everything."""

    async def close(self) -> None:
        """Close the connections; what is still under way is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_SECONDS):
                    await producer.stop()

    async def _send(self, producer: AIOKafkaProducer, event: DeliveredEvent) -> asyncio.Future[Any]:
        repository = event.entry["repository"]
        future: asyncio.Future[Any] = await producer.send(
            self._feed.topic,
            value=event.body,
            key=None if repository is None else repository.encode(),
            headers=[("content-type", CONTENT_TYPE)],
        )
        return future

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            self._producer = AIOKafkaProducer(**self._options)
            try:
                await self._producer.start()
            except (
                KafkaConnectionError,
                ValueError,
            ) as error:  # ValueError: SCRAM, the server knows no password
                reasons = [f"{server}: {await self._ask(server)}" for server in self._feed.servers]
                raise SinkUnavailable(f"the brokers do not take it: {'; '.join(reasons)}") from error
        return self._producer

    async def _ask(self, server: str) -> str:
        """Return why a server does not take us: the client only logs it."""
        host, port = parse_address(server)
        options = {key: value for key, value in self._options.items() if key in OF_A_CONNECTION}
        try:
            connection = await create_conn(host, port, **options)
        except SaslAuthenticationFailed as error:
            return f"the server refuses us: {error.args[0]}"
        except UnsupportedSaslMechanismError:
            return f"the server does not take the sasl_mechanism {self._feed.sasl_mechanism}"
        except (KafkaError, OSError, TimeoutError, ValueError) as error:
            return tls_failure(error) or describe(error)
        connection.close()
        asks = "" if self._feed.user else "; does it ask for a user?"
        return f"the server connects, but answers no request{asks}"
