"""The reconciler builds: settings → pools, registry; and the verbs that come to an end. ``daemon`` runs the loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from indexer.errors import ConfigurationError, StoreError, StoreUnavailable
from indexer.inventory.changes import DueKind
from indexer.loop import Loop
from indexer.oci.reference import RepositoryName
from indexer.service import until_current
from indexer.settings import Settings
from indexer.store import due
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.drift import RunMode
from indexer.store.exclusive import Exclusive, alone
from indexer.store.lookups import Lookups
from indexer.store.migrate import check
from indexer.store.operators import Operator
from indexer.store.own_requests import own_key
from indexer.store.pool import Pool, close_pool, connection, open_pool
from reconciler.announced import Asked
from reconciler.causes.loop import Explainer
from reconciler.checkpoints.loop import push_settings
from reconciler.checkpoints.push import Result, push_newest
from reconciler.drift.exceptions import Closed
from reconciler.drift.plan import Plan, make_plan
from reconciler.drift.report import (
    EXAMPLES,
    NOT_READ,
    Progress,
    Report,
    WalkSettings,
    add_undecided,
)
from reconciler.drift.walk import Walk
from reconciler.measure import Measurer
from reconciler.registry.auth import Credentials, TokenServer
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from reconciler.resolve.loop import Resolver
from reconciler.verify.loop import Verifier

CONNECTIONS = 10
LOOKUP_CONNECTIONS = 2
SETTLE_DEADLINE_SECONDS = 90.0
"""Longer than the lease of a worker that died."""

SETTLE_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What every verb builds on."""

    settings: Settings
    database_url: str
    pool: Pool
    lookups: Lookups
    registry: RegistryClient
    asked: Asked
    walking: RegistryClient
    """The same client for the requests of a walk, which keep RECONCILER_MAX_RATE. Verification does not."""


@asynccontextmanager
async def build(
    settings: Settings, *, database_url: str, stop: asyncio.Event | None = None
) -> AsyncIterator[Rooms]:
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
        yield Rooms(
            settings=settings,
            database_url=database_url,
            pool=pool,
            lookups=Lookups(words),
            registry=registry,
            asked=asked,
            walking=registry.paced(settings.reconciler_max_rate),
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


def walk_settings(
    settings: Settings,
    *,
    mode: RunMode,
    scope: Sequence[RepositoryName] | None = None,
    release_brake: bool = False,
    thorough: bool = False,
    operator: Operator | None = None,
    resume: bool = False,
) -> WalkSettings:
    """Return how to walk. ``thorough`` reads every manifest again, not only those not read for long."""
    return WalkSettings(
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
    rooms: Rooms,
    *,
    scope: Sequence[RepositoryName] | None,
    release_brake: bool,
    thorough: bool,
    operator: Operator,
    resume: bool,
    on_progress: Callable[[Progress], None],
) -> Report:
    """Walk once, and stay until what the walk made due is settled: then the API shows the result."""
    walk = walk_settings(
        rooms.settings,
        mode=RunMode.ONCE,
        scope=scope,
        release_brake=release_brake,
        thorough=thorough,
        operator=operator,
        resume=resume,
    )
    report = await Walk(rooms.pool, rooms.lookups, rooms.walking, walk, on_progress=on_progress).run()
    unsettled = await settle(rooms, scope=scope)
    await Explainer(rooms.pool, rooms.registry).run_once()
    report.counts.update({f"unsettled_{kind}": count for kind, count in unsettled.items() if count})
    return await _with_unread(rooms, report, scope)


async def _with_unread(rooms: Rooms, report: Report, scope: Sequence[RepositoryName] | None) -> Report:
    """Name what cannot be read or stored; the log says why, and it is tried on, ever more rarely.

    Tags that cannot be looked at are named by the walk itself.
    """
    async with connection(rooms.pool) as held:
        count, found = await due.list_failing(held, repositories=scope, kind=DueKind.RESOLVE, limit=EXAMPLES)
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
    rooms: Rooms, *, scope: Sequence[RepositoryName] | None, on_progress: Callable[[Progress], None]
) -> Plan:
    """Look at everything and say what a walk would change; touch nothing."""
    concurrency = rooms.settings.reconciler_concurrency
    await rooms.walking.ping()
    return await make_plan(
        rooms.pool,
        rooms.walking,
        concurrency=concurrency,
        scope=scope,
        on_progress=on_progress,
        hidden_tag_requests=rooms.settings.reconciler_hidden_tag_requests,
        closed=Closed(accepted=rooms.settings.reconciler_accept_denied),
        share=rooms.settings.reconciler_brake_share,
    )


async def push_checkpoint(rooms: Rooms) -> tuple[RepositoryName, Result]:
    """Push the newest checkpoint now, whenever the last push was; say whereto and what became of it."""
    pushing = push_settings(rooms.settings)
    if pushing is None:
        raise ConfigurationError(
            "RECONCILER_CHECKPOINT_REPOSITORY is not set: say which repository checkpoints are pushed to, "
            "for example audit/checkpoints"
        )
    async with connection(rooms.pool) as held, alone(held, Exclusive.PUSHING) as locked:
        if not locked:
            raise StoreError("another process is pushing a checkpoint just now: try again")
        newest = await newest_checkpoint(held)
        if newest is None:
            raise StoreError("no checkpoint was signed yet: `indexer serve` signs them")
        result = await push_newest(
            held, rooms.registry, repository=pushing.repository, newest=newest, now=datetime.now(UTC)
        )
    return pushing.repository, result


async def settle(rooms: Rooms, *, scope: Sequence[RepositoryName] | None) -> dict[DueKind, int]:
    """Work off what is due, beside whoever else does; return what is left at the deadline.

    Each kind has a turn though nothing is waited for: what keeps failing is looked at again in it.
    """
    concurrency = rooms.settings.reconciler_concurrency
    parts = (rooms.pool, rooms.lookups, rooms.registry)
    loops: list[Loop] = [
        Verifier(*parts, concurrency=concurrency, repositories=scope),
        Resolver(*parts, concurrency=concurrency, repositories=scope),
        Measurer(rooms.pool, repositories=scope),
    ]
    left = await _left(rooms, scope)
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_DEADLINE_SECONDS):
            while True:
                rounds = [await loop.run_once() for loop in loops]
                left = await _left(rooms, scope)
                if not any(left.values()):
                    break
                if not any(done.items for done in rounds):
                    await asyncio.sleep(SETTLE_POLL_SECONDS)
    return left


async def _left(rooms: Rooms, scope: Sequence[RepositoryName] | None) -> dict[DueKind, int]:
    """What keeps failing (denied, nonsense, refused by the store) is not waited for; it counts as undecided."""
    async with connection(rooms.pool) as held:
        return await due.waiting(held, repositories=scope)
