"""Number and duration of requests to the read APIs, by route. Never by repository: labels must stay few."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "indexer_api_requests_total", "Requests to the read APIs, by route and status.", ["route", "status"]
)
SECONDS = Histogram(
    "indexer_api_request_seconds",
    "How long the read APIs took to answer, by route.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
ROUTE: Final = web.RequestKey("route", str)
"""The route of a request; set by the handler that finds it."""

_MEASURED = ("/api/", "/gitlab/", "/v2/")


@web.middleware
async def measuring_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and time requests to the read APIs."""
    if not request.path.startswith(_MEASURED):
        return await handler(request)
    began = time.perf_counter()
    response = await handler(request)
    route = request.get(ROUTE, "unknown")
    REQUESTS.labels(route, str(response.status)).inc()
    SECONDS.labels(route).observe(time.perf_counter() - began)
    return response
