"""What the loops ask of a registry.

``RegistryClient`` (over HTTP) and the tests' in-memory registry both implement these; loops know no other.

Every method raises ``indexer.common.errors.RegistryError`` where nothing may be concluded:

- ``RegistryUnavailable``: no answer, a reset, a time-out, 429 or 5xx, after the retries allowed;
- ``RegistryDenied``: 401/403 after authentication was tried;
- ``RegistryMisbehaved``: an answer no registry gives (HTML, a 404 without the registry's error body, bytes
  that do not hash to their digest, a broken page).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import (
    CatalogListing,
    Deletion,
    ManifestAnswer,
    ManifestRead,
    Ping,
    TagAnswer,
    TagListing,
)
from reconciler.registry.cache import RegistryKind


class Registry(Protocol):
    """A registry that can be looked at."""

    async def ping(self) -> Ping:
        """Ask ``/v2/``: is a registry there, does it let us in, what does its clock say."""
        ...

    async def kind(self, *, afresh: bool = False) -> RegistryKind:
        """Tell whether the registry is a pull-through cache.

        Of one nothing may be asked but manifests that were pulled through it, by digest: whatever else is asked it
        fetches from its upstream, and keeps. Its 404 is no absence. Remembered for an hour unless ``afresh``, so that
        every round may ask.
        """
        ...

    async def list_repositories(
        self, *, on_names: Callable[[Sequence[RepositoryName]], None] | None = None
    ) -> CatalogListing:
        """Walk the catalog as often as it takes; see :class:`CatalogListing`.

        ``on_names`` is called with the names not seen before, page by page, so that work and a progress bar
        can begin before the walk ends (minutes on S3).
        """
        ...

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """List every tag name of ``repository``; see :class:`TagListing`."""
        ...

    async def list_tags_behind(
        self, repository: RepositoryName, *, last: str, size: int
    ) -> Sequence[TagName]:
        """Return one page of at most ``size`` names that begins after ``last``, ordered as ``name/`` by byte.

        A registry without pages gives all its names.
        """
        ...

    async def head_tag(
        self,
        repository: RepositoryName,
        tag: TagName,
        *,
        if_digest: Digest | None = None,
        on_record: Digest | None = None,
    ) -> TagAnswer:
        """Look where ``tag`` points.

        With ``if_digest`` (the digest on record) an unchanged tag answers :class:`Confirmed`, which costs the
        registry no manifest read and makes no event; without it the answer proves that the manifest can be
        read. A digest that is ``on_record`` already is not checked for being a conversion, which saves a request.
        """
        ...

    async def head_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
        """Look whether ``repository`` serves the manifest ``digest``.

        A registry with a descriptor cache may go on serving a manifest deleted through another replica
        (3.1.1, measured); absence is certain, presence is as good as the registry's cache.
        """
        ...

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Read a manifest by digest, verified; ``NotFound`` where the registry says it is unknown."""
        ...

    async def get_blob(self, repository: RepositoryName, digest: Digest, *, limit: int) -> bytes | None:
        """Read a blob of at most ``limit`` bytes, verified; None where the registry says it is unknown.

        More than ``limit`` bytes raise ``RegistryMisbehaved``: the caller knows the size from the descriptor.
        """
        ...

    async def has_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Look whether ``repository`` serves a blob; one that is not known serves none."""
        ...


class WritableRegistry(Registry, Protocol):
    """A registry that can be written to: by the doctor's canary and for checkpoints.

    Loops that only look take ``Registry``. A refused write (read-only registry, no permission) raises
    ``RegistryDenied``.
    """

    async def put_blob(self, repository: RepositoryName, content: bytes) -> Digest:
        """Upload a blob in one piece and return its digest."""
        ...

    async def put_manifest(
        self, repository: RepositoryName, reference: TagName | Digest, content: bytes, *, media_type: str
    ) -> Digest:
        """Push a manifest under a tag or its digest and return its digest."""
        ...

    async def delete_manifest(self, repository: RepositoryName, digest: Digest) -> Deletion:
        """Delete by digest; the registry takes every tag of that digest with it."""
        ...

    async def delete_tag(self, repository: RepositoryName, tag: TagName) -> Deletion:
        """Delete one tag: 3.x only. 2.8 answers 400, which is :attr:`Deletion.UNSUPPORTED`."""
        ...
