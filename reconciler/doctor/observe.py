"""Asks our database and server, the registry and its debug addresses, and returns facts."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import httpx
import orjson
from prometheus_client.parser import text_string_to_metric_families

from indexer.cleanup.status import status_json
from indexer.common.errors import RegistryError, RegistryMisbehaved, StoreError, StoreFault, StoreOutdated
from indexer.jobs.pauses import Pause
from indexer.oci.digest import parse_digest
from indexer.oci.reference import RepositoryName
from indexer.store.canary import examining, find_server
from indexer.store.checkpoints import list_conflicts
from indexer.store.jobs import JobCount, count_jobs
from indexer.store.listing import status as status_store
from indexer.store.maintenance import why_paused
from indexer.store.migrate import check, obstacle
from indexer.store.own_requests import own_key
from indexer.store.pool import Connection
from indexer.store.self_check import check_state
from indexer.store.traits import Trait, TraitState, find_traits
from reconciler.doctor.facts import (
    Database,
    Failure,
    Family,
    HttpAnswer,
    Instance,
    LogState,
    LoopState,
    ReceiverFact,
    RegistryFacts,
    SchemaState,
)
from reconciler.doctor.settings import DoctorSettings
from reconciler.registry.answers import Deletion, TagListing
from reconciler.registry.auth import CATALOG_SCOPE, repository_scope
from reconciler.registry.cache import RegistryKind
from reconciler.registry.client import RegistryClient
from reconciler.registry.debug_counters import read_debug
from reconciler.registry.endpoint_counters import DebugReading
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, Request
from reconciler.registry.hidden_tags import NEVER_THERE
from reconciler.registry.our_endpoint import find_ours, sends_token
from reconciler.registry.transport import Transport

SECONDS: Final = 5.0
"""Deadline for our own server and the debug addresses."""

PULL_SECONDS: Final = 3.0
"""How long to wait for a pull event: it is sent within milliseconds, and applied after events that change tags."""

POLL_SECONDS: Final = 0.2

TEXT_BYTES: Final = 300
"""What is kept of an answer that only a person reads."""

SIGNING: Final = "checkpoint"
"""The name of the indexer's loop that signs the log."""

_OK: Final = 200
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404


def http_client() -> httpx.AsyncClient:
    """Return a client for our own server; it follows no redirect."""
    # httpx logs every address at info, and an endpoint's may hold a password.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return httpx.AsyncClient(timeout=SECONDS, follow_redirects=False, trust_env=False)


async def observe_database(connection: Connection) -> Database:
    """Ask the database for its version and clock."""
    async with examining():
        began = datetime.now(UTC)
        found = await find_server(connection)
        middle = began + (datetime.now(UTC) - began) / 2
    return Database(
        version_number=found.version_number,
        version=found.version,
        ahead_seconds=(found.now - middle).total_seconds(),
    )


async def observe_schema(connection: Connection) -> SchemaState:
    """Return what is wrong with the schema, if anything, and why `indexer migrate` would fail."""
    try:
        async with examining():
            await check(connection)
    except StoreOutdated as error:
        return SchemaState(problem=str(error), obstacle=await _obstacle(connection))
    except StoreError as error:
        return SchemaState(problem=str(error), refused=isinstance(error.__cause__, StoreFault))
    return SchemaState()


async def _obstacle(connection: Connection) -> str | None:
    try:
        async with examining():
            return await obstacle(connection)
    except StoreError:  # the schema of another release: migrate has nothing to create
        return None


async def observe_log(connection: Connection) -> LogState:
    """Return the state of the audit log."""
    async with examining():
        checked = await check_state(connection)
        conflicts = await list_conflicts(connection)
    loops, _ = await observe_loops(connection)
    return LogState(
        damaged=checked.damaged,
        first=None if checked.first is None else checked.first.what,
        conflicts=[one.what for one in conflicts],
        compared_at=checked.current.pass_ended_at,
        signing=[loop for loop in loops if loop.loop == SIGNING],
    )


