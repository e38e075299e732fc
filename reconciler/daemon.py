"""``reconciler run``: every loop, until told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from prometheus_client import start_http_server

from indexer.errors import ConfigurationError
from indexer.loop import Alarm
from indexer.service import Service, stop_signals
from indexer.settings import Settings
from indexer.store.drift import RunMode
from indexer.store.listen import listen
from indexer.values import parse_address
from reconciler.announced import PullWatch
from reconciler.app import build, walk_settings
from reconciler.causes.loop import Explainer
from reconciler.checkpoints.loop import CheckpointPusher, push_settings
from reconciler.drift.loop import Walker
from reconciler.loss.loop import Accountant
from reconciler.measure import Measurer
from reconciler.resolve.loop import Resolver
from reconciler.verify.loop import Verifier

log = structlog.get_logger()


async def run(settings: Settings, *, database_url: str) -> int:
    """Run all loops until SIGINT or SIGTERM."""
    stop = stop_signals()
    pushing = push_settings(settings)
    _serve_metrics(settings)  # an address that is taken is told before anything runs
    async with build(settings, database_url=database_url, stop=stop) as rooms:
        if stop.is_set():
            return 0
        service = Service(rooms.pool, program="reconciler run")
        concurrency = settings.reconciler_concurrency
        parts = (rooms.pool, rooms.lookups, rooms.registry)
        verify, resolve, measure = Alarm(), Alarm(), Alarm()
        service.start(Verifier(*parts, concurrency=concurrency), verify)
        service.start(Resolver(*parts, concurrency=concurrency), resolve)
        service.start(Measurer(rooms.pool), measure)
        service.start(PullWatch(rooms.pool, rooms.asked), Alarm())
        service.start(Explainer(rooms.pool, rooms.registry), Alarm())
        walk = walk_settings(settings, mode=RunMode.RUN)
        service.start(
            Walker(
                rooms.pool,
                rooms.lookups,
                rooms.walking,
                walk,
                interval=settings.reconciler_interval,
                stop=stop,
            ),
            Alarm(),
        )
        token = settings.indexer_notifications_token
        service.start(
            Accountant(
                rooms.pool,
                debug_urls=settings.reconciler_registry_debug_urls,
                token=None if token is None else token.get_secret_value(),
            ),
            Alarm(),
        )
        if pushing is not None:
            service.start(CheckpointPusher(rooms.pool, rooms.registry, pushing), Alarm())
        listening = asyncio.create_task(
            listen(database_url, [verify.ring, resolve.ring], application="reconciler listen"), name="listen"
        )
        log.info("reconciling", registry=settings.reconciler_registry_url)
        await stop.wait()
        log.info("stopping")
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
        await service.stop()
    return 0


def _serve_metrics(settings: Settings) -> None:
    if settings.reconciler_metrics_listen is None:
        return
    host, port = parse_address(settings.reconciler_metrics_listen)
    try:
        start_http_server(port, addr=host)
    except OSError as error:
        raise ConfigurationError(
            f"RECONCILER_METRICS_LISTEN: cannot listen on {host}:{port}: {error.strerror}"
        ) from None
