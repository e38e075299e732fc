"""Answers to requests that reach no endpoint, because their head is no HTTP or too large.

Problem documents (RFC 9457) like those of the API: a client need not know where a refusal was made.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import orjson
from aiohttp.http_exceptions import LineTooLong

MEDIA_TYPE: Final = "application/problem+json"
_LONGEST_DETAIL: Final = 200


def detail_of(error: BaseException | None, message: str) -> str:
    """Return what was wrong with a head; of a line that is too long only the limit, not the line."""
    if isinstance(error, LineTooLong):
        return f"a line of the request's head is longer than {error.args[1]} bytes"
    return message[:_LONGEST_DETAIL]


def body_of(status: HTTPStatus, detail: str) -> bytes:
    """Return the document."""
    return orjson.dumps(
        {
            "type": "about:blank",
            "title": status.phrase,
            "status": status.value,
            "code": status.name.lower(),
            "detail": detail or status.phrase,
        }
    )


def response_bytes(status: HTTPStatus) -> bytes:
    """Return a whole response, for a connection that has no request to answer."""
    body = body_of(status, status.phrase)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
