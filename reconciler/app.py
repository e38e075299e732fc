"""Builds what every verb needs (pools, lookups, the registry's client), and runs the verbs that end by themselves.

``daemon`` runs the loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from indexer.background.loop import Loop
from indexer.background.service import until_current
from indexer.common.errors import ConfigurationError, StoreError, StoreUnavailable
from indexer.inventory.changes import WorkKind
from indexer.oci.reference import RepositoryName
from indexer.settings import Settings
from indexer.store import work_items
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.drift import RunMode
from indexer.store.lookups import Lookups
from indexer.store.migrate import check
from indexer.store.operators import Operator
from indexer.store.own_requests import own_key
from indexer.store.pool import Pool, close_pool, connection, open_pool
from reconciler.causes.loop import Explainer
from reconciler.checkpoints.loop import push_settings
from reconciler.checkpoints.push import PushResult, push_newest
from reconciler.components import Components
from reconciler.drift.exceptions import Closed
from reconciler.drift.plan import Plan, make_plan
from reconciler.drift.report import (
    EXAMPLES,
    NOT_READ,
    Progress,
    RunReport,
    RunSettings,
    add_undecided,
)
from reconciler.drift.run import ReconcileRun
from reconciler.pulls.announced import OwnRequests
from reconciler.registry.auth import Credentials, TokenServer
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from reconciler.resolve.loop import Resolver
from reconciler.sizes.loop import Measurer
from reconciler.verify.loop import Verifier

CONNECTIONS = 10
LOOKUP_CONNECTIONS = 2
DRAIN_DEADLINE_SECONDS = 90.0
"""Longer than the lease of a worker that died."""

DRAIN_POLL_SECONDS = 0.1


@asynccontextmanager
async def build(
    settings: Settings, *, database_url: str, stop: asyncio.Event | None = None
) -> AsyncIterator[Components]:
    """Open the pools and the registry's client; the database must have the schema of this version.

    With ``stop`` a database that does not answer, or is older, is waited for until ``stop`` is set; without, it raises.
    """
    async with AsyncExitStack() as stack:
        pool = await open_pool(database_url, size=CONNECTIONS, application="reconciler")
        stack.push_async_callback(close_pool, pool)
        lookup_pool = await open_pool(database_url, size=LOOKUP_CONNECTIONS, application="reconciler lookups")
        stack.push_async_callback(close_pool, lookup_pool)
        if stop is None:
            async with connection(pool) as held:
                await check(held)
        else:
            await until_current(pool, stop)
        key = await _own_key(pool, stop)
        own_requests = OwnRequests()
        transport = replace(registry_settings(settings), own_key=key, on_manifest=own_requests.note)
        registry = await stack.enter_async_context(RegistryClient(transport))
        yield Components(
            settings=settings,
            database_url=database_url,
            pool=pool,
            lookups=Lookups(lookup_pool),
            registry=registry,
            own_requests=own_requests,
            reconciling=registry.paced(settings.reconciler_max_rate),
        )


async def _own_key(pool: Pool, stop: asyncio.Event | None) -> bytes | None:
    """Return the key that signs our requests; with ``stop`` the database is waited for until that is set."""
    while stop is None or not stop.is_set():
        try:
            async with connection(pool) as held:
                return await own_key(held)
        except StoreUnavailable:
            if stop is None:
                raise
            await until_current(pool, stop)
    return None


def registry_settings(settings: Settings) -> TransportSettings:
    """Return how to reach the registry; raise ``ConfigurationError`` if that is not set."""
    if settings.reconciler_registry_url is None:
        raise ConfigurationError(
            "RECONCILER_REGISTRY_URL is not set: set it to the registry's address, for example http://127.0.0.1:5000"
        )
    name, password = settings.reconciler_registry_username, settings.reconciler_registry_password
    if (name is None) != (password is None):
        raise ConfigurationError("set both RECONCILER_REGISTRY_USERNAME and _PASSWORD, or neither")
    credentials = None
    if name is not None and password is not None:
        credentials = Credentials(username=name, password=password.get_secret_value())
    return TransportSettings(
        base_url=settings.reconciler_registry_url,
        credentials=credentials,
        token_server=TokenServer(
            realm=settings.reconciler_registry_token_realm,
            service=settings.reconciler_registry_token_service,
        ),
        redirect_hosts=settings.reconciler_registry_redirect_hosts,
        ca_file=settings.reconciler_registry_ca_file,
        concurrency=settings.reconciler_concurrency,
        is_cache=settings.reconciler_registry_is_cache,
    )


def run_settings(
    settings: Settings,
    *,
    mode: RunMode,
    scope: Sequence[RepositoryName] | None = None,
    release_brake: bool = False,
    thorough: bool = False,
    operator: Operator | None = None,
    resume: bool = False,
    resume_since: datetime | None = None,
) -> RunSettings:
    """Return how to reconcile. ``thorough``: every manifest is read again, however lately it was read."""
    return RunSettings(
        mode=mode,
        concurrency=settings.reconciler_concurrency,
        brake_share=settings.reconciler_brake_share,
        reread_after=timedelta(0) if thorough else settings.reconciler_reread_after,
        hidden_tag_requests=settings.reconciler_hidden_tag_requests,
        closed=Closed(accepted=settings.reconciler_accept_denied),
        scope=scope,
        release_brake=release_brake,
        operator=operator,
        resume=resume,
        resume_since=resume_since,
    )


async def once(
    components: Components,
    *,
    scope: Sequence[RepositoryName] | None,
    release_brake: bool,
    thorough: bool,
    operator: Operator,
    resume: bool,
    on_progress: Callable[[Progress], None],
    resume_since: datetime | None = None,
    stop: asyncio.Event | None = None,
) -> RunReport:
    """Reconcile once, and wait until the work items of the run are done: then the API shows the result.

    ``resume_since``: no run that began before is continued. ``stop``: once it is set, the run is left as it is.
    """
    reconcile_settings = run_settings(
        components.settings,
        mode=RunMode.ONCE,
        scope=scope,
        release_brake=release_brake,
        thorough=thorough,
        operator=operator,
        resume=resume,
        resume_since=resume_since,
    )
    report = await ReconcileRun(
        components.pool,
        components.lookups,
        components.reconciling,
        reconcile_settings,
        on_progress=on_progress,
        stop=stop,
    ).run()
    if stop is not None and stop.is_set():
        return report
    left = await drain(components, scope=scope)
    await Explainer(components.pool, components.registry).run_once()
    report.counts.update({f"waiting_{kind}": count for kind, count in left.items() if count})
    return await _with_unread(components, report, scope)


async def _with_unread(
    components: Components, report: RunReport, scope: Sequence[RepositoryName] | None
) -> RunReport:
    """Add manifests that cannot be read or stored; the log says why, and they are tried again, ever more rarely.

    Tags that cannot be observed are in the run's report already.
    """
    async with connection(components.pool) as held:
        count, found = await work_items.list_failing(
            held, repositories=scope, kind=WorkKind.RESOLVE, limit=EXAMPLES
        )
    if not count:
        return report
    shown = [
        f"{each.repository}@{each.key}: could not be read and stored, tried {each.attempts} times"
        for each in found
    ]
    add_undecided(report.undecided, {NOT_READ: {"count": count, "examples": shown}})
    report.counts["undecided"] += count
    return replace(report, blocking=report.blocking | {NOT_READ})


async def plan(
    components: Components, *, scope: Sequence[RepositoryName] | None, on_progress: Callable[[Progress], None]
) -> Plan:
    """Compare everything and return what a reconcile would change; store nothing."""
    concurrency = components.settings.reconciler_concurrency
    await components.reconciling.ping()
    return await make_plan(
        components.pool,
        components.reconciling,
        concurrency=concurrency,
        scope=scope,
        on_progress=on_progress,
        hidden_tag_requests=components.settings.reconciler_hidden_tag_requests,
        closed=Closed(accepted=components.settings.reconciler_accept_denied),
        share=components.settings.reconciler_brake_share,
    )


async def push_checkpoint(components: Components) -> tuple[RepositoryName, PushResult]:
    """Push the newest checkpoint now, whenever the last push was; return the repository and the result."""
    pushing = push_settings(components.settings)
    if pushing is None:
        raise ConfigurationError(
            "RECONCILER_CHECKPOINT_REPOSITORY is not set: set it to the repository that checkpoints are pushed to, "
            "for example audit/checkpoints"
        )
    async with connection(components.pool) as held, alone(held, LockKey.PUSHING) as locked:
        if not locked:
            raise StoreError("another process is pushing a checkpoint: try again")
        newest = await newest_checkpoint(held)
        if newest is None:
            raise StoreError("no checkpoint was signed yet: start `indexer serve`, which signs them")
        result = await push_newest(
            held, components.registry, repository=pushing.repository, newest=newest, now=datetime.now(UTC)
        )
    return pushing.repository, result


async def drain(components: Components, *, scope: Sequence[RepositoryName] | None) -> dict[WorkKind, int]:
    """Do the work items that wait, beside other processes that do; return how many of each kind are left.

    At most ``DRAIN_DEADLINE_SECONDS``. Every loop runs at least once, so items that keep failing are tried once more.
    """
    concurrency = components.settings.reconciler_concurrency
    parts = (components.pool, components.lookups, components.registry)
    loops: list[Loop] = [
        Verifier(*parts, concurrency=concurrency, repositories=scope),
        Resolver(*parts, concurrency=concurrency, repositories=scope),
        Measurer(components.pool, repositories=scope),
    ]
    left = await _left(components, scope)
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_DEADLINE_SECONDS):
            while True:
                rounds = [await loop.run_once() for loop in loops]
                left = await _left(components, scope)
                if not any(left.values()):
                    break
                if not any(done.items for done in rounds):
                    await asyncio.sleep(DRAIN_POLL_SECONDS)
    return left


async def _left(components: Components, scope: Sequence[RepositoryName] | None) -> dict[WorkKind, int]:
    """Count the work items left. Those that keep failing are not among them: they count as undecided."""
    async with connection(components.pool) as held:
        return await work_items.waiting(held, repositories=scope)
