"""``reconciler run``: every loop, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from prometheus_client import start_http_server

from indexer.background.loop import WakeEvent
from indexer.background.service import Service, stop_signals
from indexer.cleanup.loop import PlanningLoop
from indexer.cleanup.policies_file import PoliciesLoop
from indexer.common.errors import ConfigurationError
from indexer.common.heap import settle
from indexer.common.values import parse_address
from indexer.settings import Settings
from indexer.store.drift import RunMode
from indexer.store.jobs import WANTED_CHANNEL as JOBS_CHANNEL
from indexer.store.listen import listen
from indexer.store.write_notices import WANTED_CHANNEL
from reconciler.app import build, run_settings
from reconciler.causes.loop import Explainer
from reconciler.checkpoints.loop import CheckpointPusher, push_settings
from reconciler.cleanup.due import DueLoop
from reconciler.cleanup.settle import Settler
from reconciler.drift.loop import ReconcileLoop
from reconciler.jobs.kinds import handlers_of
from reconciler.jobs.loop import JobLoop
from reconciler.jobs.runner import Runner
from reconciler.loss.loop import Accountant
from reconciler.pulls.announced import PullWatch
from reconciler.resolve.loop import Resolver, WantedResolver
from reconciler.sizes.loop import Measurer
from reconciler.storage.loop import CheckLoop
from reconciler.verify.loop import Verifier
from reconciler.verify.requested import RequestedComparer, RequestedVerifier

log = structlog.get_logger()


async def run(settings: Settings, *, database_url: str) -> int:
    """Run all loops until SIGINT or SIGTERM."""
    stop = stop_signals()
    pushing = push_settings(settings)
    _serve_metrics(settings)  # first: an address that is taken must end the program before anything runs
    async with build(settings, database_url=database_url, stop=stop) as components:
        if stop.is_set():
            return 0
        service = Service(components.pool, program="reconciler run")
        concurrency = settings.reconciler_concurrency
        parts = (components.pool, components.lookups, components.registry)
        verify, resolve, measure, requested, compared, referrers = (WakeEvent() for _ in range(6))
        policies = PoliciesLoop(components.pool, settings.indexer_policies_file, process=service.process)
        service.start(policies, WakeEvent())
        service.start(PlanningLoop(components.pool), WakeEvent())
        service.start(Verifier(*parts, concurrency=concurrency), verify)
        service.start(RequestedVerifier(*parts, concurrency=concurrency), requested)
        service.start(RequestedComparer(*parts, concurrency=concurrency), compared)
        service.start(Resolver(*parts, concurrency=concurrency), resolve)
        service.start(WantedResolver(*parts, concurrency=concurrency), referrers)
        service.start(Measurer(components.pool), measure)
        service.start(PullWatch(components.pool, components.own_requests), WakeEvent())
        service.start(Explainer(components.pool, components.registry), WakeEvent())
        reconcile_settings = run_settings(settings, mode=RunMode.RUN)
        service.start(
            ReconcileLoop(
                components.pool,
                components.lookups,
                components.reconciling,
                reconcile_settings,
                interval=settings.reconciler_interval,
                stop=stop,
            ),
            WakeEvent(),
        )
        token = settings.indexer_notifications_token
        service.start(
            Accountant(
                components.pool,
                debug_urls=settings.reconciler_registry_debug_urls,
                token=None if token is None else token.get_secret_value(),
            ),
            WakeEvent(),
        )
        service.start(Settler(components.pool, components.registry), WakeEvent())
        service.start(DueLoop(components.pool), WakeEvent())
        if settings.reconciler_storage_check_interval is not None:
            checks = CheckLoop(components.pool, interval=settings.reconciler_storage_check_interval)
            service.start(checks, WakeEvent())
        job_wanted = WakeEvent()
        jobs = JobLoop(
            Runner(
                components,
                program="reconciler run",
                lasting=settings.reconciler_job_lease,
                stop=stop,
                handlers=handlers_of(settings),
            )
        )
        service.start(jobs, job_wanted)
        if pushing is not None:
            service.start(CheckpointPusher(components.pool, components.registry, pushing), WakeEvent())
        listening = asyncio.create_task(
            listen(database_url, [verify.wake, resolve.wake], application="reconciler listen"), name="listen"
        )
        waiting = asyncio.create_task(
            listen(
                database_url,
                [requested.wake, compared.wake, referrers.wake],
                application="reconciler requested",
                channel=WANTED_CHANNEL,
            ),
            name="listen requested",
        )
        asking = asyncio.create_task(
            listen(database_url, [job_wanted.wake], application="reconciler jobs", channel=JOBS_CHANNEL),
            name="listen jobs",
        )
        log.info("reconciling", registry=settings.reconciler_registry_url)
        settle()
        await stop.wait()
        log.info("stopping")
        for task in (listening, waiting, asking):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await jobs.stop()
        await service.stop()
        await policies.forget()
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
