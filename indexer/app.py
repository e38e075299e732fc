"""Composition root of ``indexer serve``: settings → pools → components → web application and loops.

Stop order: close the listener, drain, stop the loops, close the pools.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from indexer.access_log.endpoint import add_access_endpoint
from indexer.access_log.tail import AccessLog
from indexer.api.barrier import Barrier
from indexer.api.job_watch import JobNotifier
from indexer.api.routes import ApiSettings, add_api
from indexer.api.settings import STATEMENT_TIMEOUT_SECONDS, EventAttributes
from indexer.api.trust import read_trust
from indexer.audit.checkpoint import AnotherKeySigns, Checkpointer, CheckpointSettings, check_key, key_to_sign
from indexer.audit.keys import exposed, find_key
from indexer.audit.note import SignerKey
from indexer.audit.notifier import SealNotifier
from indexer.audit.retention import Policy, RetentionLoop
from indexer.audit.seal import Sealer
from indexer.audit.self_check import SelfCheck
from indexer.background.gauges import Gauges
from indexer.background.housekeeping import Housekeeper, Retention
from indexer.background.loop import WakeEvent
from indexer.background.service import Service, stop_signals, until_current
from indexer.cleanup.policies_file import PoliciesLoop
from indexer.common.errors import ConfigurationError, StoreUnavailable
from indexer.common.heap import settle
from indexer.common.named_paths import check_directory, check_log, check_place
from indexer.common.values import parse_address
from indexer.console.serving import add_console
from indexer.feeds.config import FeedBase, FeedsFile, FileFeed
from indexer.feeds.dispatcher import Dispatcher
from indexer.feeds.sinks import Sink, read_feeds
from indexer.httpserver.limits import limits_for
from indexer.httpserver.runner import MeasuredRunner
from indexer.ingest.endpoint import add_endpoint
from indexer.ingest.receiver_heartbeat import ReceiverHeartbeat
from indexer.ingest.spool import Spool
from indexer.ingest.worker import Forwarding, IngestWorker
from indexer.ingest.writer import InboxWriter
from indexer.local.lock import DirectoryLock
from indexer.settings import Settings
from indexer.store.audit import SEALED_CHANNEL
from indexer.store.jobs import CHANNEL as JOBS_CHANNEL
from indexer.store.listen import listen, listen_to_each
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, close_pool, open_pool
from indexer.store.write_notices import CHANNEL as NOTICES_CHANNEL

if TYPE_CHECKING:
    from indexer.gitlab_forwarding.forwarder import Forwarder

log = structlog.get_logger()

NOBODY_READS = (
    "every request to the API is answered 401: set INDEXER_API_TOKENS or INDEXER_OPERATOR_TOKENS, or INDEXER_AUTH_… to "
    "trust the registry's tokens, or INDEXER_ANONYMOUS_READ=true"
)

WORK_CONNECTIONS = 6
READ_CONNECTIONS = 8
LOOKUP_CONNECTIONS = 2
FEED_CONNECTIONS = 2
BARRIER_CONNECTIONS = 3
BARRIER_STATEMENT_SECONDS = 1.0
"""The proxy gives up a notice after a second, and a question is handed over sooner."""
ANSWER_SECONDS = STATEMENT_TIMEOUT_SECONDS + 1
"""Of a read on our side. The database ends a statement itself after ``STATEMENT_TIMEOUT_SECONDS``, unless it is stopped
or the network is down."""
OPEN_REQUESTS_DEADLINE_SECONDS = 10.0
IDLE_CONNECTION_SECONDS = 75.0
TAKEOVER_SECONDS = 5.0
"""How long a predecessor on the same data directory may take to end."""
BACKLOG = 1024
"""Connections that wait in the kernel until they are accepted."""


async def serve(settings: Settings, *, database_url: str) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    token = settings.indexer_notifications_token
    if token is None:
        raise ConfigurationError(
            "INDEXER_NOTIFICATIONS_TOKEN is not set: choose a secret, and give the registry's notification "
            "endpoint the header `Authorization: [Bearer <secret>]`"
        )
    _check(settings)
    stop = stop_signals()
    async with AsyncExitStack() as stack:
        work = await _pool(stack, database_url, size=WORK_CONNECTIONS, application="indexer work")
        reads = await _pool(
            stack, database_url, size=READ_CONNECTIONS, application="indexer read", seconds=ANSWER_SECONDS
        )
        lookups = await _pool(stack, database_url, size=LOOKUP_CONNECTIONS, application="indexer lookups")
        gitlab = await _gitlab(stack, work, settings)
        file, sinks = read_feeds(settings.indexer_feeds_file)
        feeds = await _feeds(stack, database_url, file, sinks)
        sealed = SealNotifier()
        service = Service(work, program="indexer serve")
        policies = PoliciesLoop(work, settings.indexer_policies_file, process=service.process)
        stack.push_async_callback(policies.forget)
        stack.push_async_callback(service.stop)
        stored = WakeEvent()
        writer = InboxWriter(database_url, stored=stored, spool=await _spool(stack, settings))
        writer.start()
        stack.push_async_callback(writer.close)
        app = web.Application(client_max_size=1024 * 1024)
        add_endpoint(app, writer=writer, token=token.get_secret_value())
        _add_access_log(app, work, settings)
        hurry = WakeEvent()
        barrier = await _barrier(stack, database_url, settings, hurry)
        api_settings = _api_settings(settings, file)
        job_notifier = JobNotifier()
        add_api(
            app, pool=reads, settings=api_settings, sealed=sealed, barrier=barrier, job_notifier=job_notifier
        )
        add_console(app)
        # The listener starts first: while the database is away, deliveries are spooled.
        await _start_listener(stack, app, settings)
        heartbeat = ReceiverHeartbeat(work, writer)
        stack.callback(heartbeat.end_session)
        if await until_current(work, stop):
            _start_ingest(service, work, lookups, settings, gitlab=gitlab, stored=stored, hurry=hurry)
            await _start_audit(service, work, settings, stop)
            service.start(Housekeeper(work, _retention(settings)), WakeEvent())
            service.start(Gauges(work), WakeEvent())
            service.start(policies, WakeEvent())
            service.start(heartbeat, WakeEvent())
            for feed in feeds:
                stack.enter_context(sealed.rings(feed.wake))
                service.start(feed, feed.alarm)
            _listen(stack, database_url, sealed.wake, channel=SEALED_CHANNEL)
            _listen_to_jobs(stack, database_url, job_notifier)
            if barrier is not None:
                _listen(stack, database_url, barrier.wake, channel=NOTICES_CHANNEL)
        settle()
        await stop.wait()
        log.info("stopping")
    return 0


def _start_ingest(
    service: Service,
    work: Pool,
    lookups: Pool,
    settings: Settings,
    *,
    gitlab: Forwarder | None,
    stored: WakeEvent,
    hurry: WakeEvent,
) -> None:
    """Start the loops that apply what the registry and its logs report; ``lookups``: connections for interned ids."""
    forwarded = None
    if gitlab is not None:
        forwarded = Forwarding(queued=WakeEvent(), pulls=settings.indexer_gitlab_pulls)
        service.start(gitlab, forwarded.queued)
    apart = settings.indexer_pull_detail is not None
    worker = IngestWorker(work, Lookups(lookups), pulls_apart=apart, forwarded=forwarded, hurry=hurry)
    service.start(worker, stored)
    if settings.indexer_access_log or settings.indexer_access_log_token is not None:
        service.start(AccessLog(work, Lookups(lookups), settings.indexer_access_log), WakeEvent())


async def _start_audit(service: Service, work: Pool, settings: Settings, stop: asyncio.Event) -> None:
    """Start the loops of the audit log: seal, sign, compare with the tree, drop what is too old."""
    service.start(Sealer(work), WakeEvent())
    key = await _key(work, settings, stop)
    service.start(Checkpointer(work, key, _checkpoints(settings)), WakeEvent())
    if rate := settings.indexer_audit_check_rate:
        verifier = None if key is None else str(key.verifier)
        service.start(SelfCheck(work, rate=rate, verifier=verifier), WakeEvent())
    policy = Policy(keep=settings.indexer_audit_keep, directory=settings.indexer_audit_archive_dir)
    service.start(RetentionLoop(work, policy), WakeEvent())


async def _key(pool: Pool, settings: Settings, stop: asyncio.Event) -> SignerKey | None:
    """Return the key that signs checkpoints, and log what is wrong with it; without one everything else still works.

    None: this server has no key, or it stops before the database answers.
    """
    while await until_current(pool, stop):
        with suppress(StoreUnavailable):
            key, newest = await key_to_sign(pool, settings)
            break
    else:
        return None
    if (trouble := exposed(settings)) is not None:
        log.warning("audit_key_exposed", error=trouble)
    try:
        check_key(newest, key)
    except AnotherKeySigns as error:
        log.error("audit_key_cannot_sign", error=str(error))  # noqa: TRY400 - an expected state, without a traceback
    return key


def _add_access_log(app: web.Application, pool: Pool, settings: Settings) -> None:
    """Serve ``/access-log``, where a collector has a token for it."""
    if settings.indexer_access_log_token is not None:
        token = settings.indexer_access_log_token.get_secret_value()
        add_access_endpoint(app, pool=pool, token=token)


async def _gitlab(stack: AsyncExitStack, pool: Pool, settings: Settings) -> Forwarder | None:
    """Make the forwarder to GitLab, where one is configured."""
    url, token = settings.indexer_gitlab_url, settings.indexer_gitlab_token
    if url is None or token is None:
        return None
    # Its HTTP client holds 2 MiB, and most servers forward nothing.
    from indexer.gitlab_forwarding.forwarder import (  # noqa: PLC0415
        PATH,
        Forwarder,
        GitlabSettings,
        open_client,
    )

    ca_file = settings.indexer_gitlab_ca_file
    gitlab = GitlabSettings(
        url=url if url.endswith(PATH) else url + PATH,
        token=token.get_secret_value(),
        ca_file=None if ca_file is None else str(ca_file),
        longest_wait=settings.indexer_gitlab_longest_wait,
        longest_queue=settings.indexer_gitlab_longest_queue,
    )
    try:
        client = await stack.enter_async_context(open_client(gitlab))
    except OSError as error:
        raise ConfigurationError(f"INDEXER_GITLAB_CA_FILE: {ca_file} cannot be used: {error}") from error
    return Forwarder(pool, client, gitlab)


async def _feeds(
    stack: AsyncExitStack, database_url: str, file: FeedsFile, sinks: Sequence[tuple[FeedBase, Sink]]
) -> list[Dispatcher]:
    """Make the loops that deliver the log, one for each feed that is configured."""
    if not sinks:
        return []
    for feed, _ in sinks:
        if isinstance(feed, FileFeed):
            check_place(f"INDEXER_FEEDS_FILE: feed {feed.name!r}: path", feed.path)
    pool = await _pool(stack, database_url, size=FEED_CONNECTIONS, application="indexer feeds")
    dispatchers = [Dispatcher(pool, feed, sink, file) for feed, sink in sinks]
    for dispatcher in dispatchers:
        stack.push_async_callback(dispatcher.close)
    return dispatchers


def _listen(stack: AsyncExitStack, database_url: str, wake: Callable[[], None], *, channel: str) -> None:
    """Wake those who wait for something: that entries are sealed, that notices of writes ended."""
    task = asyncio.create_task(
        listen(database_url, [wake], channel=channel, application=f"indexer {channel}"),
        name=f"listen {channel}",
    )
    stack.callback(task.cancel)


def _listen_to_jobs(stack: AsyncExitStack, database_url: str, notifier: JobNotifier) -> None:
    """Tell those who watch a job that it has changed."""
    task = asyncio.create_task(
        listen_to_each(
            database_url, notifier.changed, channel=JOBS_CHANNEL, application=f"indexer {JOBS_CHANNEL}"
        ),
        name="listen jobs",
    )
    stack.callback(task.cancel)


async def _barrier(
    stack: AsyncExitStack, database_url: str, settings: Settings, hurry: WakeEvent
) -> Barrier | None:
    """Make the barrier, where the proxy has a secret to give notice of writes with."""
    if settings.proxy_secret() is None:
        return None
    pool = await _pool(
        stack,
        database_url,
        size=BARRIER_CONNECTIONS,
        application="indexer barrier",
        seconds=BARRIER_STATEMENT_SECONDS,
    )
    return Barrier(pool, hurry=hurry)


def _check(settings: Settings) -> None:
    """Raise ``ConfigurationError`` for tokens or files that are wrong; warn where nobody may read the API."""
    settings.check_tokens()
    _check_files(settings)
    if settings.nobody_may_read:
        log.warning("api_without_tokens", error=NOBODY_READS)


def _check_files(settings: Settings) -> None:
    """Raise ``ConfigurationError`` for a file or directory that is wrong, also if it is used only later."""
    find_key(settings)  # a missing one is made later, once the database says whether the log has one
    if settings.indexer_audit_archive_dir is not None:
        check_directory("INDEXER_AUDIT_ARCHIVE_DIR", settings.indexer_audit_archive_dir)
    if settings.indexer_audit_checkpoint_file is not None:
        check_place("INDEXER_AUDIT_CHECKPOINT_FILE", settings.indexer_audit_checkpoint_file)
    for path in settings.indexer_access_log:
        check_log("INDEXER_ACCESS_LOG", path)


async def _spool(
    stack: AsyncExitStack, settings: Settings, *, patience_seconds: float = TAKEOVER_SECONDS
) -> Spool:
    """Open the spool, under a lock: a second server on the same directory is refused before it receives anything."""
    directory = settings.indexer_data_dir
    path = directory / "spool.sqlite3"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DirectoryLock(directory / "serve.lock", patience_seconds=patience_seconds)
        await lock.acquire()
        stack.callback(lock.release)
        return Spool(path, max_bytes=settings.indexer_spool_bytes)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"INDEXER_DATA_DIR: the spool {path} cannot be opened ({error}); it needs a directory it may write to"
        ) from error


async def _pool(
    stack: AsyncExitStack,
    database_url: str,
    *,
    size: int,
    application: str,
    seconds: float | None = None,
) -> Pool:
    pool = await open_pool(database_url, size=size, application=application, command_timeout_seconds=seconds)
    stack.push_async_callback(close_pool, pool)
    return pool


async def _start_listener(stack: AsyncExitStack, app: web.Application, settings: Settings) -> None:
    runner = MeasuredRunner(
        app,
        limits=limits_for(settings.indexer_connections),
        idle_seconds=IDLE_CONNECTION_SECONDS,
        shutdown_timeout=OPEN_REQUESTS_DEADLINE_SECONDS,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    listen = settings.indexer_listen
    host, port = parse_address(listen)
    try:
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        await site.start()
    except OSError as error:
        raise ConfigurationError(f"INDEXER_LISTEN: cannot listen on {listen}: {error.strerror}") from None
    log.info("listening", address=listen)


def _retention(settings: Settings) -> Retention:
    return Retention(
        inbox=settings.indexer_inbox_retention,
        events=settings.indexer_event_retention,
        tombstones=settings.indexer_tombstone_retention,
        due=settings.indexer_work_retention,
        jobs=settings.indexer_job_retention,
        pull_detail=settings.indexer_pull_detail,
    )


def _checkpoints(settings: Settings) -> CheckpointSettings:
    return CheckpointSettings(
        interval=settings.indexer_audit_checkpoint_interval,
        entries=settings.indexer_audit_checkpoint_entries,
        file=settings.indexer_audit_checkpoint_file,
    )


def _api_settings(settings: Settings, feeds: FeedsFile) -> ApiSettings:
    proxy = settings.proxy_secret()
    return ApiSettings(
        api_tokens=frozenset(token.get_secret_value() for token in settings.indexer_api_tokens),
        operator_tokens=tuple(
            (each.name, each.secret.get_secret_value()) for each in settings.indexer_operator_tokens
        ),
        in_use_tokens=tuple(
            (each.name, each.secret.get_secret_value()) for each in settings.indexer_in_use_tokens
        ),
        anonymous_read=settings.indexer_anonymous_read,
        proxy_secret=None if proxy is None else proxy.get_secret_value(),
        trust=read_trust(settings),
        registry_host=settings.indexer_registry_host,
        sign_in_ca_file=settings.indexer_sign_in_ca_file,
        streams=settings.indexer_api_streams,
        events=EventAttributes(source=feeds.source, type_prefix=feeds.type_prefix),
    )
