"""One line of an access log → the request and its outcome. Pure; every value is the client's, and bounded.

Understood are these forms, each a JSON object on a line of its own:

- Distribution's own log with ``log.formatter: json`` (2.8.2 and 3.1.1, measured): ``response completed`` and
  ``response completed with error`` carry the status; a 401 has no such line, only ``error authorizing context: …``.
  ``http.request.id`` is the ``request.id`` of the notification of the same request, to the letter.
- Caddy's JSON access log (2.6, measured). It shows that a request had credentials, but not whose.
- nginx with the ``log_format`` of docs/how-to/read-the-access-log.md (1.22, measured).

A collector may have wrapped the line: the text in ``log`` or ``message`` is unwrapped once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pydantic_core

from indexer.ingest.envelope import EARLIEST_BELIEVED, split_address
from indexer.inventory.own_requests import split_claim
from indexer.inventory.write_notices import split_write
from indexer.store.text import storable

LONGEST_LINE = 64 * 1024
LONGEST_USER_AGENT = 512
UNAUTHORIZED = 401
_STATUSES = range(100, 600)
_WRONG_PASSWORD = "authentication failure"  # noqa: S105 - as the registry writes it, 2.8.2 and 3.1.1
_REFUSED = "error authorizing context: "
_COMPLETED = ("response completed", "response completed with error")
_PATH = re.compile(r"/v2/(?P<name>.+?)/(?P<resource>manifests|blobs|tags|referrers)/(?P<rest>[^/].*)?\Z")
_CATALOG = "/v2/_catalog"


class Unreadable(ValueError):  # noqa: N818 - a state, read as "unreadable"
    """The line begins like JSON and is none, is too long, or has no usable status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLine:
    """A request and its answer. ``resource`` is ``manifests``, ``blobs``, ``tags``, ``referrers`` or ``_catalog``.

    ``error`` is the registry's error code, '' where the log has none. ``wrong_password``: a name and a password were
    sent, and refused with a 401; then ``actor`` is the name that the client sent, and not proved. ``claim`` is the
    value by which a request proves to be our own (see ``inventory/own_requests``), ``path`` what it is for; None and ''
    in the requests of others.
    """

    at: datetime
    status: int
    method: str
    repository: str
    resource: str
    reference: str
    address: str
    port: int | None
    host: str
    user_agent: str
    actor: str
    request_id: str
    claim: str | None = None
    path: str = ""
    error: str = ""
    instance_id: str = ""
    wrong_password: bool = False


def parse_line(text: bytes, *, now: datetime) -> AccessLine | None:
    """Return the request of a line; None where the line is of another kind, or not about a repository or the catalog.

    Raises ``Unreadable``. Where the time cannot be read, or lies in the future or before 2000, it is ``now``.
    """
    if len(text) > LONGEST_LINE:
        raise Unreadable("too long")
    source = _object(text)
    if source is None:
        return None
    wrapped = source.get("log", source.get("message", source.get("MESSAGE")))
    if isinstance(wrapped, str) and "status" not in source:
        source = _object(wrapped.encode("utf-8", "replace"))
        if source is None:
            return None
    if "http.request.id" in source or "http.request.method" in source:
        return _of_registry(source, now)
    if isinstance(source.get("request"), dict):
        return _of_caddy(source, source["request"], now)
    if "status" in source and "uri" in source:
        return _of_nginx(source, now)
    return None


def _object(text: bytes) -> Mapping[str, Any] | None:
    stripped = text.strip()
    if not stripped.startswith(b"{"):
        return None
    try:
        value = pydantic_core.from_json(stripped)
    except ValueError as error:
        raise Unreadable(str(error)[:200]) from None
    return value if isinstance(value, dict) else None


def _of_registry(source: Mapping[str, Any], now: datetime) -> AccessLine | None:
    message = str(source.get("msg", ""))
    if message.startswith(_REFUSED):
        status, error = UNAUTHORIZED, message.removeprefix(_REFUSED).rpartition(": ")[2]
    elif message in _COMPLETED:
        status, error = _status(source.get("http.response.status")), str(source.get("err.code", ""))
    else:
        return None
    return _line(
        uri=source.get("http.request.uri"),
        at=_time(source.get("time"), now),
        status=status,
        method=source.get("http.request.method"),
        remote=source.get("http.request.remoteaddr"),
        host=source.get("http.request.host"),
        user_agent=source.get("http.request.useragent"),
        actor=source.get("auth.user.name"),
        request_id=source.get("http.request.id"),
        error=error,
        instance_id=source.get("instance.id"),
        wrong_password=error == _WRONG_PASSWORD,
    )


