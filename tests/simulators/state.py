"""A registry's storage in memory, with the rules and the bugs of 2.8 and 3.x on a filesystem.

No HTTP and no waiting: operations happen at once and hand the events they make to ``listeners``, in the order
the registry would. The race between a push's event and its tag link is the caller's to play: push with
``link=False`` and write the link later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from indexer.oci.digest import Digest, digest_of, parse_digest
from tests.simulators.events import (
    OCTET_STREAM,
    RequestInfo,
    Source,
    Version,
    content_target,
    deletion_target,
    make_event,
)

Listener = Callable[[dict[str, Any]], None]


class CatalogPanic(Exception):  # noqa: N818 - it is what 3.x does
    """3.x: index out of range while filling a page; the connection is dropped."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest; ``content`` is None where only its digest, size and type are known (captures)."""

    digest: Digest
    media_type: str
    size: int
    content: bytes | None = None


@dataclass(slots=True)
class StoredRepository:
    """What a repository's directory holds.

    ``tags`` are the links, which may point at a manifest that is gone. The three flags are directories that
    stay when they are empty, and that listings go by.
    """

    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    has_layers: bool = False
    has_manifests: bool = False
    has_tags: bool = False


@dataclass(slots=True)
class RegistryState:
    """Everything a registry knows, and what it forgets to say.

    - ``omitted_repositories`` and ``omitted_tags`` (repository, tag) exist but are not listed: paging on S3
      (issue 4903).
    - ``is_on_s3``: with 3.x, tags/list passes over what a listed tag is the beginning of (issue 4891), and a repository
      that never was has "no tags". As 3.1.1 does.
    - ``catalog_ends_after``: a page that reaches this many names has no link, as if the catalog ended.
    """

    version: Version = Version.V3
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    repositories: dict[str, StoredRepository] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    omitted_repositories: set[str] = field(default_factory=set)
    omitted_tags: set[tuple[str, str]] = field(default_factory=set)
    is_on_s3: bool = False
    catalog_ends_after: int | None = None
    source: Source = field(default_factory=Source)

    @classmethod
    def from_truth(cls, truth: dict[str, Any]) -> Self:
        """Return the state that a capture's truth file describes; manifests' bytes are not in it."""
        state = cls(version=Version.V3 if str(truth["registry"]).startswith("3") else Version.V2_8)
        for name, stored in truth["repositories"].items():
            state.repositories[name] = _repository_of_truth(stored)
            listed = truth.get("api", {}).get("tags_list", {}).get(name, {})
            state.repositories[name].has_tags = bool(stored["tags"]) or listed.get("status") == 200
        return state

    # --- writing -----------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Come back as a new process: a new instance id; whoever queues events loses them."""
        self.source = replace(self.source, instance_id=Source().instance_id)

    def push_blob(self, repository: str, content: bytes, *, request: RequestInfo | None = None) -> Digest:
        """Store a blob; its event says octet-stream whatever it is."""
        digest = digest_of(content)
        stored = self.repositories.setdefault(repository, StoredRepository())
        stored.blobs[digest] = content
        stored.has_layers = True
        self.tell_content("push", repository, digest=digest, size=len(content), request=request)
        return digest

    def mount_blob(
        self, repository: str, digest: Digest, source: str, *, request: RequestInfo | None = None
    ) -> bool:
        """Mount a blob from ``source``; False (and no event) where it is not there."""
        content = self.repositories.get(source, StoredRepository()).blobs.get(digest)
        if content is None:
            return False
        stored = self.repositories.setdefault(repository, StoredRepository())
        stored.blobs[digest] = content
        stored.has_layers = True
        request = request or RequestInfo(method="POST")
        self.tell_content(
            "mount", repository, digest=digest, size=len(content), request=request, mounted_from=source
        )
        return True

    def push(
        self,
        repository: str,
        content: bytes,
        *,
        media_type: str,
        tag: str | None = None,
        link: bool = True,
        request: RequestInfo | None = None,
    ) -> Digest:
        """Store a manifest, tell, and only then write the tag link: the order of both versions."""
        digest = digest_of(content)
        stored = self.repositories.setdefault(repository, StoredRepository())
        stored.has_manifests = True
        stored.manifests[digest] = StoredManifest(digest, media_type, len(content), content)
        self.tell_content(
            "push",
            repository,
            digest=digest,
            size=len(content),
            media_type=media_type,
            tag=tag,
            request=request,
        )
        if tag is not None and link:
            self.write_link(repository, tag, digest)
        return digest

    def write_link(self, repository: str, tag: str, digest: Digest) -> None:
        """Point a tag at a digest, whether that digest is there or not; tells nothing."""
        stored = self.repositories.setdefault(repository, StoredRepository())
        stored.has_manifests = stored.has_tags = True
        stored.tags[tag] = digest

    def delete_manifest(self, repository: str, digest: Digest, *, request: RequestInfo | None = None) -> bool:
        """Delete by digest and take every tag of it along; False where it is not there."""
        stored = self.repositories.get(repository, StoredRepository())
        if digest not in stored.manifests:
            return False
        request = request or RequestInfo(method="DELETE")
        del stored.manifests[digest]
        self._tell_deletion(repository, digest=digest, request=request)
        for tag in sorted(tag for tag, target in stored.tags.items() if target == digest):
            del stored.tags[tag]
            self._tell_deletion(repository, tag=tag, request=request)
        return True

    def delete_tag(self, repository: str, tag: str, *, request: RequestInfo | None = None) -> bool:
        """Delete a tag alone, as only 3.x can; False where it is not there."""
        stored = self.repositories.get(repository, StoredRepository())
        if stored.tags.pop(tag, None) is None:
            return False
        self._tell_deletion(repository, tag=tag, request=request or RequestInfo(method="DELETE"))
        return True

    def delete_blob(self, repository: str, digest: Digest, *, request: RequestInfo | None = None) -> bool:
        """Delete a blob; the event has the same shape as a manifest's."""
        stored = self.repositories.get(repository, StoredRepository())
        if stored.blobs.pop(digest, None) is None:
            return False
        self._tell_deletion(repository, digest=digest, request=request or RequestInfo(method="DELETE"))
        return True

    def remove_silently(self, repository: str, *, tag: str | None = None) -> None:
        """Take a repository, or one tag, out of the storage behind everybody's back: no event."""
        if tag is None:
            self.repositories.pop(repository, None)
        else:
            self.repositories[repository].tags.pop(tag, None)

    # --- reading -----------------------------------------------------------------------------------------

    def link_of(self, repository: str, tag: str) -> Digest | None:
        """Return what a tag's link holds, without reading the manifest."""
        return self.repositories.get(repository, StoredRepository()).tags.get(tag)

    def manifest(self, repository: str, digest: Digest) -> StoredManifest | None:
        """Return a manifest of a repository."""
        return self.repositories.get(repository, StoredRepository()).manifests.get(digest)

    def blob(self, repository: str, digest: Digest) -> bytes | None:
        """Return a blob of a repository."""
        return self.repositories.get(repository, StoredRepository()).blobs.get(digest)

    def list_tags(self, repository: str) -> list[str] | None:
        """Return the names that tags/list gives; None where it answers NAME_UNKNOWN."""
        stored = self.repositories.get(repository)
        if self._hides_tags:
            return self._walk_tags(repository, last="")
        if stored is None or not stored.has_tags:
            return None
        names = [tag for tag in stored.tags if (repository, tag) not in self.omitted_tags]
        return sorted(names) if self.version is Version.V3 else names

    def list_tags_page(self, repository: str, size: int, last: str) -> list[str]:
        """Return one page of tags/list; 2.8 has no pages and gives everything."""
        if self._hides_tags:
            return self._walk_tags(repository, last=last)[:size]
        names = self.list_tags(repository) or []
        return names if self.version is Version.V2_8 else [name for name in names if name > last][:size]

    @property
    def _hides_tags(self) -> bool:
        return self.is_on_s3 and self.version is Version.V3

    def _walk_tags(self, repository: str, *, last: str) -> list[str]:
        """Walk the keys from ``last`` on as 3.1.1 does: below a tag everything is skipped that begins as it does."""
        stored = self.repositories.get(repository, StoredRepository())
        names: list[str] = []
        skipped = None
        for key in sorted(f"{tag}/current/link" for tag in stored.tags):
            tag = key.partition("/")[0]
            if key <= last or (skipped is not None and key.startswith(skipped)):
                continue
            skipped = tag
            if tag > last:
                names.append(tag)
        return names

    def catalog_page(self, size: int, last: str) -> tuple[list[str], bool]:
        """Return one catalog page and whether it has a link, by the walk the registries really do."""
        names: list[str] = []
        linked = False
        for repository in self._iterate_pages():
            if repository is None:
                # Only an ordinary directory makes the walk notice that the page is full. What follows a full
                # page at once without one (a parent after its last child) costs 2.8 the link and kills 3.x.
                linked = len(names) == size
                if linked:
                    break
            elif _components(last) < _components(repository):
                if len(names) >= size and self.version is Version.V3:
                    raise CatalogPanic
                names.append(repository)
        return self._shorten(names[:size], linked=linked)

    def _shorten(self, names: list[str], *, linked: bool) -> tuple[list[str], bool]:
        if self.catalog_ends_after is not None and len(names) >= self.catalog_ends_after:
            return names[: self.catalog_ends_after], False
        return names, linked

    def _iterate_pages(self) -> Iterator[str | None]:
        """Visit directories in order: a repository's name at its marker directory, None at any other."""
        marker = "_manifests" if self.version is Version.V3 else "_layers"
        markers = set[tuple[str, ...]]()
        directories = set[tuple[str, ...]]()
        for name, stored in self.repositories.items():
            parts = tuple(name.split("/"))
            directories.update(parts[: depth + 1] for depth in range(len(parts)))
            is_listed = stored.has_manifests if self.version is Version.V3 else stored.has_layers
            if is_listed and name not in self.omitted_repositories:
                markers.add((*parts, marker))
        for path in sorted(directories | markers):
            yield "/".join(path[:-1]) if path in markers else None

    # --- telling -----------------------------------------------------------------------------------------

    def tell_content(
        self,
        action: str,
        repository: str,
        *,
        digest: Digest,
        size: int,
        media_type: str = OCTET_STREAM,
        tag: str | None = None,
        request: RequestInfo | None = None,
        mounted_from: str | None = None,
    ) -> None:
        """Tell of a push, pull or mount."""
        request = request or RequestInfo()
        target = content_target(
            repository,
            digest=digest,
            media_type=media_type,
            size=size,
            tag=tag,
            host=request.host,
            resource="blobs" if media_type == OCTET_STREAM else "manifests",
        )
        if mounted_from is not None:
            target["fromRepository"] = mounted_from
        self._apply(action, target, request)

    def _tell_deletion(
        self, repository: str, *, request: RequestInfo, digest: Digest | None = None, tag: str | None = None
    ) -> None:
        self._apply("delete", deletion_target(self.version, repository, digest=digest, tag=tag), request)

    def _apply(self, action: str, target: dict[str, Any], request: RequestInfo) -> None:
        event = make_event(action, target, request=request, source=self.source, at=self.clock())
        for listener in self.listeners:
            listener(event)


def _components(name: str) -> str:
    """Return a key that compares as Distribution compares names: ``/`` before everything."""
    return name.replace("/", "\x00")


def _repository_of_truth(stored: dict[str, Any]) -> StoredRepository:
    manifests = {
        parse_digest(digest): StoredManifest(parse_digest(digest), each["mediaType"], each["size"])
        for digest, each in stored["manifests"].items()
    }
    tags = {tag: parse_digest(each["digest"]) for tag, each in stored["tags"].items()}
    directories = stored.get("dirs", ())
    return StoredRepository(
        tags=tags,
        manifests=manifests,
        has_layers="_layers" in directories,
        has_manifests="_manifests" in directories,
    )