async def observe_acting(connection: Connection) -> tuple[Pause | None, list[JobCount]]:
    """Return why nothing may act, None: it may; and the jobs on record."""
    async with examining():
        return await why_paused(connection), await count_jobs(connection)


async def observe_cleanup(connection: Connection) -> Mapping[str, Any]:
    """Return how policies stand, and who reports what is in use."""
    async with examining():
        return await status_json(connection, now=datetime.now(UTC))


async def observe_pulls(connection: Connection, *, wait: bool) -> TraitState | None:
    """Return what is on record about pull events; ``wait``: a manifest was just read, its event may be on the way."""
    deadline = monotonic() + (PULL_SECONDS if wait else 0.0)
    while True:
        async with examining():
            shown = (await find_traits(connection)).get(Trait.ANNOUNCES_PULLS)
        if (shown is not None and shown.holds) or monotonic() >= deadline:
            return shown
        await asyncio.sleep(POLL_SECONDS)


async def observe_own_key(connection: Connection) -> bytes:
    """Return the key that signs our requests to the registry."""
    async with examining():
        return await own_key(connection)


async def observe_loops(connection: Connection) -> tuple[list[LoopState], int]:
    """Return the state of every loop, and the number of deliveries that wait."""
    async with examining():
        status = await status_store.status(connection)
    now = status.ingest["now"]
    loops = [
        LoopState(
            loop=row["loop"],
            process=row["process"],
            outcome=row["outcome"] or "",
            age_seconds=(now - row["last_run_at"]).total_seconds(),
            last_error=row["last_error"],
        )
        for row in status.loops
        if row["last_run_at"] is not None
    ]
    return loops, status.ingest["waiting"]


