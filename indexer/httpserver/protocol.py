"""aiohttp's protocol with limits on heads: their bytes are counted while they arrive, and they must arrive in time.

aiohttp bounds a field and the number of fields, and lets an unfinished head take as long as an idle connection. So a
head of 100 fields of 4 MiB took 800 MiB of memory, before any token was checked (measured).
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
PIECE: Final = 16 * 1024
"""Bytes read at a time, so that a limit is exceeded by no more."""

_DISCARDED: Final = 256 * 1024
"""Bytes that are still read after a refusal."""


class MeasuredServer(Server):
    """Makes the protocol of each connection."""

    def __init__(self, plain: Server, limits: Limits) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=plain._loop,  # noqa: SLF001 - the runner keeps it nowhere else
            **plain._kwargs,  # noqa: SLF001
        )
        self.limits = limits
        self.crowd = Crowd(limits)

    def __call__(self) -> ReadBuffer:  # type: ignore[override]  # the transport takes either kind of protocol
        """Return the protocol of a new connection."""
        return ReadBuffer(MeasuredConnection(self, loop=self._loop, **self._kwargs))


class ReadBuffer(asyncio.BufferedProtocol):
    """Reads for a connection, ``PIECE`` bytes at a time, into one buffer that all connections share.

    A transport with a protocol of the other kind reads 256 KiB at a time: 200 connections that sent bodies without a
    token took 70 MiB more (measured).
    """

    __slots__ = ("_connection",)
    _buffer = memoryview(bytearray(PIECE))
    """Shared, since what was read is copied before anything else is read."""

    def __init__(self, connection: MeasuredConnection) -> None:
        self._connection = connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Pass it on."""
        self._connection.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass it on."""
        self._connection.connection_lost(exc)

    def eof_received(self) -> None:
        """Pass it on."""
        self._connection.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._connection.resume_writing()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the transport's call
        """Return where to read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on a copy of what was read."""
        self._connection.data_received(bytes(self._buffer[:nbytes]))


class MeasuredConnection(RequestHandler):
    """One connection."""

    __slots__ = ("_deadline", "_discarded", "_limits", "_payload", "_refused", "_weight", "crowd", "group")

    def __init__(self, server: MeasuredServer, **kwargs: Any) -> None:
        super().__init__(server, **kwargs)
        self._limits = server.limits
        self.crowd = server.crowd
        self.group = ""
        self._deadline: asyncio.TimerHandle | None = None
        self._weight: HeadWeight | None = None
        self._payload: Any = None
        self._refused = False
        self._discarded = 0

    @property
    def is_idle(self) -> bool:
        """True while no request is being answered: it waits for one, or for the rest of a head."""
        return not self._request_in_progress and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or close it where there are too many."""
        self.group = group_of(transport.get_extra_info("peername"))
        joined = self.crowd.join(self)
        super().connection_made(transport)
        if not joined:
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the connection no longer, and free what it holds."""
        self._end_head()
        self.crowd.leave(self)
        self._payload = None
        super().connection_lost(exc)
        for message, _ in self._messages:
            if isinstance(message, _ErrInfo):
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
        """Refuse what is no HTTP, and log nothing of it: any client may send it, as often as it likes."""
        if isinstance(exc, UnicodeEncodeError) and not request.headers.get("Expect", "").isascii():
            # aiohttp repeats an unknown expectation in its refusal, and fails to encode this one.
            status, message = HTTPStatus.EXPECTATION_FAILED, "Unknown Expect"
        elif isinstance(exc, HttpProcessingError):
            exc.__traceback__ = None  # see _end_with_error
        else:
            return super().handle_error(request, status, exc, message)
        if status == HTTPStatus.BAD_REQUEST:
            CLOSED.labels("malformed").inc()
        response = web.Response(
            status=status, body=body_of(HTTPStatus(status), message or ""), content_type=MEDIA_TYPE
        )
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer; discard the rest of a body that was not read, where it is long.

        aiohttp goes on to parse it for as long as it lingers: 3,000 connections that sent bodies without a token kept
        the server busy for more than 12 s, and took 280 MiB (measured).
        """
        finished = await super().finish_response(request, resp, start_time)
        body = request.content
        if not body.is_eof():
            length = request.content_length
            if length is None or length - body.total_bytes > _DISCARDED:
                self._refused = True
        return finished

    def give_way(self) -> None:
        """Close the connection at once."""
        self._end_head()
        self.force_close()

    def data_received(self, data: bytes) -> None:
        """Give what arrived to the parser, and count the bytes of heads."""
        if self._refused:
            self._discard(len(data))
            return
        if self._force_close or self._close:
            return
        self.crowd.moved(self)
        requests, read = self._request_count, self._body_bytes()
        super().data_received(data)
        if self._messages and isinstance(error := self._messages[-1][0], _ErrInfo):
            self._end_with_error(error)
        elif self._request_count > requests:
            self._head_complete(data)
        elif read != self._body_bytes() or not data:
            self._end_head()
        else:
            self._head_incomplete(data)
        if self._upgraded and not self._refused:
            self._decline_upgrade()

    def _decline_upgrade(self) -> None:
        """Answer a request for a tunnel or another protocol as plain HTTP, and discard what follows it.

        aiohttp keeps what follows until the request is answered, 300 kB a connection, and then parses it as requests.
        """
        self._refused = True
        self._message_tail = b""
        if self._messages:
            message, payload = self._messages[-1]
            if not isinstance(message, _ErrInfo):
                self._messages[-1] = (message._replace(should_close=True), payload)
        else:
            self.close()

    def _end_with_error(self, error: _ErrInfo) -> None:
        """Keep only the reason of a parser's error, and discard what follows.

        The error quotes its input and is part of a reference cycle with its traceback, which only a full garbage
        collection frees. Until then each closed connection kept 300 kB (measured).
        """
        self._end_head()
        self._refused = True
        reason = detail_of(error.exc, error.message or "")
        short = HttpProcessingError(code=error.status, message=reason)
        self._messages[-1] = (_ErrInfo(error.status, short, reason), EMPTY_PAYLOAD)
        error.exc.__traceback__ = None

    def _body_bytes(self) -> int:
        """Return how many bytes of the current body arrived; -1 where none is expected."""
        payload = self._payload
        return -1 if payload is None or payload.is_eof() else int(payload.total_bytes)

    def _discard(self, size: int) -> None:
        """Read up to ``_DISCARDED`` bytes after a refusal, so that the client can read it, and then no more."""
        self._discarded += size
        if self._discarded > _DISCARDED and self.transport is not None:
            self.transport.pause_reading()

    def _head_complete(self, piece: bytes) -> None:
        """Refuse a complete head that is too large, by itself or with those of other connections."""
        arrived = len(piece) if self._weight is None else len(piece) + self._weight.total
        self._end_head()
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
        """Answer the request that arrived last with a refusal, and discard what follows it."""
        CLOSED.labels(reason).inc()
        error = HttpProcessingError(code=status.value, message=status.phrase)
        self._messages[-1] = (_ErrInfo(status.value, error, error.message), EMPTY_PAYLOAD)
        self._refused = True
        self._payload = self._parser = None  # frees what it has of the head

    def _head_incomplete(self, piece: bytes) -> None:
        """Count the bytes of a head, or of trailers, that is not complete; begin its deadline."""
        if self._upgraded or self._buffer_paused or self._reading_paused or self._close:
            return  # then aiohttp itself bounds what it keeps
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

    def _end_head(self) -> None:
        """Count no unfinished head any more, and end its deadline."""
        if self._weight is None:
            return
        self._weight = None
        self.crowd.finish_head(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answer with a refusal, unless an answer is under way, and close the connection after ``linger_seconds``."""
        CLOSED.labels(reason).inc()
        idle = self.is_idle
        self._end_head()
        self._refused = True
        self._parser = None  # frees what it has of the head
        if self.transport is not None and idle:
            self.transport.write(response_bytes(status))
        self._loop.call_later(self._limits.linger_seconds, self.force_close)
