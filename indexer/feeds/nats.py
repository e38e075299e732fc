"""A NATS JetStream sink: a message per event, acknowledged by the stream before the next is sent.

One after the other, since a stream keeps what it acknowledged: were several under way and one of them lost, it would
come behind those after it. The message's id makes the stream drop what it has, within its deduplication window; it
says which replay the message belongs to, so that a replay is not dropped. The event's own id stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import nats
from nats.aio.client import Client
from nats.errors import Error, MaxPayloadError, NoServersError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from indexer.audit.cloudevents import Event
from indexer.errors import SinkRefused, SinkUnavailable
from indexer.feeds.config import NatsFeed, read_secret
from indexer.feeds.tls import tls_context
from indexer.store.pool import describe

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TOO_LARGE = 10054
"""JetStream's code for a message beyond the stream's own limit."""
CLOSE_WITHIN_SECONDS = 5.0


def open_sink(feed: NatsFeed) -> NatsSink:
    """Return the sink of a feed; raise ``ConfigurationError`` where its files cannot be used."""
    options: dict[str, Any] = {"servers": list(feed.servers), "name": f"registry-indexer {feed.name}"}
    if feed.token_file is not None:
        options["token"] = read_secret(feed.token_file, feed=feed.name, key="token_file")
    if feed.password_file is not None:
        options["user"] = feed.user
        options["password"] = read_secret(feed.password_file, feed=feed.name, key="password_file")
    if any(server.startswith("tls://") for server in feed.servers):
        options["tls"] = tls_context(feed)
    return NatsSink(feed, options)


class NatsSink:
    """The sink of one feed."""

    def __init__(self, feed: NatsFeed, options: dict[str, Any]) -> None:
        self.largest_batch = feed.batch
        self._feed = feed
        self._options = options
        self._seconds = feed.timeout.total_seconds()
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None

    async def deliver(self, events: Sequence[Event], *, replay: int) -> None:
        """Publish a batch."""
        again = f";replay={replay}" if replay else ""
        try:
            async with asyncio.timeout(self._seconds):
                stream = await self._connected()
                for event in events:
                    await stream.publish(
                        f"{self._feed.subject}.{event.entry['action']}",
                        event.body,
                        timeout=self._seconds,
                        headers={"Nats-Msg-Id": event.id + again, "Content-Type": CONTENT_TYPE},
                    )
        except MaxPayloadError:
            raise SinkRefused("the event is larger than the server takes") from None
        except APIError as error:
            if error.err_code == TOO_LARGE:
                raise SinkRefused(f"the stream refuses: {error.description}") from error
            raise SinkUnavailable(f"the stream answers: {error.description}") from error
        except NoStreamResponseError as error:
            raise SinkUnavailable(f"no stream takes {self._feed.subject}.>") from error
        except (Error, OSError, TimeoutError) as error:
            await self.close()
            raise SinkUnavailable(f"the server does not answer: {describe(error)}") from error

    async def begin_replay(self, replay: int) -> None:
        """Nothing to prepare: the ids of the messages tell."""

    async def close(self) -> None:
        """Close the connection."""
        client, self._client, self._stream = self._client, None, None
        if client is not None:
            with suppress(Error, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_SECONDS):
                    await client.close()

    async def _connected(self) -> JetStreamContext:
        if self._stream is not None and self._client is not None and self._client.is_connected:
            return self._stream
        await self.close()
        refused: list[Exception] = []

        async def note(error: Exception) -> None:
            refused.append(error)

        try:
            self._client = await nats.connect(
                **self._options,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                connect_timeout=max(int(self._seconds), 1),
                error_cb=note,
            )
        except NoServersError:
            reason = describe(refused[-1]) if refused else "no server can be reached"
            raise SinkUnavailable(f"the server cannot be reached: {reason}") from None
        self._stream = self._client.jetstream()
        return self._stream
