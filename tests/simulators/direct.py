"""The reconciler's protocol answered straight from a state: for tests that need no HTTP.

``failures`` are raised by the next calls, one each; ``before_answer`` runs after a look was dated and before
it is answered, which is where a test lets the world change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from indexer.common.errors import RegistryError, RegistryMisbehaved
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName, parse_repository_name, parse_tag_name
from reconciler.registry.answers import (
    CatalogListing,
    Confirmed,
    Deletion,
    Found,
    ManifestAnswer,
    ManifestContent,
    ManifestRead,
    NotFound,
    NotFoundCode,
    Ping,
    TagAnswer,
    TagListing,
)
from reconciler.registry.cache import CacheKind, RegistryKind
from reconciler.registry.names import TagNames
from reconciler.registry.protocol import WritableRegistry
from tests.simulators.events import Version
from tests.simulators.state import RegistryState


class DirectRegistry:
    """A :class:`WritableRegistry` on a :class:`RegistryState`; ``clock`` is the reconciler's."""

    def __init__(
        self, state: RegistryState, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.state = state
        self.clock = clock
        self.is_cache = False
        self.failures: deque[RegistryError] = deque()
        self.before_answer: Callable[[], None] = lambda: None
        self.asked: list[tuple[str, ...]] = []
        """Every call with its arguments, for tests that count what a loop costs."""

    async def ping(self) -> Ping:
        """Answer as ``/v2/``."""
        observed_at, registry_clock = self._begin("ping")
        return Ping(observed_at=observed_at, registry_clock=registry_clock, api_version="registry/2.0")

    async def kind(self, *, afresh: bool = False) -> RegistryKind:  # noqa: ARG002 - as the protocol has it
        """Tell whether it is a cache; mostly a memory of the client's, so no call is counted."""
        nature = CacheKind.CACHE if self.is_cache else CacheKind.STORE
        return RegistryKind(nature=nature, because="the test says so")

    async def list_repositories(
        self, *, on_names: Callable[[Sequence[RepositoryName]], None] | None = None
    ) -> CatalogListing:
        """List what one page of any size would show."""
        observed_at, registry_clock = self._begin("list_repositories")
        texts, _ = self.state.catalog_page(10**9, "")
        names = tuple(sorted({parse_repository_name(text) for text in texts}))
        if on_names is not None and names:
            on_names(names)
        return CatalogListing(
            observed_at=observed_at, registry_clock=registry_clock, names=names, complete=True
        )

    async def list_tags(self, repository: RepositoryName) -> TagListing:
        """List a repository's tags."""
        observed_at, registry_clock = self._begin("list_tags", repository)
        listed = self.state.list_tags(repository)
        return TagListing(
            observed_at=observed_at,
            registry_clock=registry_clock,
            names=TagNames.of(parse_tag_name(text) for text in listed or ()),
            complete=True,
            unknown_repository=listed is None,
        )

    async def list_tags_behind(
        self, repository: RepositoryName, *, last: str, size: int
    ) -> Sequence[TagName]:
        """List one page."""
        self._begin("list_tags_behind", repository, last)
        names = self.state.list_tags_page(repository, size, last)
        return [parse_tag_name(text) for text in sorted(names, key=lambda name: f"{name}/")]

    async def head_tag(
        self,
        repository: RepositoryName,
        tag: TagName,
        *,
        if_digest: Digest | None = None,
        on_record: Digest | None = None,  # noqa: ARG002 - nothing here converts
    ) -> TagAnswer:
        """Look at a tag; the condition is answered from the link alone, as the registries do."""
        observed_at, registry_clock = self._begin("head_tag", repository, tag)
        digest = self.state.link_of(repository, tag)
        if digest is None:
            return NotFound(
                observed_at=observed_at, registry_clock=registry_clock, code=NotFoundCode.MANIFEST_UNKNOWN
            )
        if digest == if_digest:
            return Confirmed(observed_at=observed_at, registry_clock=registry_clock, digest=digest)
        return self._found(repository, digest, observed_at, registry_clock)

    async def head_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
        """Look at a manifest."""
        observed_at, registry_clock = self._begin("head_manifest", repository, digest)
        return self._found(repository, digest, observed_at, registry_clock)

    async def get_manifest(self, repository: RepositoryName, digest: Digest) -> ManifestRead:
        """Read a manifest; not found also where a capture holds no bytes of it."""
        observed_at, registry_clock = self._begin("get_manifest", repository, digest)
        stored = self.state.manifest(repository, digest)
        if stored is None or stored.content is None:
            return NotFound(
                observed_at=observed_at, registry_clock=registry_clock, code=NotFoundCode.MANIFEST_UNKNOWN
            )
        return ManifestContent(
            observed_at=observed_at,
            registry_clock=registry_clock,
            digest=digest,
            media_type=stored.media_type,
            content=stored.content,
        )

    async def get_blob(self, repository: RepositoryName, digest: Digest, *, limit: int) -> bytes | None:
        """Read a blob."""
        self._begin("get_blob", repository, digest)
        content = self.state.blob(repository, digest)
        if content is not None and len(content) > limit:
            raise RegistryMisbehaved(f"more than {limit} bytes")
        return content

    async def has_blob(self, repository: RepositoryName, digest: Digest) -> bool:
        """Look for a blob."""
        self._begin("has_blob", repository, digest)
        return self.state.blob(repository, digest) is not None

    async def put_blob(self, repository: RepositoryName, content: bytes) -> Digest:
        """Push a blob."""
        self._begin("put_blob", repository)
        return self.state.push_blob(repository, content)

    async def put_manifest(
        self, repository: RepositoryName, reference: TagName | Digest, content: bytes, *, media_type: str
    ) -> Digest:
        """Push a manifest."""
        self._begin("put_manifest", repository, reference)
        tag = None if ":" in reference else reference
        return self.state.push(repository, content, media_type=media_type, tag=tag)

    async def delete_manifest(self, repository: RepositoryName, digest: Digest) -> Deletion:
        """Delete by digest."""
        self._begin("delete_manifest", repository, digest)
        return Deletion.ACCEPTED if self.state.delete_manifest(repository, digest) else Deletion.ABSENT

    async def delete_tag(self, repository: RepositoryName, tag: TagName) -> Deletion:
        """Delete a tag, where the version can."""
        self._begin("delete_tag", repository, tag)
        if self.state.version is Version.V2_8:
            return Deletion.UNSUPPORTED
        return Deletion.ACCEPTED if self.state.delete_tag(repository, tag) else Deletion.ABSENT

    def _begin(self, *call: str) -> tuple[datetime, datetime]:
        """Date a call, let the world change, fail if a failure is due; the registry's clock has seconds."""
        self.asked.append(call)
        observed_at, registry_clock = self.clock(), self.state.clock().replace(microsecond=0)
        self.before_answer()
        if self.failures:
            raise self.failures.popleft()
        return observed_at, registry_clock

    def _found(
        self, repository: str, digest: Digest, observed_at: datetime, registry_clock: datetime
    ) -> ManifestAnswer:
        stored = self.state.manifest(repository, digest)
        if stored is None:
            return NotFound(
                observed_at=observed_at, registry_clock=registry_clock, code=NotFoundCode.MANIFEST_UNKNOWN
            )
        return Found(
            observed_at=observed_at,
            registry_clock=registry_clock,
            digest=digest,
            media_type=stored.media_type,
            size=stored.size,
        )


def _is_a_registry(registry: DirectRegistry) -> WritableRegistry:
    """Let the type checker hold this class to the protocol."""
    return registry