def _of_caddy(source: Mapping[str, Any], request: Mapping[str, Any], now: datetime) -> AccessLine | None:
    headers = request.get("headers")
    agents = headers.get("User-Agent") if isinstance(headers, dict) else None
    address = request.get("client_ip") or request.get("remote_ip")
    return _line(
        uri=request.get("uri"),
        at=_time(source.get("ts"), now),
        status=_status(source.get("status")),
        method=request.get("method"),
        remote=address,
        host=request.get("host"),
        user_agent=agents[0] if isinstance(agents, list) and agents else None,
        actor=source.get("user_id"),
        request_id=None,
        wrong_password=isinstance(headers, dict)
        and "Authorization" in headers
        and _asks_for_password(source),
    )


def _asks_for_password(source: Mapping[str, Any]) -> bool:
    """Return whether the answer's challenge is Basic: then a password was refused, and not a token."""
    headers = source.get("resp_headers")
    challenges = headers.get("Www-Authenticate") if isinstance(headers, dict) else None
    return isinstance(challenges, list) and any(str(one).lower().startswith("basic") for one in challenges)


def _of_nginx(source: Mapping[str, Any], now: datetime) -> AccessLine | None:
    return _line(
        uri=source.get("uri"),
        at=_time(source.get("time"), now),
        status=_status(source.get("status")),
        method=source.get("method"),
        remote=source.get("remote_addr"),
        host=source.get("host"),
        user_agent=source.get("user_agent"),
        actor=source.get("user"),
        request_id=source.get("request_id"),
        wrong_password=bool(_actor(source.get("user"))),  # nginx has a name only where a password was sent
    )


def _line(
    *, uri: Any, at: datetime, status: int, remote: Any, wrong_password: bool, **texts: Any
) -> AccessLine | None:
    try:
        path = unquote(urlsplit(uri if isinstance(uri, str) else "").path)
    except ValueError:
        return None
    found = _PATH.match(path)
    if found is None and path != _CATALOG:
        return None  # a ping, a health check, a path that is not the registry's
    address, port = split_address(_text(remote))
    sent = texts.get("user_agent")
    client = split_write(sent)[0] if isinstance(sent, str) else sent
    user_agent, claim = split_claim(_text(client, longest=LONGEST_USER_AGENT))
    return AccessLine(
        at=at,
        status=status,
        method=_text(texts.get("method"), longest=32).upper(),
        repository=_text(found["name"]) if found else "",
        resource=found["resource"] if found else _CATALOG.rpartition("/")[2],
        reference=_text(found["rest"]) if found else "",
        address=address,
        port=port,
        host=_text(texts.get("host")),
        user_agent=user_agent,
        claim=claim,
        path="" if claim is None else path,
        actor=_actor(texts.get("actor")),
        request_id=_text(texts.get("request_id")),
        error=_text(texts.get("error")),
        instance_id=_text(texts.get("instance_id")),
        wrong_password=wrong_password and status == UNAUTHORIZED,
    )


def _actor(value: Any) -> str:
    return _text(value).removeprefix("-")


def _text(value: Any, *, longest: int = 255) -> str:
    return storable(value if isinstance(value, str) else "", longest=longest)[0]


def _status(value: Any) -> int:
    """Return a status, which nginx writes as a number or a text; raise ``Unreadable`` where it is none."""
    try:
        status = int(value)
    except (TypeError, ValueError, OverflowError):
        raise Unreadable("no status") from None
    if status not in _STATUSES:
        raise Unreadable(f"no status: {status}")
    return status


def _time(value: Any, now: datetime) -> datetime:
    try:
        if isinstance(value, int | float):
            at = datetime.fromtimestamp(value, tz=UTC)
        else:
            at = datetime.fromisoformat(str(value))
            at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return now
    return at if EARLIEST_BELIEVED <= at <= now else now