async def ask(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    token: str | None = None,
    content: bytes | None = None,
    keep: int = TEXT_BYTES,
) -> HttpAnswer:
    """Send one request; keep ``keep`` bytes of the body. A request without an answer is a result, too."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if content is not None:
        headers["Content-Type"] = "application/json"
    try:
        response = await client.request(method, url, headers=headers, content=content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return HttpAnswer(status=None, text=str(error) or type(error).__name__)
    return HttpAnswer(
        status=response.status_code,
        text=response.content[:keep].decode("utf-8", "replace").strip(),
        location=response.headers.get("Location"),
    )


async def observe_endpoint(client: httpx.AsyncClient, indexer_url: str, token: str) -> ReceiverFact:
    """Deliver an empty envelope with and without the token; it is valid, and changes nothing."""
    url = f"{indexer_url}/notifications"
    return ReceiverFact(
        url=url,
        with_token=await ask(client, "POST", url, token=token, content=b"{}"),
        without_token=await ask(client, "POST", url, content=b"{}"),
    )


async def observe_endpoint_counts(client: httpx.AsyncClient, indexer_url: str) -> Mapping[int, int] | None:
    """Return from our own metrics how many deliveries had which status; None where they cannot be read."""
    try:
        response = await client.get(f"{indexer_url}/metrics")
        response.raise_for_status()
        return {
            int(sample.labels["status"]): int(sample.value)
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
            if sample.name == "indexer_notifications_total"
        }
    except (httpx.HTTPError, ValueError, KeyError):
        return None


async def observe_registry(registry: RegistryClient, settings: DoctorSettings) -> RegistryFacts:
    """Ask for ``/v2/``."""
    assert settings.registry is not None  # noqa: S101 - there is a client, so there are settings
    url, has_credentials = settings.registry.base_url, settings.registry.credentials is not None
    try:
        return RegistryFacts(url=url, has_credentials=has_credentials, ping=await registry.ping())
    except RegistryError as error:
        return RegistryFacts(url=url, has_credentials=has_credentials, ping=Failure.of(error))


async def observe_catalog(transport: Transport) -> Failure | None:
    """Request one name of the catalog; return the failure, None: it was listed."""
    request = Request(
        method="GET",
        path="/v2/_catalog",
        query=[("n", "1")],
        scope=CATALOG_SCOPE,
        expect=frozenset({_OK}),
        limit=SMALL_LIMIT_BYTES,
        timeout_seconds=transport.settings.listing_timeout_seconds,
    )
    try:
        answer = await transport.send(request)
        if not _has_key(answer.content, "repositories"):
            raise RegistryMisbehaved(f"{answer.request_line}: 200, but no catalog ({answer.content[:80]!r})")
    except RegistryError as error:
        return Failure.of(error)
    return None


async def observe_kind(registry: RegistryClient) -> RegistryKind | Failure:
    """Return whether it is a pull-through cache."""
    try:
        return await registry.kind()
    except RegistryError as error:
        return Failure.of(error)


async def observe_tag_listing(registry: RegistryClient) -> TagListing | Failure:
    """List the tags of a repository that never existed: the answer shows whether listings are complete."""
    try:
        return await registry.list_tags(NEVER_THERE)
    except RegistryError as error:
        return Failure.of(error)


async def observe_family(transport: Transport, repository: RepositoryName) -> Family:
    """Distinguish 2.x from 3.x by an invalid page size: 3.x refuses it, 2.x ignores it (2.8.2, 3.1.1)."""
    request = Request(
        method="GET",
        path=f"/v2/{repository}/tags/list",
        query=[("n", "-1")],
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _NOT_FOUND, _BAD_REQUEST}),
        limit=SMALL_LIMIT_BYTES * 16,
    )
    try:
        answer = await transport.send(request)
    except RegistryError:
        return Family.UNKNOWN
    if answer.status == _BAD_REQUEST:
        return Family.V3 if answer.error_codes() == ("PAGINATION_NUMBER_INVALID",) else Family.UNKNOWN
    known = answer.error_codes() == ("NAME_UNKNOWN",) or _has_key(answer.content, "tags")
    return Family.V2 if known else Family.UNKNOWN


async def observe_deletes(registry: RegistryClient, repository: RepositoryName) -> Deletion | Failure:
    """Delete a digest that cannot exist: 404 where deletes are allowed, 405 where not (2.8.2, 3.1.1)."""
    nothing = parse_digest(f"sha256:{secrets.token_hex(32)}")
    try:
        return await registry.delete_manifest(repository, nothing)
    except RegistryError as error:
        return Failure.of(error)


async def observe_instances(
    client: httpx.AsyncClient, addresses: Sequence[str], *, token: str | None
) -> list[Instance]:
    """Read every debug address, and send a request to each endpoint that has our token."""
    return await asyncio.gather(*(_observe_instance(client, each, token) for each in addresses))


async def read_instances(client: httpx.AsyncClient, addresses: Sequence[str]) -> list[Instance]:
    """Read every debug address again, and send no other request."""
    return await asyncio.gather(*(_observe_instance(client, each, None) for each in addresses))


async def _observe_instance(client: httpx.AsyncClient, address: str, token: str | None) -> Instance:
    try:
        reading = await read_debug(client, address)
    except RegistryError as error:
        return Instance(address=address, reading=Failure.of(error))
    return Instance(address=address, reading=reading, probes=await _probe(client, reading, token))


async def _probe(
    client: httpx.AsyncClient, reading: DebugReading, token: str | None
) -> dict[str, HttpAnswer]:
    """Post to our endpoint as the registry does, but only if the registry sends our token there already."""
    ours = find_ours(reading, token=token)
    if ours is None or ours.configuration is None or not sends_token(ours.configuration, token):
        return {}
    return {ours.name: await ask(client, "POST", ours.configuration.url, token=token, content=b"{}")}


def _has_key(content: bytes, key: str) -> bool:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(value, dict) and key in value
