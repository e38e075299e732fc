"""The registry client over HTTP: one object with every request."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Self

import orjson

from indexer.common.errors import RegistryMisbehaved
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry import blobs, catalog, manifests, releases, tags
from reconciler.registry.answers import (
    CatalogListing,
    Deletion,
    ManifestAnswer,
    ManifestRead,
    Ping,
    TagAnswer,
    TagListing,
)
from reconciler.registry.cache import CacheWatch, RegistryKind
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, Once, RegistryResponse, Request
from reconciler.registry.pacing import Pace
from reconciler.registry.transport import Transport, TransportSettings

_OK: Final = 200


class RegistryClient:
    """A :class:`~reconciler.registry.protocol.ActingRegistry` over HTTP; an async context manager.

    Raises ``ConfigurationError`` if the settings cannot work; every method raises the registry errors that the protocol
    names. ``clock`` is our clock, for tests.
    """

    def __init__(
        self, settings: TransportSettings, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._transport = Transport(settings, clock=clock)
        self._cache = CacheWatch(self._transport, configured=settings.is_cache)

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__()

    def paced(self, rate: float | None) -> RegistryClient:
        """Return this client with at most ``rate`` requests a second; None: without a limit. It must be entered."""
        if rate is None:
            return self
        slower = copy.copy(self)
        slower._transport = self._transport.paced(Pace(rate))  # noqa: SLF001 - a copy of ourselves
        return slower

    async def ping(self) -> Ping:
        """Ask ``/v2/``; see the protocol."""
        request = Request(
            method="GET", path="/v2/", scope="", expect=frozenset({_OK}), limit=SMALL_LIMIT_BYTES
        )
        answer = await self._transport.send(request)
        version = answer.headers.get("Docker-Distribution-Api-Version")
        if version is None and not _is_empty_object(answer):
            raise RegistryMisbehaved(
                f"{answer.request_line}: 200, but not a registry's ({answer.content[:80]!r})"
            )
        return Ping(observed_at=answer.observed_at, registry_clock=answer.registry_clock, api_version=version)

    async def kind(self, *, afresh: bool = False) -> RegistryKind:
        """Return whether it is a pull-through cache; see the protocol."""
        return await self._cache.kind(afresh=afresh)

    async def list_repositories(
        self, *, on_names: Callable[[Sequence[RepositoryName]], None] | None = None
    ) -> CatalogListing:
        """Read the catalog; see the protocol."""
        return await catalog.list_repositories(self._transport, on_names=on_names)

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """List the tags; see the protocol."""
        return await tags.list_tags(self._transport, repository)

    async def list_tags_behind(
        self, repository: RepositoryName, *, last: str, size: int
    ) -> Sequence[TagName]:
        """List one page; see the protocol."""
        return await tags.list_tags_behind(self._transport, repository, last=last, size=size)

    async def find_major(self, repository: RepositoryName) -> int | None:
        """Return 2 for Distribution 2.8, 3 for 3.x, None where it cannot be told; see ``releases``."""
        return await releases.find_major(self._transport, repository)

    async def head_tag(
        self,
        repository: RepositoryName,
        tag: TagName,
        *,
        if_digest: Digest | None = None,
        on_record: Digest | None = None,
    ) -> TagAnswer:
        """Return where a tag points; see the protocol."""
        return await manifests.head_tag(
            self._transport, repository, tag, if_digest=if_digest, on_record=on_record
        )

    async def head_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
        """Return whether a manifest is served; see the protocol."""
        return await manifests.head_manifest(self._transport, repository, digest)

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Read a manifest; see the protocol."""
        return await manifests.get_manifest(self._transport, repository, digest)

    async def get_blob(self, repository: RepositoryName, digest: Digest, *, limit: int) -> bytes | None:
        """Read a blob; see the protocol."""
        return await blobs.get_blob(self._transport, repository, digest, limit=limit)

    async def has_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a blob is there; see the protocol."""
        return await blobs.has_blob(self._transport, repository, digest)

    async def put_blob(self, repository: RepositoryName, content: bytes) -> Digest:
        """Upload a blob; see the protocol."""
        return await blobs.put_blob(self._transport, repository, content)

    async def put_manifest(
        self, repository: RepositoryName, reference: TagName | Digest, content: bytes, *, media_type: str
    ) -> Digest:
        """Push a manifest; see the protocol."""
        return await manifests.put_manifest(
            self._transport, repository, reference, content, media_type=media_type
        )

    async def delete_manifest(self, repository: RepositoryName, digest: Digest) -> Deletion:
        """Delete by digest; see the protocol."""
        return await manifests.delete(self._transport, repository, digest)

    async def delete_tag(self, repository: RepositoryName, tag: TagName) -> Deletion:
        """Delete a tag; see the protocol."""
        return await manifests.delete(self._transport, repository, tag)

    async def put_manifest_once(
        self,
        repository: RepositoryName,
        reference: TagName | Digest,
        content: bytes,
        *,
        media_type: str,
        once: Once,
    ) -> Digest:
        """Push a manifest, one time; see the protocol."""
        return await manifests.put_manifest(
            self._transport, repository, reference, content, media_type=media_type, once=once
        )

    async def delete_once(
        self, repository: RepositoryName, reference: TagName | Digest, *, once: Once
    ) -> Deletion:
        """Delete, one time; see the protocol."""
        return await manifests.delete(self._transport, repository, reference, once=once)

    async def mount_blob(self, repository: RepositoryName, digest: Digest, *, source: RepositoryName) -> bool:
        """Have a repository serve a blob of another one; see the protocol."""
        return await blobs.mount_blob(self._transport, repository, digest, source=source)

    async def delivers_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether a blob's first byte arrives; see the protocol."""
        return await blobs.delivers_blob(self._transport, repository, digest)


def _is_empty_object(answer: RegistryResponse) -> bool:
    try:
        return bool(orjson.loads(answer.content) == {})
    except orjson.JSONDecodeError:
        return False
