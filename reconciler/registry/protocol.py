"""The requests that loops send to a registry.

``RegistryClient`` (over HTTP) and the tests' in-memory registry implement these; loops use nothing else.

Every method raises ``indexer.common.errors.RegistryError`` if nothing may be concluded:

- ``RegistryUnavailable``: no answer, a reset connection, a time-out, 429 or 5xx, after the allowed retries;
- ``RegistryDenied``: 401 or 403 after authentication was tried;
- ``RegistryMisbehaved``: an answer that no registry gives (HTML, a 404 without the registry's error body, bytes that do
  not hash to their digest, a broken page).
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
from reconciler.registry.exchange import Once


class Registry(Protocol):
    """The requests that read."""

    async def ping(self) -> Ping:
        """GET ``/v2/``: whether a registry answers and accepts us, and its clock."""
        ...

    async def kind(self, *, afresh: bool = False) -> RegistryKind:
        """Return whether the registry is a pull-through cache.

        A cache may be asked only for manifests that were pulled through it, by digest: anything else it fetches from
        its upstream and stores. Its 404 does not prove absence. The answer is kept for an hour unless ``afresh``, so
        every round may call this.
        """
        ...

    async def list_repositories(
        self, *, on_names: Callable[[Sequence[RepositoryName]], None] | None = None
    ) -> CatalogListing:
        """Read the catalog as often as needed; see :class:`CatalogListing`.

        ``on_names`` is called page by page with new names, so that work and a progress bar can begin before the end
        (minutes on S3).
        """
        ...

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """List every tag name of ``repository``; see :class:`TagListing`."""
        ...

    async def list_tags_behind(
        self, repository: RepositoryName, *, last: str, size: int
    ) -> Sequence[TagName]:
        """Return one page of at most ``size`` names that begins after ``last``, ordered as ``name/`` by byte.

        A registry without pages returns all names.
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
        """Return where ``tag`` points.

        With ``if_digest`` (the digest on record) an unchanged tag is :class:`Confirmed`: the registry reads no manifest
        and sends no event. Without it the answer proves that the manifest can be read. A digest that equals
        ``on_record`` is not checked for being a conversion, which saves a request.
        """
        ...

    async def head_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
        """Return whether ``repository`` serves the manifest ``digest``.

        A registry with a descriptor cache may continue to serve a manifest that was deleted through another replica
        (3.1.1, measured). Absence is certain, presence is as good as the registry's cache.
        """
        ...

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Read a manifest by digest; its bytes hash to it. ``NotFound``: the registry does not know it."""
        ...

    async def get_blob(self, repository: RepositoryName, digest: Digest, *, limit: int) -> bytes | None:
        """Read a blob of at most ``limit`` bytes; they hash to the digest. None: the registry does not know it.

        More than ``limit`` bytes raise ``RegistryMisbehaved``: the caller knows the size from the descriptor.
        """
        ...

    async def has_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether ``repository`` serves a blob; an unknown repository serves none."""
        ...


class WritableRegistry(Registry, Protocol):
    """The requests that read and write; the doctor's canary and checkpoints use them.

    Loops that only read take ``Registry``. A refused write (read-only registry, no permission) raises
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
        """Delete by digest; the registry deletes every tag of that digest, too."""
        ...

    async def delete_tag(self, repository: RepositoryName, tag: TagName) -> Deletion:
        """Delete one tag: 3.x only. 2.8 answers 400, which is :attr:`Deletion.UNSUPPORTED`."""
        ...


class ActingRegistry(WritableRegistry, Protocol):
    """The requests of what acts: each is sent at most once, and its event is recognised by ``once.nonce``.

    No answer (``RegistryUnavailable``) leaves open whether the registry did it.
    """

    async def put_manifest_once(
        self,
        repository: RepositoryName,
        reference: TagName | Digest,
        content: bytes,
        *,
        media_type: str,
        once: Once,
    ) -> Digest:
        """Push a manifest under a tag or its digest and return its digest."""
        ...

    async def delete_once(
        self, repository: RepositoryName, reference: TagName | Digest, *, once: Once
    ) -> Deletion:
        """Delete by digest or tag, as ``delete_manifest`` and ``delete_tag`` do."""
        ...

    async def mount_blob(self, repository: RepositoryName, digest: Digest, *, source: RepositoryName) -> bool:
        """Have ``repository`` serve a blob that ``source`` serves, without sending bytes; False: it was not done."""
        ...

    async def delivers_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Return whether the first byte of a blob really arrives."""
        ...
