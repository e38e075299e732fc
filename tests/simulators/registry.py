"""A simulated registry over HTTP, for clients and for whoever listens to its notifications.

It answers as Distribution does, version by version (``state`` holds the rules), and on demand lies, fails, is
slow, has a wrong clock, restarts. Everything listens on 127.0.0.1 only.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final, Self
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from indexer.oci import media_types
from indexer.oci.digest import Digest, digest_of, is_digest, parse_digest
from tests.simulators.events import OCTET_STREAM, RequestInfo, Version
from tests.simulators.faults import Break, Fault
from tests.simulators.state import CatalogPanic, RegistryState, StoredManifest

Deliver = Callable[[bytes, str], Awaitable[int]]
"""Takes an envelope's bytes and its Content-Type, returns the HTTP status it was answered with."""

_NAME: Final = r"/v2/(?P<repository>[a-z0-9][a-z0-9._/-]*)"
_ROUTES: Final = (
    (re.compile(r"/v2/"), "_ping"),
    (re.compile(r"/v2/_catalog"), "_catalog"),
    (re.compile(rf"{_NAME}/tags/list"), "_tags"),
    (re.compile(rf"{_NAME}/manifests/(?P<reference>[^/]+)"), "_manifest"),
    (re.compile(rf"{_NAME}/blobs/uploads/[^/]*"), "_upload"),
    (re.compile(rf"{_NAME}/blobs/(?P<reference>[^/]+)"), "_blob"),
)
_MESSAGES: Final = {
    "BLOB_UNKNOWN": "blob unknown to registry",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "NAME_UNKNOWN": "repository name not known to registry",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
    "UNAUTHORIZED": "authentication required",
    "UNSUPPORTED": "The operation is unsupported.",
}


