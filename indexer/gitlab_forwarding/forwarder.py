"""Forwards events to GitLab, which refreshes its statistics after a push or a delete.

Events wait in a table of their own (``store/forwarding``), queued by the transaction that applied them: so GitLab finds
the inventory changed when it calls our API, and while GitLab is down only this queue waits.

    queued ──2xx──▶ forwarded, removed
       │ ▲
       │ └──5xx, 408, 429, no answer: retried, before the later events of its tag
       ├──any other 4xx to it alone──▶ dead letter, kept with the reason
       └──waits too long, or too many wait──▶ dropped, counted

An answer about the sender and not the event (401, 403, 404 …) drops nothing: the token or the URL is wrong. One process
forwards at a time, in order. If it ends after GitLab's answer and before the row is removed, GitLab gets the event
twice, with the same id.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import structlog
from prometheus_client import Counter, Histogram
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from indexer.background.loop import IterationResult
from indexer.common.backoff import growing_wait
from indexer.common.errors import GitlabUnavailable
from indexer.common.response_body import read_start
from indexer.common.retry_after import parse_retry_after
from indexer.store import forwarding
from indexer.store.forwarding import Queued
from indexer.store.pool import Pool, connection, describe, transaction

log = structlog.get_logger()

PATH = "/api/v4/container_registry_event/events"
CONTENT_TYPE = "application/vnd.docker.distribution.events.v1+json"

BATCH = 100
BATCH_BYTES = 1024 * 1024
REQUEST_DEADLINE_SECONDS = 20.0
LEASE_SECONDS = 25.0
"""Longer than a request may take, and renewed before each: no other process sends while one waits for its answer."""

ATTEMPTS = 3
"""Requests within one round; between failed rounds ``background/service`` waits longer each time."""

LONGEST_PAUSE_SECONDS = 5.0
"""Between attempts of one round. A longer ``Retry-After`` ends the round."""

LONGEST_ASKED_SECONDS = 3600.0
FIRST_DEFERRAL_SECONDS = 5.0
LONGEST_DEFERRAL_SECONDS = 300.0
REST_SECONDS = 1.0
REST_WHILE_ANOTHER_FORWARDS_SECONDS = 5.0
BOUND_EVERY_SECONDS = 10.0
BOUND_BATCH = 5000

ABOUT_US = frozenset({401, 403, 404, 405, 407})
"""Answers that refuse the sender or the address, whatever the event."""

TRY_AGAIN = frozenset({408, 425, 429})
CLIENT_ERRORS = range(400, 500)

EVENTS = Counter("indexer_gitlab_events_total", "Events for GitLab, by outcome.", ["outcome"])
DELAY = Histogram(
    "indexer_gitlab_delay_seconds",
    "From when an event was applied to when GitLab accepted it.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 3600, 86400),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabSettings:
    """Where to forward. ``token`` is sent as it is. The queue is bounded by age and by number of events."""

    url: str
    token: str
    ca_file: str | None
    longest_wait: timedelta
    longest_queue: int


class _Refused(Exception):  # noqa: N818 - an answer, not a failure
    """GitLab refused the content, and would again."""


class Forwarder:
    """The loop that forwards."""

    name = "gitlab"

    def __init__(self, pool: Pool, client: httpx.AsyncClient, settings: GitlabSettings) -> None:
        self._pool = pool
        self._client = client
        self._settings = settings
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{id(self)}"
        self._alone = 0
        self._not_before = 0.0
        self._bound_at = 0.0
        self._backoff = wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE_SECONDS)

    async def run_once(self) -> IterationResult:
        """Forward one batch. Raises ``GitlabUnavailable``; then all its events still wait, in their order."""
        if not await self._lease():
            return IterationResult(items=0, rest_seconds=REST_WHILE_ANOTHER_FORWARDS_SECONDS)
        await self._drop_beyond_bounds()
        if (left := self._not_before - time.monotonic()) > 0:
            raise GitlabUnavailable(f"GitLab asked to wait {left:.0f} s more (Retry-After)")
        async with connection(self._pool) as held:
            events = await forwarding.next_events(
                held, now=datetime.now(UTC), limit=1 if self._alone else BATCH, limit_bytes=BATCH_BYTES
            )
        if not events:
            return IterationResult(items=0, rest_seconds=REST_SECONDS)
        await self._forward(events)
        return IterationResult(items=len(events), rest_seconds=0)

    async def _forward(self, events: Sequence[Queued]) -> None:
        alone = len(events) == 1
        try:
            await self._send_patiently(events)
        except _Refused as error:
            if alone:
                await self._dead_letter(events[0], str(error))
            else:
                log.info("gitlab_refused_taking_one_at_a_time", events=len(events), reason=str(error))
                self._alone = len(events)
            return
        except GitlabUnavailable as error:
            if error.retry_after_seconds is not None:
                self._not_before = time.monotonic() + min(error.retry_after_seconds, LONGEST_ASKED_SECONDS)
            if error.maybe_the_event and alone:
                await self._defer(events[0])
            elif error.maybe_the_event:
                self._alone = len(events)
            raise
        async with connection(self._pool) as held:
            await forwarding.finish_events(held, ids=[event.id for event in events])
        self._alone = max(self._alone - 1, 0)
        EVENTS.labels("forwarded").inc(len(events))
        for event in events:
            DELAY.observe(max((datetime.now(UTC) - event.queued_at).total_seconds(), 0.0))

    async def _dead_letter(self, event: Queued, reason: str) -> None:
        async with connection(self._pool) as held:
            await forwarding.add_dead_event(held, number=event.id, now=datetime.now(UTC), reason=reason[:500])
        self._alone = max(self._alone - 1, 0)
        EVENTS.labels("dead").inc()
        log.warning("gitlab_event_refused", subject=event.subject, reason=reason)

    async def _defer(self, event: Queued) -> None:
        seconds = growing_wait(
            event.attempts + 1, first=FIRST_DEFERRAL_SECONDS, longest=LONGEST_DEFERRAL_SECONDS
        )
        wait = timedelta(seconds=seconds)
        async with connection(self._pool) as held:
            await forwarding.defer_event(held, number=event.id, due_at=datetime.now(UTC) + wait)
        self._alone = max(self._alone - 1, 0)

    async def _lease(self) -> bool:
        async with connection(self._pool) as held:
            return await forwarding.lease_forwarding(held, holder=self._holder, seconds=LEASE_SECONDS)

    async def _drop_beyond_bounds(self) -> None:
        if time.monotonic() < self._bound_at:
            return
        async with transaction(self._pool) as held:
            dropped = await forwarding.drop_beyond(
                held,
                before=datetime.now(UTC) - self._settings.longest_wait,
                keep=self._settings.longest_queue,
                limit=BOUND_BATCH,
            )
        if dropped:
            EVENTS.labels("dropped").inc(dropped)
            log.warning("gitlab_events_dropped", count=dropped)
        if dropped < BOUND_BATCH:
            self._bound_at = time.monotonic() + BOUND_EVERY_SECONDS

    async def _send_patiently(self, events: Sequence[Queued]) -> None:
        body = envelope([event.body for event in events])
        retrying = AsyncRetrying(
            retry=retry_if_exception(_worth_another_try),
            stop=stop_after_attempt(ATTEMPTS),
            wait=self._pause,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                if not await self._lease():
                    raise GitlabUnavailable("another process has taken over forwarding")
                await self._send(body)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.retry_after_seconds if isinstance(error, GitlabUnavailable) else None
        return max(self._backoff(state), asked or 0.0)

    async def _send(self, body: bytes) -> None:
        try:
            async with (
                asyncio.timeout(REQUEST_DEADLINE_SECONDS),
                self._client.stream("POST", self._settings.url, content=body) as answer,
            ):
                text = await read_start(answer)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise GitlabUnavailable(f"GitLab cannot be reached: {describe(error)}") from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise GitlabUnavailable(
                f"GitLab does not answer: {describe(error)}", maybe_the_event=True
            ) from error
        _raise_unless_accepted(answer, text)


def _raise_unless_accepted(answer: httpx.Response, text: str) -> None:
    """Raise ``GitlabUnavailable`` or ``_Refused`` unless GitLab accepted the envelope; ``text`` is its body."""
    status = answer.status_code
    if answer.is_success:
        return
    if status in ABOUT_US or answer.is_redirect:
        hint = "; is INDEXER_GITLAB_TOKEN its notification secret?" if status in (401, 403) else ""
        raise GitlabUnavailable(f"GitLab answers {status} to every event{hint}")
    if status in CLIENT_ERRORS and status not in TRY_AGAIN:
        raise _Refused(f"GitLab answers {status}: {text[:200]!r}")
    asked = parse_retry_after(answer.headers.get("Retry-After"), now=datetime.now(UTC))
    raise GitlabUnavailable(
        f"GitLab answers {status}", retry_after_seconds=asked, maybe_the_event=status not in TRY_AGAIN
    )


def _worth_another_try(error: BaseException) -> bool:
    return (
        isinstance(error, GitlabUnavailable) and (error.retry_after_seconds or 0.0) <= LONGEST_PAUSE_SECONDS
    )


def open_client(settings: GitlabSettings) -> httpx.AsyncClient:
    """Make the client; variables of the environment for proxies and certificates are ignored.

    Raises ``OSError`` or ``ssl.SSLError`` if the CA file cannot be read.
    """
    return httpx.AsyncClient(
        headers={"Authorization": settings.token, "Content-Type": CONTENT_TYPE},
        verify=(
            httpx.create_ssl_context(trust_env=False)
            if settings.ca_file is None
            else ssl.create_default_context(cafile=settings.ca_file)
        ),
        timeout=httpx.Timeout(REQUEST_DEADLINE_SECONDS, connect=5.0),
        follow_redirects=False,
        trust_env=False,
    )


def envelope(bodies: Sequence[bytes]) -> bytes:
    """Return events, each as the registry sent it, as one envelope for GitLab."""
    return json.dumps({"events": [stripped(json.loads(body)) for body in bodies]}).encode()


def stripped(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event without the empty members of its target; the rest is as the registry sent it.

    Distribution 3.x reports a deleted tag with empty ``digest`` and ``mediaType`` and ``size`` 0. GitLab checks only
    whether a key exists, and would count a deleted manifest.
    """
    target = event.get("target")
    if not isinstance(target, dict):
        return dict(event)
    kept = {key: value for key, value in target.items() if value not in ("", None)}
    if "digest" not in kept:
        kept = {key: value for key, value in kept.items() if key not in ("size", "length") or value != 0}
    return {**event, "target": kept}
