"""aiohttp's protocol with a measure on it: heads are weighed while they arrive and must arrive in time.

aiohttp bounds a field and the number of fields, and gives an unfinished head as long as an idle connection. A head of
100 fields of 4 MiB held 800 MiB that way, before anybody had asked for a token (measured).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo
from aiohttp.web_server import Server

from indexer.httpserver.crowd import CLOSED, Crowd, group_of
from indexer.httpserver.head import HeadWeight, weight_of
from indexer.httpserver.limits import Limits
from indexer.httpserver.refusals import MEDIA_TYPE, body_of, detail_of, response_bytes

_TOO_LARGE: Final = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
PIECE: Final = 64 * 1024
"""Given to the parser at a time, so that the measure is exceeded by no more. The transport reads 256 KiB at once."""

_THROWN_AWAY: Final = 1024 * 1024
"""Bytes that are still read after a refusal."""


class MeasuredServer(Server):
    """Makes the protocol of each connection."""

    def __init__(self, plain: Server, limits: Limits) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=plain._loop,  # noqa: SLF001 - what the runner made of the application is nowhere else
            **plain._kwargs,  # noqa: SLF001
        )
        self.limits = limits
        self.crowd = Crowd(limits)

    def __call__(self) -> RequestHandler:
        """Return the protocol of a new connection."""
        return MeasuredConnection(self, loop=self._loop, **self._kwargs)


class MeasuredConnection(RequestHandler):
    """One connection."""

    __slots__ = ("_deadline", "_limits", "_payload", "_refused", "_thrown_away", "_weight", "crowd", "group")

    def __init__(self, server: MeasuredServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._limits = server.limits
        self.crowd = server.crowd
        self.group = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._weight: HeadWeight | None = None
        self._payload: Any = None
        self._refused = False
        self._thrown_away = 0

    @property
    def is_idle(self) -> bool:
        """True while nothing is being answered: it waits for a request, or for the rest of a head."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find a place for the connection, or close it."""
        self.group = group_of(transport.get_extra_info("peername"))
        joined = self.crowd.join(self)
        super().connection_made(transport)
        if not joined:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give up the place."""
        self._settle()
        self.crowd.leave(self)
        self._payload = None
        super().connection_lost(exc)
        for message, _ in self._messages:
            if isinstance(
                message, _ErrInfo
            ):  # of what followed a tunnel or another protocol that was declined
                message.exc.__traceback__ = None
        self._messages.clear()
        self._message_tail = b""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP without a word in the log: anybody may send it, as often as they like."""
        if isinstance(exc, UnicodeEncodeError) and not request.headers.get("Expect", "").isascii():
            # aiohttp repeats an expectation that it does not know in its refusal, and this one is no text.
            status, message = HTTPStatus.EXPECTATION_FAILED, "Unknown Expect"
        elif isinstance(exc, HttpProcessingError):
            exc.__traceback__ = None  # see _end_with
        else:
            return super().handle_error(request, status, exc, message)
        if status == HTTPStatus.BAD_REQUEST:
            CLOSED.labels("malformed").inc()
        response = web.Response(
            status=status, body=body_of(HTTPStatus(status), message or ""), content_type=MEDIA_TYPE
        )
        response.force_close()
        return response

    def give_way(self) -> None:
        """Close the connection at once."""
        self._settle()
        self.force_close()

    def data_received(self, data: bytes) -> None:
        """Hand on what arrived, piece by piece, and weigh what is no body."""
        if self._refused:
            self._throw_away(len(data))
            return
        self.crowd.moved(self)
        for begin in range(0, len(data) or 1, PIECE):
            if self._refused or self._force_close or self._close:
                return
            self._take(data[begin : begin + PIECE] if len(data) > PIECE else data)

    def _take(self, piece: bytes) -> None:
        requests, read = self._request_count, self._body_bytes()
        super().data_received(piece)
        if self._messages and isinstance(error := self._messages[-1][0], _ErrInfo):
            self._end_with(error)
        elif self._request_count > requests:
            self._begun(piece)
        elif read != self._body_bytes() or not piece:
            self._settle()
        else:
            self._weigh(piece)

    def _end_with(self, error: _ErrInfo) -> None:
        """Keep of what is no HTTP the reason alone, and throw away what follows.

        The parser's error quotes what it could not read, and refers to frames that refer to it: a cycle, which is
        found when all objects are gone through. That is rare: each closed connection left 300 kB behind until then.
        """
        self._settle()
        self._refused = True
        reason = detail_of(error.exc, error.message or "")
        short = HttpProcessingError(code=error.status, message=reason)
        self._messages[-1] = (_ErrInfo(error.status, short, reason), EMPTY_PAYLOAD)
        error.exc.__traceback__ = None

    def _body_bytes(self) -> int:
        """How much of the current body arrived; -1 where none is awaited."""
        payload = self._payload
        return -1 if payload is None or payload.is_eof() else int(payload.total_bytes)

    def _throw_away(self, size: int) -> None:
        """Read a little of what follows a refusal, so that the client can read the refusal, and then no more."""
        self._thrown_away += size
        if self._thrown_away > _THROWN_AWAY and self.transport is not None:
            self.transport.pause_reading()

    def _begun(self, piece: bytes) -> None:
        """A head is whole: check what only the whole tells."""
        arrived = len(piece) if self._weight is None else len(piece) + self._weight.total
        self._settle()
        message, self._payload = self._messages[-1]
        if arrived <= self._limits.lasting_head_bytes or isinstance(message, _ErrInfo):
            return
        weight = weight_of(message.raw_headers)
        if self._is_too_heavy(weight):
            self._replace(_TOO_LARGE, "head_too_large")
        elif weight.total > self._limits.lasting_head_bytes:
            if self.crowd.keep_head(self, weight.total):
                self._messages[-1] = (message._replace(should_close=True), self._payload)
            else:
                self._replace(HTTPStatus.SERVICE_UNAVAILABLE, "heads_together_too_large")

    def _replace(self, status: HTTPStatus, reason: str) -> None:
        """Have a refusal handled in place of the request that arrived last."""
        CLOSED.labels(reason).inc()
        error = HttpProcessingError(code=status.value, message=status.phrase)
        self._messages[-1] = (_ErrInfo(status.value, error, error.message), EMPTY_PAYLOAD)

    def _weigh(self, piece: bytes) -> None:
        """A head is not whole yet, or trailers are not."""
        if self._upgraded or self._buffer_paused or self._reading_paused or self._close:
            return  # what aiohttp holds then is bounded by its own pauses
        if self._weight is None:
            self._weight = HeadWeight()
            self._deadline = self._loop.call_later(self._limits.head_seconds, self._too_slow)
        self._weight.add(piece)
        if self._is_too_heavy(self._weight):
            self._refuse(_TOO_LARGE, "head_too_large")
        else:
            self.crowd.hold_head(self, self._weight.total)

    def _is_too_heavy(self, weight: HeadWeight) -> bool:
        return (
            weight.others > self._limits.head_bytes or weight.authorization > self._limits.authorization_bytes
        )

    def _too_slow(self) -> None:
        self._deadline = None
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "head_too_slow")

    def _settle(self) -> None:
        """Nothing is held that is neither a request nor a body."""
        if self._weight is None:
            return
        self._weight = None
        self.crowd.finish_head(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answer, unless an answer is under way, and close; what still comes is thrown away meanwhile."""
        CLOSED.labels(reason).inc()
        idle = self.is_idle
        self._settle()
        self._refused = True
        self._parser = None  # with what it holds of the head
        if self.transport is not None and idle:
            self.transport.write(response_bytes(status))
        self._loop.call_later(self._limits.linger_seconds, self.force_close)
