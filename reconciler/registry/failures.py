"""What a failed request means: errors of aiohttp, and unexpected statuses, as registry errors."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import aiohttp

from indexer.common.errors import RegistryDenied, RegistryMisbehaved, RegistryUnavailable
from indexer.common.retry_after import parse_retry_after
from reconciler.registry.exchange import RegistryResponse

_MULTIPLE_CHOICES: Final = 300
_BAD_REQUEST: Final = 400
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500
_TRY_AGAIN: Final = frozenset({408, 425, 429})


def failure_of(
    answer: RegistryResponse, *, now: datetime, is_registry: bool = True
) -> RegistryDenied | RegistryMisbehaved | RegistryUnavailable:
    """Return the error for an unexpected status.

    ``now``: our clock (UTC), for a ``Retry-After`` that is a date. ``is_registry``: the registry sent the answer, so
    its body may be quoted.
    """
    message = f"{answer.request_line}: {answer.status}{_quote(answer) if is_registry else ''}"
    if answer.status in {_UNAUTHORIZED, _FORBIDDEN}:
        return RegistryDenied(f"{message}; check the user name, password and permissions of the reconciler")
    if answer.status in _TRY_AGAIN or answer.status >= _SERVER_ERROR:
        seconds = parse_retry_after(answer.headers.get("Retry-After"), now=now)
        return RegistryUnavailable(message, retry_after_seconds=seconds, status=answer.status)
    if _MULTIPLE_CHOICES <= answer.status < _BAD_REQUEST:
        location = without_query(answer.headers.get("Location", "nowhere"))
        return RegistryMisbehaved(
            f"{message}: redirects to {location!r}; set RECONCILER_REGISTRY_URL to the registry's own address"
        )
    return RegistryMisbehaved(message)


@asynccontextmanager
async def translating(request_line: str, timeout_seconds: float) -> AsyncIterator[None]:
    """Translate errors of aiohttp into ours, once, keeping the cause."""
    try:
        yield
    except TimeoutError as error:
        raise RegistryUnavailable(f"{request_line}: no whole answer within {timeout_seconds:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        why = error.certificate_error
        message = f"{request_line}: the certificate is not trusted ({why}); set RECONCILER_REGISTRY_CA_FILE"
        raise RegistryMisbehaved(message) from error
    except (aiohttp.ClientSSLError, aiohttp.ClientResponseError) as error:
        raise RegistryMisbehaved(
            f"{request_line}: not the expected protocol ({_first_line(error)})"
        ) from error
    except aiohttp.ClientConnectorError as error:
        raise RegistryUnavailable(f"{request_line}: {_unconnected(error)}") from error
    except aiohttp.ClientError as error:
        raise RegistryUnavailable(f"{request_line}: {_first_line(error)}") from error
    except OSError as error:
        raise RegistryUnavailable(f"{request_line}: {_first_line(error)}") from error


def without_query(location: str) -> str:
    """Return a location as it may be shown: the query of a presigned URL permits reading the blob."""
    return location.partition("?")[0][:200]


def _quote(answer: RegistryResponse) -> str:
    """Return the registry's error codes, else the beginning of the body, with a blank before it."""
    codes = answer.error_codes()
    if codes is not None:
        return f" {', '.join(codes)[:200]}"
    text = answer.content[:80].decode("utf-8", "replace").strip()
    return f" {text!r}" if text else ""


def _unconnected(error: aiohttp.ClientConnectorError) -> str:
    """Return where no connection was possible and why; aiohttp's own message names a TLS setting even for HTTP."""
    host = f"[{error.host}]" if ":" in error.host else error.host
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot connect to {host}:{error.port} (the name cannot be resolved)"
    why = error.os_error.strerror or ""
    # asyncio's message is "Connect call failed (address)"; only the number of the error says why.
    if error.os_error.errno and (not why or why.startswith("Connect call failed")):
        why = os.strerror(error.os_error.errno)
    return f"cannot connect to {host}:{error.port} ({why or type(error.os_error).__name__})"


def _first_line(error: BaseException) -> str:
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return (text or type(error).__name__).splitlines()[0][:200]
