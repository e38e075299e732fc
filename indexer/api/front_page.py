"""The page at ``/``: links to the APIs. It has no data, and loads no scripts or styles."""

from __future__ import annotations

from aiohttp import web

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Registry indexer</title></head>
<body>
<h1>Registry indexer</h1>
<p>The memory of a container registry: sorted and filtered listings, history, an audit log, drift repair.</p>
<ul>
<li><a href="openapi.json">API description</a> (OpenAPI 3.1)</li>
<li><a href="api/v1/repositories">Repositories</a></li>
<li><a href="api/v1/tags">Newest tags</a></li>
<li><a href="api/v1/audit">Audit log</a></li>
<li><a href="api/v1/drift">Drift</a></li>
<li><a href="api/v1/status">Status</a></li>
<li><a href="readyz">Ready?</a> · <a href="healthz">Alive?</a> · <a href="metrics">Metrics</a></li>
</ul>
<p>What is under <code>/api/v1</code> needs a token: <code>Authorization: Bearer …</code></p>
</body>
</html>
"""

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": (
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


async def front_page(_request: web.Request) -> web.Response:
    """Answer ``/``."""
    return web.Response(text=_PAGE, headers=_HEADERS)
