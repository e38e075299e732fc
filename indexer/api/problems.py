"""Errors of ``/api/`` as ``application/problem+json`` (RFC 9457).

Every problem has a stable ``code``; a wrong parameter is named, with what is accepted instead. An unexpected error is
logged, and the response has no details of it.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from indexer.api.auth import Challenge, Unauthorized
from indexer.common.errors import CallerError, StoreError, StoreFault, StoreRefused, StoreUnavailable
from indexer.store.reading import StoreTooSlow

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2
_AGAIN = {"Retry-After": str(RETRY_AFTER_SECONDS)}

CHALLENGE: Final = web.AppKey("challenge", Challenge)
"""The challenge of a 401, as a key of the application."""

_log = structlog.get_logger()
_CODES = {404: "unknown_path", 405: "method_not_allowed", 413: "content_too_large"}


def not_found(message: str) -> CallerError:
    """Make the 404 for what is not on record, or what the caller may not read."""
    return CallerError(message, status=404, code="not_found")


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    parameter: str | None = None,
    allowed: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    """Make a problem response."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
    }
    if parameter is not None:
        body["parameter"] = parameter
    if allowed is not None:
        body["allowed"] = allowed
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", **(headers or {})},
    )


@web.middleware
async def problems_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error under ``/api/`` with a problem, also where the path begins with more than one slash."""
    if not f"/{request.path.lstrip('/')}/".startswith("/api/"):
        return await handler(request)
    try:
        return await handler(request)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except web.HTTPException as error:
        return _of_http(error)
    except Exception as error:  # noqa: BLE001 - the caller gets a problem, the log the rest
        return _of_error(error, request)


def _of_http(error: web.HTTPException) -> web.Response:
    """Translate aiohttp's own errors (unknown path, wrong method, body too large) into problems."""
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
    code = _CODES.get(error.status, "bad_request")
    detail = "there is nothing at this path" if error.status == HTTPStatus.NOT_FOUND else error.reason
    return problem(error.status, code, detail, headers=headers)


def _of_error(error: Exception, request: web.Request) -> web.Response:
    match error:
        case Unauthorized():
            challenge = request.app[CHALLENGE].header(error.access, error.error)
            headers = {"WWW-Authenticate": challenge}
            return problem(error.status, error.code, str(error), headers=headers)
        case CallerError():
            full = error.status == HTTPStatus.SERVICE_UNAVAILABLE
            return problem(
                error.status,
                error.code,
                str(error),
                parameter=error.parameter,
                allowed=error.allowed,
                headers=_AGAIN if full else None,
            )
        case StoreTooSlow():
            _log.warning("api_too_slow", path=request.path, query=request.query_string)
            return _try_again("too_slow", str(error))
        case StoreUnavailable():
            _log.warning("api_store_unavailable", path=request.path, error=str(error))
            return _try_again("store_unavailable", "the database does not answer just now; try again")
        case StoreError() if not isinstance(error, StoreFault | StoreRefused):
            _log.error("api_store_refused", path=request.path, error=str(error))
            return _try_again("store_refused", "the database is not in a state to answer; see the log")
        case _:
            _log.error("api_failed", path=request.path, query=request.query_string, exc_info=error)
            return problem(500, "internal", "something went wrong here; the log has the details")


def _try_again(code: str, detail: str) -> web.Response:
    return problem(503, code, detail, headers=_AGAIN)
