"""``POST /notifications``: authenticate, make durable, answer.

Distribution retries a refused delivery without end and delivers nothing else meanwhile, takes any redirect for success,
and opens one connection per event (2.8.2 and 3.1.1, measured). So: 202 for whatever can be stored raw, never a 4xx for
content, never a redirect, and nothing is parsed here. Concurrent deliveries share a commit.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import structlog
from aiohttp import web
from prometheus_client import Counter, Histogram

from indexer.common.errors import StoreUnavailable
from indexer.ingest.bodies import Bodies, TooLarge
from indexer.ingest.writer import InboxWriter
from indexer.store.inbox import Delivery

log = structlog.get_logger()

MAX_BODY_BYTES = 16 * 1024 * 1024
"""With ``includereferences`` a 4 MiB manifest makes an envelope of up to some 7 MB (measured)."""

MAX_READING_BYTES = 32 * 1024 * 1024
"""All bodies that are being read or stored together; beyond it the answer is 503, and the registry retries. On its way
into the database a body is in memory several times over."""

BODY_DEADLINE_SECONDS = 10.0
"""Longer than any registry takes: its own time-out for a delivery is 1 s by default."""

RETRY_AFTER_SECONDS = "1"

DELIVERIES = Counter("indexer_notifications_total", "Deliveries at /notifications, by answer.", ["status"])
DURABLE_SECONDS = Histogram(
    "indexer_notification_durable_seconds",
    "From the first byte to the answer, which follows the commit.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)


def add_endpoint(app: web.Application, *, writer: InboxWriter, token: str) -> None:
    """Serve ``/notifications`` and, since a redirect would lose events, ``/notifications/`` alike."""
    endpoint = NotificationsEndpoint(writer, token=token)
    for path in ("/notifications", "/notifications/"):
        app.router.add_post(path, endpoint.receive)


class NotificationsEndpoint:
    """The receiving end of a registry's notifications."""

    def __init__(self, writer: InboxWriter, *, token: str) -> None:
        self._writer = writer
        self._expected = f"Bearer {token}".encode()
        self._bodies = Bodies(longest_bytes=MAX_BODY_BYTES, together_bytes=MAX_READING_BYTES)

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Answer 202 once durable, 401 without the token, 503 when it could not be made durable."""
        received_at = datetime.now(UTC)
        with DURABLE_SECONDS.time():
            response = await self._receive(request, received_at)
        DELIVERIES.labels(str(response.status)).inc()
        return response

    async def _receive(self, request: web.Request, received_at: datetime) -> web.Response:
        if not self._is_allowed(request):
            return _refuse(401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="notifications"'})
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(BODY_DEADLINE_SECONDS):
                    body = await stack.enter_async_context(self._bodies.read(request))
            except TimeoutError:
                return _refuse(
                    408, f"the body took longer than {BODY_DEADLINE_SECONDS:g} s", {"Connection": "close"}
                )
            except StoreUnavailable as error:
                return _not_durable(error)
            except TooLarge:
                return _refuse(
                    413, f"the body is larger than {MAX_BODY_BYTES} bytes", {"Connection": "close"}
                )
            return await self._store(request, body, received_at)

    async def _store(self, request: web.Request, body: bytes, received_at: datetime) -> web.Response:
        delivery = Delivery(
            received_at=received_at,
            body=body,
            content_type=_header(request, "Content-Type"),
            content_encoding=_header(request, "Content-Encoding"),
            can_wait=_has_pulls_only(body),
        )
        try:
            await self._writer.store(delivery)
        except StoreUnavailable as error:
            return _not_durable(error)
        return web.Response(status=202)

    def _is_allowed(self, request: web.Request) -> bool:
        """Compare every Authorization header: userinfo in the endpoint's URL makes Distribution send a second."""
        given = [value.encode("utf-8", "replace") for value in request.headers.getall("Authorization", ())]
        matches = [hmac.compare_digest(_canonical(value), self._expected) for value in given]
        return any(matches)


def _canonical(value: bytes) -> bytes:
    """The scheme is case-insensitive (RFC 9110 section 11.1)."""
    scheme, _, rest = value.partition(b" ")
    return b"Bearer " + rest.strip() if scheme.lower() == b"bearer" else value


def _has_pulls_only(body: bytes) -> bool:
    """Guess without parsing whether a delivery holds pulls only, and may wait behind pushes and deletes in the inbox.

    Nine tenths of all events are pulls, and a rollout to thousands of nodes must not delay a push. A wrong guess costs
    only order.
    """
    return b'"pull"' in body and not any(word in body for word in (b'"push"', b'"delete"', b'"mount"'))


def _header(request: web.Request, name: str) -> str:
    return request.headers.get(name, "").encode("utf-8", "replace").decode()[:200]


def _refuse(status: int, text: str, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)


def _not_durable(error: StoreUnavailable) -> web.Response:
    log.warning("notification_not_durable", error=str(error))
    return _refuse(503, "not durable, send it again", {"Retry-After": RETRY_AFTER_SECONDS})
