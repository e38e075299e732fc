"""Serves the console: the page at ``/``, its files below ``/console/<version>/``.

The files need no token, since they hold no data. The page refers to them by relative addresses, so it also works
behind a proxy that serves it below a path of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aiohttp import hdrs, web

from indexer.console.files import ServedFile, read_files

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No inline script or style, no other host, and no text that becomes HTML or script: not even a policy for it."""

HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": (
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), publickey-credentials-get=(), usb=()"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_EVERY_TIME = "no-cache"
"""May be stored, and is asked for again each time: a 304 where nothing changed."""
_FOR_EVER = "public, max-age=31536000, immutable"
"""The address changes with the content."""


def add_console(app: web.Application) -> None:
    """Add the page and its files to a web application. HEAD is answered like GET, without a body."""
    files = read_files()

    async def index(request: web.Request) -> web.Response:
        return _answer(request, files.index, cache_control=_EVERY_TIME)

    async def file(request: web.Request) -> web.Response:
        found = files.by_path.get(request.match_info["path"])
        if found is None or request.match_info["version"] != files.version:
            # After an update: the page in the browser is of another version, and says so.
            return web.Response(status=404, text="404: there is no such file\n", headers=_with("no-store"))
        return _answer(request, found, cache_control=_FOR_EVER)

    app.router.add_get("/", index)
    app.router.add_get("/console/{version}/{path:.+}", file)


def _answer(request: web.Request, file: ServedFile, *, cache_control: str) -> web.Response:
    headers = {**_with(cache_control), hdrs.ETAG: file.etag, hdrs.VARY: hdrs.ACCEPT_ENCODING}
    if any(each.value in (file.etag.strip('"'), "*") for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = file.content_type
    if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
        # The entity tag is that of the plain bytes: weak, since these are others.
        headers |= {hdrs.CONTENT_ENCODING: "gzip", hdrs.ETAG: f"W/{file.etag}"}
        return web.Response(body=file.compressed, headers=headers)
    return web.Response(body=file.content, headers=headers)


def _with(cache_control: str) -> Mapping[str, str]:
    return {**HEADERS, hdrs.CACHE_CONTROL: cache_control}