class SimulatedRegistry:
    """The HTTP side of a :class:`RegistryState`; an async context manager.

    - ``faults``: consulted before every answer.
    - ``before_link``: awaited between a push's event and its tag link.
    - ``users``: name to password; asks for Basic where there are any.
    - ``max_entries`` (catalog) and ``max_tags`` (3.x): page limits.
    - ``can_delete``: ``storage.delete.enabled``.
    - ``deliver`` or ``endpoint_url``: where notifications go; none are queued without one of them.
    """

    def __init__(
        self,
        state: RegistryState | None = None,
        *,
        deliver: Deliver | None = None,
        endpoint_url: str | None = None,
        endpoint_headers: dict[str, str] | None = None,
        backoff_seconds: float = 0.05,
    ) -> None:
        self.state = state or RegistryState()
        self.faults: list[Fault] = []
        self.before_link: Callable[[str, str], Awaitable[None]] | None = None
        self.users: dict[str, str] = {}
        self.max_entries = 1000
        self.max_tags = 1000
        self.can_delete = True
        self.is_cache = False
        """Takes no writes, as a pull-through cache; it has no upstream, and serves what it holds."""
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Every request: method, path with query, headers."""
        self.pending: deque[dict[str, Any]] = deque()
        self.is_delivering = True
        self.url = ""
        self._deliver = deliver
        self._endpoint_url = endpoint_url
        self._endpoint_headers = endpoint_headers or {}
        self._backoff_seconds = backoff_seconds
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stack = contextlib.AsyncExitStack()
        self._stopping = asyncio.Event()
        if deliver is not None or endpoint_url is not None:
            self.state.listeners.append(self._enqueue)

    async def __aenter__(self) -> Self:
        application = web.Application(client_max_size=8 * 1024 * 1024)
        application.router.add_route("*", "/{rest:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        session = await self._stack.enter_async_context(aiohttp.ClientSession())
        delivery = asyncio.create_task(self._deliver_for_ever(session), name="simulated-notifications")
        self._stack.push_async_callback(_end, delivery)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()  # lets stalled answers go
        await self._stack.aclose()

    # --- notifications -----------------------------------------------------------------------------------

    def restart(self) -> int:
        """Restart as Distribution does: with a new instance id and an empty queue; return what it held."""
        lost = len(self.pending)
        self.pending.clear()
        self._idle.set()
        self.state.restart()
        return lost

    async def delivered(self) -> None:
        """Wait until every queued notification was accepted."""
        await self._idle.wait()

    def _enqueue(self, event: dict[str, Any]) -> None:
        self.pending.append(event)
        self._idle.clear()
        self._wake.set()

    async def _deliver_for_ever(self, session: aiohttp.ClientSession) -> None:
        """Deliver one event an envelope, one at a time, again and again until it is accepted."""
        while True:
            if not self.pending or not self.is_delivering:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), self._backoff_seconds)
                continue
            event = self.pending[0]
            accepted = await self._deliver_once(session, event)
            if accepted and self.pending and self.pending[0] is event:
                self.pending.popleft()
            if not self.pending:
                self._idle.set()
            if not accepted:
                await asyncio.sleep(self._backoff_seconds)

    async def _deliver_once(self, session: aiohttp.ClientSession, event: dict[str, Any]) -> bool:
        body = json.dumps({"events": [event]}, indent=3).encode()
        media_type = self.state.version.events_media_type
        if self._deliver is not None:
            status = await self._deliver(body, media_type)
        else:
            headers = {
                "User-Agent": "Go-http-client/1.1",
                **self._endpoint_headers,
                "Content-Type": media_type,
            }
            try:
                async with session.post(
                    str(self._endpoint_url),
                    data=body,
                    headers=headers,
                    timeout=aiohttp.ClientTimeout(total=1),
                ) as response:
                    status = response.status
            except (aiohttp.ClientError, TimeoutError):
                return False
        return 200 <= status < 400

    # --- requests ----------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, dict(request.headers)))
        for fault in self.faults:
            if fault.matches(request):
                fault.times -= 1
                return await self._fail(request, fault)
        response = self._challenge(request) or self._refusal(request) or await self._route(request)
        response.headers.setdefault("Date", format_datetime(self.state.clock(), usegmt=True))
        response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
        return response

    async def _fail(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.broken is None:
            return web.Response(status=fault.status, headers=fault.headers, body=fault.body)
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "100"})
        if fault.broken in {Break.CUT_SHORT, Break.STALL_IN_BODY} and request.method != "HEAD":
            await response.prepare(request)
            await response.write(b'{"repositories": [')
        if fault.broken in {Break.STALL, Break.STALL_IN_BODY}:
            await self._stopping.wait()
        _drop(request)
        return response

    def _challenge(self, request: web.Request) -> web.Response | None:
        if not self.users or _user(request, self.users) is not None:
            return None
        return _error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="simulated"'})

    def _refusal(self, request: web.Request) -> web.Response | None:
        if self.is_cache and request.method not in {"GET", "HEAD"}:
            return _error(405, "UNSUPPORTED")
        return None

    async def _route(self, request: web.Request) -> web.Response:
        for pattern, name in _ROUTES:
            if match := pattern.fullmatch(request.path):
                handler: Callable[..., Awaitable[web.Response]] = getattr(self, name)
                return await handler(request, **match.groupdict())
        return web.Response(status=404, text="404 page not found\n")

    async def _ping(self, _request: web.Request) -> web.Response:
        return web.json_response({})

    async def _catalog(self, request: web.Request) -> web.Response:
        try:
            size = int(request.query.get("n", "100"))
        except ValueError:
            size = -1
        if size < 0 and self.state.version is Version.V2_8:
            size = 100
        if not 0 <= size <= self.max_entries:
            return _error(400, "PAGINATION_NUMBER_INVALID")
        try:
            names, linked = (
                self.state.catalog_page(size, request.query.get("last", "")) if size else ([], False)
            )
        except CatalogPanic:
            _drop(request)
            return web.Response()
        headers = _link("/v2/_catalog", size, names[-1]) if linked else {}
        return web.json_response({"repositories": names}, headers=headers)

    async def _tags(self, request: web.Request, repository: str) -> web.Response:
        names = self.state.list_tags(repository)
        if names is None:
            return _error(404, "NAME_UNKNOWN")
        headers: dict[str, str] = {}
        if self.state.version is Version.V3 and "n" in request.query:
            size = min(int(request.query["n"]), self.max_tags)
            names = self.state.list_tags_page(repository, size, request.query.get("last", ""))
            # A full page has a link, even where nothing follows it.
            if len(names) == size and names:
                headers = _link(f"/v2/{repository}/tags/list", size, names[-1])
        return web.json_response({"name": repository, "tags": names or None}, headers=headers)

    async def _manifest(self, request: web.Request, repository: str, reference: str) -> web.Response:
        if request.method in {"GET", "HEAD"}:
            return self._read_manifest(request, repository, reference)
        if request.method == "PUT":
            return await self._put_manifest(request, repository, reference)
        return self._delete_manifest(request, repository, reference)

    def _read_manifest(self, request: web.Request, repository: str, reference: str) -> web.Response:
        tag = None if is_digest(reference) else reference
        digest = parse_digest(reference) if tag is None else self.state.link_of(repository, reference)
        if digest is None:
            return _error(404, "MANIFEST_UNKNOWN")
        # Compared before anything is read: on a digest this is 304 for what never existed.
        if request.headers.get("If-None-Match", "").strip('"') == digest:
            return web.Response(status=304)
        stored = self.state.manifest(repository, digest)
        if stored is None:
            return _error(404, "MANIFEST_UNKNOWN")
        self.state.tell_content(
            "pull",
            repository,
            digest=digest,
            size=stored.size,
            media_type=stored.media_type,
            tag=tag,
            request=_info(request, self.users),
        )
        return _serve(request, stored)

    async def _put_manifest(self, request: web.Request, repository: str, reference: str) -> web.Response:
        content = await request.read()
        media_type = media_types.bare(request.headers.get("Content-Type", ""))
        if not media_types.is_manifest(media_type) or not content.startswith(b"{"):
            return _error(400, "MANIFEST_INVALID")
        tag = None if is_digest(reference) else reference
        if tag is None and digest_of(content) != reference:
            return _error(400, "DIGEST_INVALID")
        config = (json.loads(content).get("config") or {}).get("digest")
        if config is not None and self.state.blob(repository, parse_digest(config)) is None:
            return _error(400, "MANIFEST_BLOB_UNKNOWN")
        digest = self.state.push(
            repository,
            content,
            media_type=media_type,
            tag=tag,
            link=False,
            request=_info(request, self.users),
        )
        if tag is not None:
            if self.before_link is not None:
                await self.before_link(repository, tag)
            self.state.write_link(repository, tag, digest)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})

    def _delete_manifest(self, request: web.Request, repository: str, reference: str) -> web.Response:
        is_tag = not is_digest(reference)
        if is_tag and self.state.version is Version.V2_8:
            return _error(400, "DIGEST_INVALID")
        if not self.can_delete:
            return _error(405, "UNSUPPORTED")
        info = _info(request, self.users)
        if is_tag:
            deleted = self.state.delete_tag(repository, reference, request=info)
        else:
            deleted = self.state.delete_manifest(repository, parse_digest(reference), request=info)
        return web.Response(status=202) if deleted else _error(404, "MANIFEST_UNKNOWN")

    async def _blob(self, request: web.Request, repository: str, reference: str) -> web.Response:
        digest = parse_digest(reference)
        content = self.state.blob(repository, digest)
        if content is None:
            return _error(404, "BLOB_UNKNOWN")
        info = _info(request, self.users)
        if request.method == "DELETE":
            if not self.can_delete:
                return _error(405, "UNSUPPORTED")
            self.state.delete_blob(repository, digest, request=info)
            return web.Response(status=202)
        self.state.tell_content("pull", repository, digest=digest, size=len(content), request=info)
        headers = {"Content-Type": OCTET_STREAM, "Docker-Content-Digest": digest, "Etag": f'"{digest}"'}
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(len(content))})
        return web.Response(headers=headers, body=content)

    async def _upload(self, request: web.Request, repository: str) -> web.Response:
        info = _info(request, self.users)
        if request.method == "POST":
            mount, source = request.query.get("mount"), request.query.get("from")
            if mount and source and self.state.mount_blob(repository, Digest(mount), source, request=info):
                return web.Response(status=201, headers={"Location": f"/v2/{repository}/blobs/{mount}"})
            location = f"http://{request.host}/v2/{repository}/blobs/uploads/{info.id}?_state=a%2Fb%3D"
            return web.Response(status=202, headers={"Location": location})
        content = await request.read()
        if digest_of(content) != request.query.get("digest"):
            return _error(400, "DIGEST_INVALID")
        digest = self.state.push_blob(repository, content, request=info)
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _drop(request: web.Request) -> None:
    """Close the connection under an answer."""
    if request.transport is not None:
        request.transport.abort()


def _error(status: int, code: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(
        {"errors": [{"code": code, "message": _MESSAGES[code]}]}, status=status, headers=headers
    )


def _link(path: str, size: int, last: str) -> dict[str, str]:
    """Return the link header as Distribution writes it: relative, its parameters sorted and encoded."""
    return {"Link": f'<{path}?{urlencode([("last", last), ("n", size)])}>; rel="next"'}


def _accepts(request: web.Request, media_type: str) -> bool:
    """Tell whether an OCI type was asked for; Docker types need no Accept of their own here."""
    accepted = ",".join(request.headers.getall("Accept", []))
    return media_type not in {media_types.OCI_MANIFEST, media_types.OCI_INDEX} or media_type in accepted


def _serve(request: web.Request, stored: StoredManifest) -> web.Response:
    """Serve a manifest; of one that a capture knows without its bytes a GET can only be "unknown"."""
    is_head = request.method == "HEAD"
    if not _accepts(request, stored.media_type) or (stored.content is None and not is_head):
        return _error(404, "MANIFEST_UNKNOWN")
    headers = {
        "Content-Type": stored.media_type,
        "Docker-Content-Digest": stored.digest,
        "Etag": f'"{stored.digest}"',
    }
    if is_head:
        return web.Response(headers={**headers, "Content-Length": str(stored.size)})
    return web.Response(headers=headers, body=stored.content)


def _user(request: web.Request, users: dict[str, str]) -> str | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    name, _, password = base64.b64decode(value).decode().partition(":")
    return name if users.get(name) == password else None


def _info(request: web.Request, users: dict[str, str]) -> RequestInfo:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return RequestInfo(
        method=request.method,
        user_agent=request.headers.get("User-Agent", ""),
        address=f"{peer[0]}:{peer[1]}" if peer else "127.0.0.1:0",
        host=request.host,
        actor=(_user(request, users) or "") if users else "",
    )


def skewed(clock: Callable[[], datetime], by: float) -> Callable[[], datetime]:
    """Return a clock that is ``by`` seconds ahead (or behind) of another."""
    return lambda: clock() + timedelta(seconds=by)
