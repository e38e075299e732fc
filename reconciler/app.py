"""The reconciler builds: settings → pools, registry; and the verbs that come to an end. ``daemon`` runs the loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
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
from reconciler.pulls.announced import Asked
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """What every verb builds on."""

    settings: Settings
    database_url: str
    pool: Pool
    lookups: Lookups
    registry: RegistryClient
    asked: Asked
    reconciling: RegistryClient
    """The same client for the requests of a walk, which keep RECONCILER_MAX_RATE. Verification does not."""


@asynccontextmanager
async def build(
    settings: Settings, *, database_url: str, stop: asyncio.Event | None = None
) -> AsyncIterator[Components]:
    """Open the pools and the registry's client; the database must be at this program's version.

    It must answer, too; with ``stop`` it is waited for until that is set.
    """
    async with AsyncExitStack() as stack:
        pool = await open_pool(database_url, size=CONNECTIONS, application="reconciler")
        stack.push_async_callback(close_pool, pool)
        words = await open_pool(database_url, size=LOOKUP_CONNECTIONS, application="reconciler words")
        stack.push_async_callback(close_pool, words)
        if stop is None:
            async with connection(pool) as held:
                await check(held)
        else:
            await until_current(pool, stop)
        key = await _own_key(pool, stop)
        asked = Asked()
        reaching = replace(registry_settings(settings), own_key=key, on_manifest=asked.note)
        registry = await stack.enter_async_context(RegistryClient(reaching))
        yield Components(
            settings=settings,
            database_url=database_url,
            pool=pool,
            lookups=Lookups(words),
            registry=registry,
            asked=asked,
            reconciling=registry.paced(settings.reconciler_max_rate),
        )


async def _own_key(pool: Pool, stop: asyncio.Event | None) -> bytes | None:
    """Return what our requests are signed with; with ``stop`` the database is waited for until that is set."""
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
    """Return how to reach the registry; raise ``ConfigurationError`` if that was not said."""
    if settings.reconciler_registry_url is None:
        raise ConfigurationError(
            "RECONCILER_REGISTRY_URL is not set: say where the registry is, for example http://127.0.0.1:5000"
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
) -> RunSettings:
    """Return how to walk. ``thorough`` reads every manifest again, not only those not read for long."""
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
) -> RunReport:
    """Walk once, and stay until what the walk made due is settled: then the API shows the result."""
    walk = run_settings(
        components.settings,
        mode=RunMode.ONCE,
        scope=scope,
        release_brake=release_brake,
        thorough=thorough,
        operator=operator,
        resume=resume,
    )
    report = await ReconcileRun(
        components.pool, components.lookups, components.reconciling, walk, on_progress=on_progress
    ).run()
    unsettled = await settle(components, scope=scope)
    await Explainer(components.pool, components.registry).run_once()
    report.counts.update({f"waiting_{kind}": count for kind, count in unsettled.items() if count})
    return await _with_unread(components, report, scope)


async def _with_unread(
    components: Components, report: RunReport, scope: Sequence[RepositoryName] | None
) -> RunReport:
    """Name what cannot be read or stored; the log says why, and it is tried on, ever more rarely.

    Tags that cannot be looked at are named by the walk itself.
    """
    async with connection(components.pool) as held:
        count, found = await work_items.list_failing(
            held, repositories=scope, kind=WorkKind.RESOLVE, limit=EXAMPLES
        )
    if not count:
        return report
    said = [
        f"{each.repository}@{each.key}: could not be read and stored, tried {each.attempts} times"
        for each in found
    ]
    add_undecided(report.undecided, {NOT_READ: {"count": count, "examples": said}})
    report.counts["undecided"] += count
    return replace(report, spoiling=report.spoiling | {NOT_READ})


async def plan(
    components: Components, *, scope: Sequence[RepositoryName] | None, on_progress: Callable[[Progress], None]
) -> Plan:
    """Look at everything and say what a walk would change; touch nothing."""
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
    """Push the newest checkpoint now, whenever the last push was; say whereto and what became of it."""
    pushing = push_settings(components.settings)
    if pushing is None:
        raise ConfigurationError(
            "RECONCILER_CHECKPOINT_REPOSITORY is not set: say which repository checkpoints are pushed to, "
            "for example audit/checkpoints"
        )
    async with connection(components.pool) as held, alone(held, LockKey.PUSHING) as locked:
        if not locked:
            raise StoreError("another process is pushing a checkpoint just now: try again")
        newest = await newest_checkpoint(held)
        if newest is None:
            raise StoreError("no checkpoint was signed yet: `indexer serve` signs them")
        result = await push_newest(
            held, components.registry, repository=pushing.repository, newest=newest, now=datetime.now(UTC)
        )
    return pushing.repository, result


async def settle(components: Components, *, scope: Sequence[RepositoryName] | None) -> dict[WorkKind, int]:
    """Work off what is due, beside whoever else does; return what is left at the deadline.

    Each kind has a turn though nothing is waited for: what keeps failing is looked at again in it.
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
    """What keeps failing (denied, nonsense, refused by the store) is not waited for; it counts as undecided."""
    async with connection(components.pool) as held:
        return await work_items.waiting(held, repositories=scope)
