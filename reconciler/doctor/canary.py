"""The canary: a tiny artifact that is pushed, followed through our tables, and deleted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import orjson

from indexer.common.errors import RegistryError
from indexer.oci import media_types
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName, parse_tag_name
from indexer.store import canary as store
from indexer.store.canary import Arrived, CanaryState
from indexer.store.listing import tags as listing_store
from indexer.store.listing.freshness import find_repository
from indexer.store.pool import Connection
from reconciler.doctor import observe
from reconciler.doctor.facts import (
    Canary,
    CanaryEvents,
    Failure,
    HttpAnswer,
    Instance,
    ListingFact,
    Surroundings,
    Trail,
)
from reconciler.doctor.settings import DoctorSettings
from reconciler.registry.answers import Deletion
from reconciler.registry.client import RegistryClient

ARTIFACT_TYPE: Final = "application/vnd.registry-indexer.doctor.canary.v1"
EMPTY: Final = b"{}"
POLL_SECONDS: Final = 0.15
SHORT_PATIENCE_SECONDS: Final = 2.0
"""How long to wait for the delete event where no push event came: a delete event alone proves an ignore block."""

ANSWER_BYTES: Final = 64 * 1024
"""A page with one tag, annotations and all."""

_OK: Final = 200

T = TypeVar("T")


async def push(registry: RegistryClient, repository: RepositoryName) -> Canary:
    """Push a canary under a new tag; raise the registry errors if that is refused."""
    now = datetime.now(UTC)
    tag = parse_tag_name(f"canary-{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}")
    content = _manifest(tag, now)
    await registry.put_blob(repository, EMPTY)
    pushed_at = datetime.now(UTC)
    digest = await registry.put_manifest(repository, tag, content, media_type=media_types.OCI_MANIFEST)
    return Canary(
        repository=repository,
        tag=tag,
        digest=digest,
        media_type=media_types.OCI_MANIFEST,
        pushed_at=pushed_at,
    )


@dataclass(slots=True, kw_only=True)
class Follower:
    """Follows one canary.

    ``position``: the inbox position before the push. ``before``: the registry's counters then. ``endpoint_before``:
    our endpoint's answers by status, then.
    """

    connection: Connection
    registry: RegistryClient
    client: httpx.AsyncClient
    settings: DoctorSettings
    position: int
    before: Sequence[Instance] = ()
    endpoint_before: dict[int, int] | None = None
    _removal: Deletion | Failure | None = field(default=None, init=False)

    async def follow(self, canary: Canary) -> Trail:
        """Follow the canary to the listing, delete it in any case, and follow its delete event."""
        try:
            return await self._follow(canary)
        finally:
            await self._remove(canary)

    async def _follow(self, canary: Canary) -> Trail:
        patience = self.settings.patience_seconds
        events = await _until(lambda: self._events(canary), lambda e: e.push_seconds is not None, patience)
        inventory = await self._state(
            canary, lambda s: s.digest == canary.digest, wait=events.push_seconds is not None
        )
        verified = await self._state(canary, lambda s: s.verified_at is not None, wait=inventory.live)
        read = await self._state(
            canary, lambda s: s.content not in ("", "announced"), wait=verified.verified_at is not None
        )
        listing = await self._listing(canary) if inventory.live else None
        surroundings = await self._surroundings()
        events = await self._events(canary)
        removal = await self._remove(canary)
        after, gone = await self._deletion(canary, removal, announced=events.push_seconds is not None)
        return Trail(
            canary=canary,
            patience_seconds=patience,
            events=events,
            inventory=inventory,
            verified=verified,
            read=read,
            listing=listing,
            removal=removal,
            events_after_removal=after,
            gone=gone,
            surroundings=surroundings,
        )

    async def _state(
        self, canary: Canary, holds: Callable[[CanaryState], bool], *, wait: bool
    ) -> CanaryState:
        """Read the record until ``holds`` returns True; only once if an earlier step failed."""

        async def find() -> CanaryState:
            async with store.examining():
                return await store.find_state(self.connection, repository=canary.repository, tag=canary.tag)

        return await _until(find, holds, self.settings.patience_seconds if wait else 0)

    async def _events(self, canary: Canary) -> CanaryEvents:
        async with store.examining():
            arrived = await store.find_deliveries(self.connection, after=self.position, text=canary.tag)
        return read_events(canary, arrived)

    async def _listing(self, canary: Canary) -> ListingFact:
        api = None
        if self.settings.indexer_url is not None and (
            self.settings.api_token or self.settings.anonymous_read
        ):
            api = await self._ask_api(canary)
        return ListingFact(
            by_store=await self._is_listed(canary),
            api=api,
            by_api=api is not None and api.status == _OK and f'"{canary.digest}"' in api.text,
        )

    async def _is_listed(self, canary: Canary) -> bool:
        async with store.examining():
            repository = await find_repository(self.connection, name=canary.repository)
            if repository is None:
                return False
            found = await listing_store.find_tag(
                self.connection, repository_id=repository.id, name=canary.tag
            )
        return found is not None

    async def _ask_api(self, canary: Canary) -> HttpAnswer:
        return await observe.ask(
            self.client,
            "GET",
            f"{self.settings.indexer_url}/api/v1/repositories/{quote(canary.repository)}/tags"
            f"?name_prefix={canary.tag}&limit=1",
            token=self.settings.api_token,
            keep=ANSWER_BYTES,
        )

    async def _surroundings(self) -> Surroundings:
        loops, waiting = await observe.observe_loops(self.connection)
        return Surroundings(
            before=self.before,
            after=await observe.read_instances(self.client, self.settings.debug_urls),
            receiver=await self._receiver(),
            loops=loops,
            inbox_waiting=waiting,
        )

    async def _receiver(self) -> dict[int, int] | None:
        if self.settings.indexer_url is None or self.endpoint_before is None:
            return None
        now = await observe.observe_endpoint_counts(self.client, self.settings.indexer_url)
        if now is None:
            return None
        return {status: count - self.endpoint_before.get(status, 0) for status, count in now.items()}

    async def _remove(self, canary: Canary) -> Deletion | Failure:
        """Delete by digest, once: 2.x deletes in no other way."""
        if self._removal is None:
            try:
                self._removal = await self.registry.delete_manifest(canary.repository, canary.digest)
            except RegistryError as error:
                self._removal = Failure.of(error)
        return self._removal

    async def _deletion(
        self, canary: Canary, removal: Deletion | Failure, *, announced: bool
    ) -> tuple[CanaryEvents, bool]:
        patience = self.settings.patience_seconds
        if removal is not Deletion.ACCEPTED:
            return await self._events(canary), False
        patience = patience if announced else min(patience, SHORT_PATIENCE_SECONDS)
        events = await _until(lambda: self._events(canary), lambda each: each.delete, patience)
        state = await self._state(canary, lambda each: not each.live, wait=events.delete)
        return events, not state.live


def read_events(canary: Canary, arrived: Sequence[Arrived]) -> CanaryEvents:
    """Return what deliveries say about the canary."""
    pushes = [each for each in arrived if "push" in _actions(canary, each.body)]
    return CanaryEvents(
        push_seconds=max(0.0, (pushes[0].received_at - canary.pushed_at).total_seconds()) if pushes else None,
        delete=any("delete" in _actions(canary, each.body) for each in arrived),
        applied=any(each.done_at is not None for each in pushes),
        quarantined=next((each.reason for each in arrived if each.reason is not None), None),
    )


def _actions(canary: Canary, body: bytes) -> set[str]:
    """Return the actions of the events about the canary's tag."""
    return {
        str(event.get("action"))
        for event in _events_of(body)
        if isinstance(target := event.get("target"), dict)
        and (target.get("repository"), target.get("tag")) == (canary.repository, canary.tag)
    }


def _events_of(body: bytes) -> Iterator[dict[str, Any]]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    events = value.get("events") if isinstance(value, dict) else None
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict):
            yield event


def _manifest(tag: str, now: datetime) -> bytes:
    """Return a manifest with a digest of its own; it needs only the empty blob (OCI image spec 1.1, "Guidance")."""
    empty = {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(EMPTY), "size": len(EMPTY)}
    return orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": empty,
            "layers": [empty],
            "annotations": {
                "org.opencontainers.image.created": now.isoformat(timespec="seconds"),
                "org.opencontainers.image.title": tag,
            },
        }
    )


async def _until(read: Callable[[], Awaitable[T]], holds: Callable[[T], bool], seconds: float) -> T:
    """Read until ``holds`` returns True or the time is up; return the last value."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        value = await read()
        if holds(value) or loop.time() >= deadline:
            return value
        await asyncio.sleep(POLL_SECONDS)
