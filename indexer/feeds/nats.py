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

from nats.aio.client import Client
from nats.errors import ConnectionClosedError, Error, MaxPayloadError, NoServersError
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from indexer.audit.cloudevents import DeliveredEvent
from indexer.common.errors import SinkRefused, SinkUnavailable
from indexer.feeds.config import NatsFeed, read_secret
from indexer.feeds.tls import tls_context, tls_failure
from indexer.store.pool import describe

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TOO_LARGE = 10054
"""JetStream's code for a message beyond the stream's own limit."""
REFUSALS = ("authorization", "authentication", "violation")
"""In what a server says to a client that it does not know, or that may not do what it does."""
CLOSE_WITHIN_SECONDS = 5.0


def open_sink(feed: NatsFeed) -> NatsSink:
    """Return the sink of a feed; raise ``ConfigurationError`` where its files cannot be used."""
    options: dict[str, Any] = {
        "servers": list(feed.servers),
        "name": f"registry-indexer {feed.name}",
        "tls": tls_context(feed),
    }
    if feed.token_file is not None:
        options["token"] = read_secret(feed.token_file, feed=feed.name, key="token_file")
    if feed.password_file is not None:
        options["user"] = feed.user
        options["password"] = read_secret(feed.password_file, feed=feed.name, key="password_file")
    return NatsSink(feed, options)


class NotSentError(Error):
    """We ended the connection before we said who we are; says why."""


class _Client(Client):
    """Says nothing in the clear to a ``tls://`` server, and says it where a certificate of ours is missing.

    The library encrypts where the server's greeting asks for it; that greeting comes unprotected, and whoever stands
    between could leave it out to be told the password.
    """

    has_certificate = False

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise NotSentError("the server offers no TLS, and tls:// was asked for")
        if self._server_info.get("tls_verify") and not self.has_certificate:
            raise NotSentError("the server asks for a certificate of ours (certificate_file)")
        command: bytes = super()._connect_command()
        return command


class NatsSink:
    """The sink of one feed."""

    def __init__(self, feed: NatsFeed, options: dict[str, Any]) -> None:
        self.largest_batch = feed.batch
        self._feed = feed
        self._options = options
        self._seconds = feed.timeout.total_seconds()
        self._client: _Client | None = None
        self._stream: JetStreamContext | None = None
        self._told: Exception | None = None
        """What the client last said beside its answers: why it is that nothing is answered."""

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:
        """Publish a batch."""
        again = f";replay={replay}" if replay else ""
        self._told = None
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
            silent = isinstance(error, TimeoutError | NoServersError | ConnectionClosedError)
            raise SinkUnavailable(why((self._told or error) if silent else error)) from error

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
        self._client = _Client()
        self._client.has_certificate = self._feed.certificate_file is not None
        await self._client.connect(
            **self._options,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=max(int(self._seconds), 1),
            error_cb=self._note,
        )
        self._stream = self._client.jetstream()
        return self._stream

    async def _note(self, error: Exception) -> None:
        self._told = error


def why(error: BaseException) -> str:
    """Say what the operator has to repair: the password, the certificates, or the server."""
    if isinstance(error, NotSentError):
        return str(error)
    said = str(error).removeprefix("nats: ").strip("'")
    if isinstance(error, Error) and any(word in said.lower() for word in REFUSALS):
        return f"the server refuses us: {said}"
    return tls_failure(error) or f"the server does not answer: {describe(error)}"
