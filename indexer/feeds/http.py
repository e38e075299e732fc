"""An HTTP sink: a POST per batch, signed by Standard Webhooks where there is a secret.

    2xx                  taken
    400, 413, 422        these events are refused: the dispatcher finds out which
    410                  never again
    anything else        about us, or not now: tried again, with the sink's ``Retry-After``

Redirects are not followed: what a feed delivers goes where the operator said, or nowhere.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
import orjson

from indexer.audit.cloudevents import SEQUENCE_DIGITS, DeliveredEvent
from indexer.common.errors import SinkGone, SinkRefused, SinkUnavailable
from indexer.common.response_body import read_start
from indexer.common.retry_after import parse_retry_after
from indexer.common.rfc3339 import parse_time
from indexer.feeds.config import HttpFeed, read_secret, wrong_key
from indexer.feeds.tls import tls_context
from indexer.store.pool import describe

REFUSED = frozenset({400, 413, 422})
GONE = 410
SHOWN_CHARACTERS = 200

CONTENT_TYPES = {
    "cloudevents": "application/cloudevents+json; charset=utf-8",
    "cloudevents-batch": "application/cloudevents-batch+json; charset=utf-8",
    "ndjson": "application/x-ndjson",
    "splunk": "application/json",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """What a request proves itself with: signing keys, and the Authorization header."""

    keys: tuple[bytes, ...] = ()
    authorization: str | None = None


def open_sink(feed: HttpFeed) -> HttpSink:
    """Return the sink of a feed; raise ``ConfigurationError`` where its files cannot be used."""
    keys: tuple[bytes, ...] = ()
    authorization = None
    if feed.secret_file is not None:
        text = read_secret(feed.secret_file, feed=feed.name, key="secret_file")
        try:
            keys = tuple(signing_key(line) for line in text.split())
        except ValueError as error:
            raise wrong_key(feed.name, "secret_file", f"{feed.secret_file}: {error}") from None
    if feed.authorization_file is not None:
        authorization = read_secret(feed.authorization_file, feed=feed.name, key="authorization_file")
        if not (authorization.isascii() and authorization.isprintable()):
            raise wrong_key(feed.name, "authorization_file", "must hold one line of printable ASCII")
    verify = tls_context(feed)
    secrets = Secrets(keys=keys, authorization=authorization)

    def client() -> httpx.AsyncClient:
        seconds = feed.timeout.total_seconds()
        return httpx.AsyncClient(
            verify=verify, timeout=httpx.Timeout(seconds), follow_redirects=False, trust_env=False
        )

    return HttpSink(feed, secrets, client)


class HttpSink:
    """The sink of one feed."""

    def __init__(
        self, feed: HttpFeed, secrets: Secrets, make_client: Callable[[], httpx.AsyncClient]
    ) -> None:
        self.largest_batch = 1 if feed.format == "cloudevents" else feed.batch
        self._feed = feed
        self._secrets = secrets
        self._make_client = make_client
        self._client: httpx.AsyncClient | None = None

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:  # noqa: ARG002 - sinks go by the ids
        """Post a batch."""
        body = encode(events, self._feed.format)
        headers = self._headers(message_id(events), body, now=datetime.now(UTC))
        if self._client is None:
            self._client = self._make_client()
        try:
            async with (
                asyncio.timeout(self._feed.timeout.total_seconds()),
                self._client.stream("POST", self._feed.url, content=body, headers=headers) as answer,
            ):
                said = await read_start(answer)
        except TimeoutError as error:
            raise SinkUnavailable(f"no answer within {self._feed.timeout.total_seconds():g} s") from error
        except httpx.HTTPError as error:
            raise SinkUnavailable(f"no answer: {describe(error)}") from error
        self._judge(answer, said)

    async def begin_replay(self, replay: int) -> None:
        """Nothing to prepare: a request does not know what was before."""

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _headers(self, message: str, body: bytes, *, now: datetime) -> dict[str, str]:
        headers = {"Content-Type": CONTENT_TYPES[self._feed.format], "User-Agent": "registry-indexer"}
        if self._secrets.authorization is not None:
            headers["Authorization"] = self._secrets.authorization
        if self._secrets.keys:
            headers |= signature_headers(message, body, keys=self._secrets.keys, now=now)
        return headers

    def _judge(self, answer: httpx.Response, said: str) -> None:
        status = answer.status_code
        if answer.is_success:
            return
        reason = f"the sink answers {status}"
        if answer.is_redirect:
            reason += ", a redirect, which is not followed"
        elif said:
            reason += f": {self._blanked(said)!r}"
        if status in REFUSED:
            raise SinkRefused(reason)
        if status == GONE:
            raise SinkGone(reason)
        asked = parse_retry_after(answer.headers.get("Retry-After"), now=datetime.now(UTC))
        raise SinkUnavailable(reason, retry_after_seconds=asked)

    def _blanked(self, said: str) -> str:
        """Return what the sink said, without our own secret, should it repeat it."""
        secret = self._secrets.authorization
        for part in () if secret is None else (secret, secret.partition(" ")[2]):
            said = said.replace(part, "…") if part else said
        return said[:SHOWN_CHARACTERS]


def encode(events: Sequence[DeliveredEvent], wanted: str) -> bytes:
    """Return events as the body of a request."""
    match wanted:
        case "cloudevents":
            return events[0].body
        case "cloudevents-batch":
            return b"[" + b",".join(event.body for event in events) + b"]"
        case "splunk":
            return b"\n".join(_splunk(event) for event in events)
        case _:
            return b"".join(event.body + b"\n" for event in events)


def _splunk(event: DeliveredEvent) -> bytes:
    """Return what the HTTP Event Collector's ``/services/collector/event`` takes, with its own time."""
    occurred_at = parse_time(event.entry["occurred_at"])
    return orjson.dumps(
        {
            "time": f"{occurred_at.timestamp():.6f}",
            "source": event.source,
            "sourcetype": "registry:audit",
            "event": orjson.Fragment(event.body),
        }
    )


def message_id(events: Sequence[DeliveredEvent]) -> str:
    """Return the id of a message: that of its event, or of its first and last."""
    first, last = events[0], events[-1]
    return first.id if first is last else f"{first.id}-{last.position:0{SEQUENCE_DIGITS}}"


def signing_key(text: str) -> bytes:
    """Return the key of a Standard Webhooks secret (``whsec_`` and base64); raise ``ValueError``."""
    prefix, _, encoded = text.partition("_")
    try:
        key = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        key = b""
    if prefix != "whsec" or not 24 <= len(key) <= 64:  # noqa: PLR2004 - the specification's bounds
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 random bytes")
    return key


def signature_headers(
    message: str, body: bytes, *, keys: Sequence[bytes], now: datetime
) -> Mapping[str, str]:
    """Return the three headers of Standard Webhooks: id, time and one HMAC-SHA256 signature a key."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join((message.encode(), timestamp.encode(), body))
    signatures = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys
    ]
    return {
        "webhook-id": message,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }
