"""Errors in the form of a registry (OCI distribution spec 1.1, "Error Codes"), for ``gitlab`` and ``oci``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiohttp import web

from indexer.api.auth import Access, Challenge, Unauthorized
from indexer.common.errors import CallerError, StoreError

RETRY_AFTER_SECONDS: Final = 2

_log = structlog.get_logger()


class Refusal(CallerError):  # noqa: N818 - an answer
    """A request that is refused, with the specification's code, its message, and ``detail``."""

    def __init__(self, status: int, code: str, message: str, detail: Any) -> None:
        super().__init__(message, status=status, code=code)
        self.detail = detail


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryRefusal:
    """The response to a request that failed; its body is not encoded yet."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


def refused(error: Exception, request: web.Request, *, challenge: Challenge) -> RegistryRefusal:
    """Return the response to any error. A fault of our own is logged, and the response has no details of it."""
    match error:
        case Refusal():
            return RegistryRefusal(status=error.status, body=body(error.code, str(error), error.detail))
        case Unauthorized():
            return RegistryRefusal(
                status=error.status,
                body=unauthorized_body(error.access),
                headers={"WWW-Authenticate": challenge.header(error.access, error.error)},
            )
        case CallerError():
            return RegistryRefusal(status=error.status, body=body(error.code.upper(), str(error), None))
        case StoreError():
            _log.warning("registry_api_unavailable", path=request.path, error=str(error))
            return RegistryRefusal(
                status=503,
                body=body("UNAVAILABLE", "service unavailable", None),
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        case _:
            _log.error("registry_api_failed", path=request.path, query=request.query_string, exc_info=error)
            return RegistryRefusal(status=500, body=body("UNKNOWN", "unknown error", None))


def body(code: str, message: str, detail: Any) -> dict[str, Any]:
    """Return the body of an error."""
    return {"errors": [{"code": code, "message": message, "detail": detail}]}


def unauthorized_body(access: Sequence[Access]) -> dict[str, Any]:
    """Return the body of a 401 with the access that is required, as Distribution writes it."""
    detail = [{"Type": each.type, "Class": "", "Name": each.name, "Action": each.action} for each in access]
    return body("UNAUTHORIZED", "authentication required", detail or None)
