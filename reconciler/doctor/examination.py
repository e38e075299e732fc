"""The examination: every step in order; steps that depend on a failed one are skipped."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from indexer.common.errors import ConfigurationError, RegistryError, StoreError
from indexer.store.canary import connect_to_examine, examining, inbox_position
from reconciler.doctor import decide, observe
from reconciler.doctor.acting import judge_acting
from reconciler.doctor.canary import Follower, push
from reconciler.doctor.chain import CANARY_LINKS, judge_push, judge_trail
from reconciler.doctor.endpoints import judge_endpoints
from reconciler.doctor.facts import Failure, Instance, RegistryFacts
from reconciler.doctor.policies import judge_policies
from reconciler.doctor.pulls import ignores_pulls, judge_pulls
from reconciler.doctor.report import Check, Diagnosis, Link, LinkOutcome, failed, skipped
from reconciler.registry.cache import RegistryKind
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import Transport

if TYPE_CHECKING:
    import httpx

    from indexer.store.pool import OwnConnection
    from reconciler.doctor.settings import DoctorSettings

OF_CACHE = "a pull-through cache"
NEEDED_BY_CANARY = (Link.DATABASE, Link.SCHEMA, Link.REGISTRY, Link.CREDENTIALS)


class Examination:
    """One examination; ``on_check`` is called for every step as soon as it is judged."""

    def __init__(
        self, settings: DoctorSettings, *, on_check: Callable[[Check], None] = lambda _: None
    ) -> None:
        self._settings = settings
        self._on_check = on_check
        self._checks: dict[Link, Check] = {}
        self._connection: OwnConnection | None = None
        self._database_ahead: float | None = None
        self._instances: list[Instance] = []
        self._of_cache = False

    async def run(self) -> Diagnosis:
        """Examine everything; any failure is a check of the result, never an exception."""
        settings = self._settings
        self._add(
            decide.judge_settings(settings.problems, settings.remarks, takes_notices=settings.takes_notices)
        )
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(observe.http_client())
            await self._examine_database(stack)
            await self._examine_indexer(client)
            registry = await self._examine_registry(stack)
            self._instances = await observe.observe_instances(
                client, settings.debug_urls, token=settings.notifications_token
            )
            self._add(judge_endpoints(self._instances, token=settings.notifications_token))
            await self._follow_canary(client, registry)
            await self._examine_pulls()
            await self._examine_log()
            await self._examine_acting()
        return Diagnosis(tuple(self._checks.values()))

    def _add(self, *checks: Check) -> None:
        for check in checks:
            self._checks[check.link] = check
            self._on_check(check)

    def _holds(self, link: Link) -> bool:
        check = self._checks.get(link)
        return check is not None and check.outcome in (LinkOutcome.OK, LinkOutcome.WARNING)

    async def _examine_database(self, stack: AsyncExitStack) -> None:
        url = self._settings.database_url
        if url is None:
            self._add(
                *(skipped(link, f"not reached: {Link.SETTINGS}") for link in (Link.DATABASE, Link.SCHEMA))
            )
            return
        try:
            self._connection = await connect_to_examine(url)
            stack.push_async_callback(self._connection.close)
            database = await observe.observe_database(self._connection)
        except (StoreError, ConfigurationError) as error:
            self._add(
                decide.judge_database(str(error)), skipped(Link.SCHEMA, f"not reached: {Link.DATABASE}")
            )
            return
        self._database_ahead = database.ahead_seconds
        self._add(decide.judge_database(database))
        self._add(decide.judge_schema(await observe.observe_schema(self._connection)))

    async def _examine_pulls(self) -> None:
        """Examine pulls after the canary: a registry that announces pulls has announced that its manifest was read."""
        if self._connection is None or not self._holds(Link.SCHEMA):
            self._skip_record(Link.PULLS)
            return
        ignored = ignores_pulls(self._instances, token=self._settings.notifications_token)
        try:
            shown = await observe.observe_pulls(self._connection, wait=not ignored and self._holds(Link.READ))
            self._add(judge_pulls(shown, ignored=ignored))
        except (StoreError, ConfigurationError) as error:
            self._add(failed(Link.PULLS, f"the database stopped answering meanwhile: {error}"))

    async def _examine_log(self) -> None:
        """Examine the audit log last: no push depends on it."""
        if self._connection is None or not self._holds(Link.SCHEMA):
            self._skip_record(Link.LOG)
            return
        try:
            self._add(decide.judge_log(await observe.observe_log(self._connection)))
        except (StoreError, ConfigurationError) as error:
            self._add(failed(Link.LOG, f"the database stopped answering meanwhile: {error}"))

    async def _examine_acting(self) -> None:
        """Say what is to be known about policies and jobs; nothing if there is nothing, or the database is away."""
        if self._connection is None or not self._holds(Link.SCHEMA):
            return
        with suppress(StoreError, ConfigurationError):
            check = judge_policies(await observe.observe_cleanup(self._connection))
            if check is not None:
                self._add(check)
            check = judge_acting(*await observe.observe_acting(self._connection), now=datetime.now(UTC))
            if check is not None:
                self._add(check)

    def _skip_record(self, link: Link) -> None:
        broken = Link.SCHEMA if self._holds(Link.DATABASE) else Link.DATABASE
        self._add(skipped(link, f"not reached: {broken}"))

    async def _examine_indexer(self, client: httpx.AsyncClient) -> None:
        url, token = self._settings.indexer_url, self._settings.notifications_token
        if url is None:
            self._add(
                *(skipped(link, f"not reached: {Link.SETTINGS}") for link in (Link.INDEXER, Link.RECEIVER))
            )
            return
        self._add(decide.judge_indexer(url, await observe.ask(client, "GET", f"{url}/readyz")))
        if not self._holds(Link.INDEXER):
            self._add(skipped(Link.RECEIVER, f"not reached: {Link.INDEXER}"))
        elif token is None:
            self._add(skipped(Link.RECEIVER, "INDEXER_NOTIFICATIONS_TOKEN is not set here"))
        else:
            self._add(decide.judge_receiver(await observe.observe_endpoint(client, url, token)))

    async def _own_key(self) -> bytes | None:
        """Return the key that marks our requests as no client's; None: they will count as pulls."""
        if self._connection is None or not self._holds(Link.SCHEMA):
            return None
        try:
            return await observe.observe_own_key(self._connection)
        except (StoreError, ConfigurationError):
            return None

    async def _examine_registry(self, stack: AsyncExitStack) -> RegistryClient | None:
        settings = self._settings.impatient_registry
        if settings is None:
            self._skip_registry(Link.SETTINGS, *_REGISTRY_LINKS)
            return None
        settings = replace(settings, own_key=await self._own_key())
        registry = await stack.enter_async_context(RegistryClient(settings))
        facts = await observe.observe_registry(registry, self._settings)
        self._add(decide.judge_registry(facts), decide.judge_credentials(facts))
        if not self._holds(Link.REGISTRY) or not self._holds(Link.CREDENTIALS):
            broken = Link.CREDENTIALS if self._holds(Link.REGISTRY) else Link.REGISTRY
            self._skip_registry(broken, *_REGISTRY_LINKS[2:])
            return registry
        transport = await stack.enter_async_context(Transport(settings))
        kind = await observe.observe_kind(registry)
        self._of_cache = isinstance(kind, RegistryKind) and kind.is_cache
        self._add(decide.judge_kind(kind))
        catalog = await observe.observe_catalog(transport)
        self._add(decide.judge_catalog(catalog, accepted=self._settings.catalog_is_closed))
        self._add(decide.judge_clocks(_ahead(facts), self._database_ahead))
        if self._of_cache:
            self._add(*(skipped(link, OF_CACHE) for link in (Link.TAG_LISTING, Link.VERSION, Link.DELETES)))
            return registry
        self._add(decide.judge_tag_listing(await observe.observe_tag_listing(registry)))
        repository = self._settings.repository
        self._add(decide.judge_version(await observe.observe_family(transport, repository)))
        if self._settings.read_only:
            self._add(skipped(Link.DELETES, "--read-only"))
        else:
            self._add(decide.judge_deletes(await observe.observe_deletes(registry, repository)))
        return registry

    def _skip_registry(self, broken: Link, *links: Link) -> None:
        self._add(*(skipped(link, f"not reached: {broken}") for link in links))

    async def _follow_canary(self, client: httpx.AsyncClient, registry: RegistryClient | None) -> None:
        broken = next((link for link in NEEDED_BY_CANARY if not self._holds(link)), None)
        if self._settings.read_only or self._of_cache:
            why = OF_CACHE if self._of_cache else "--read-only"
            self._add(*(skipped(link, why) for link in CANARY_LINKS))
        elif broken is not None or registry is None:
            self._add(*(skipped(link, f"not reached: {broken}") for link in CANARY_LINKS))
        else:
            try:
                self._add(*await self._canary_checks(client, registry))
            except (StoreError, ConfigurationError) as error:
                self._add(failed(Link.NOTIFIED, f"the database stopped answering meanwhile: {error}"))

    async def _canary_checks(self, client: httpx.AsyncClient, registry: RegistryClient) -> list[Check]:
        assert self._connection is not None  # noqa: S101 - the database holds; tells mypy
        url = self._settings.indexer_url
        counts = await observe.observe_endpoint_counts(client, url) if url is not None else None
        async with examining():
            position = await inbox_position(self._connection)
        try:
            canary = await push(registry, self._settings.repository)
        except RegistryError as error:
            return judge_push(Failure.of(error))
        follower = Follower(
            connection=self._connection,
            registry=registry,
            client=client,
            settings=self._settings,
            position=position,
            before=self._instances,
            endpoint_before=None if counts is None else dict(counts),
        )
        return judge_trail(await follower.follow(canary), token=self._settings.notifications_token)


_REGISTRY_LINKS = (
    Link.REGISTRY,
    Link.CREDENTIALS,
    Link.KIND,
    Link.CATALOG,
    Link.TAG_LISTING,
    Link.CLOCKS,
    Link.VERSION,
    Link.DELETES,
)


def _ahead(facts: RegistryFacts) -> float | None:
    """Return the registry's clock less ours, in seconds; half a second is added, since ``Date`` is rounded down."""
    if isinstance(facts.ping, Failure) or facts.ping.registry_clock is None:
        return None
    return (facts.ping.registry_clock - facts.ping.observed_at).total_seconds() + 0.5
