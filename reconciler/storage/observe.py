"""Reads a registry's storage for ``check`` and ``report``: blobs, then repository by repository.

Everything here is synchronous and runs in a worker thread: the library aborts at the end of a short program that awaits
it. A registry that runs writes meanwhile. It writes bytes before links, and a tag last; so tags are read before what
they point to, and blobs that the first listing does not have are asked for again before they are called missing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from indexer.oci.digest import Digest, content_matches
from indexer.oci.reference import RepositoryName, TagName, is_repository_name
from reconciler.storage import layout
from reconciler.storage.bytes import Holdings
from reconciler.storage.contents import Contents, Illegible, read_manifest
from reconciler.storage.damage import BlobsRead, Link, RepositoryRead, Upload, link_target
from reconciler.storage.layout import Blob, LayerLink, Place, Revision, TagCurrent, TagIndex

if TYPE_CHECKING:
    from reconciler.storage.objects import Entry, Storage

LONGEST_LINK: Final = 256
"""A link holds a digest: 71 bytes, or 135. More is no link; so much is read of it."""
LONGEST_MANIFEST: Final = 4 * 1024 * 1024
"""The registry takes no longer one."""
BATCH: Final = 1000
CACHED: Final = 50_000
"""Contents of so many manifests are kept, because repositories share them."""

K = TypeVar("K")


@dataclass(slots=True)
class Others:
    """Bytes and files beside blobs. ``unknown``: no registry writes files of these names."""

    link_bytes: int = 0
    links: int = 0
    upload_bytes: int = 0
    uploads: int = 0
    unknown_bytes: int = 0
    unknown: int = 0
    examples: list[str] = field(default_factory=list)

    def count_unknown(self, entry: Entry) -> None:
        """Count a file that is not the registry's."""
        self.unknown += 1
        self.unknown_bytes += entry.size_bytes
        if len(self.examples) < EXAMPLES:
            self.examples.append(entry.path)


EXAMPLES: Final = 5


class Reader:
    """Reads one storage. ``going_on`` is called between requests and raises to end the work."""

    def __init__(
        self,
        storage: Storage,
        *,
        going_on: Callable[[], None] = lambda: None,
        bytes_a_second: float | None = None,
    ) -> None:
        self._storage = storage
        self._going_on = going_on
        self._rate = bytes_a_second
        self._cache: dict[Digest, Contents | Illegible] = {}
        self.others = Others()
        self.sizes: dict[Digest, int] = {}
        self.wrong: set[Digest] = set()
        self.proven: set[Digest] = set()
        """Blobs whose bytes were compared with their digests, and are right."""

    def list_blobs(self) -> None:
        """List all blobs with their sizes."""
        for chunk in self._storage.list(layout.BLOBS):
            self._going_on()
            for entry in chunk:
                place = layout.parse(entry.path)
                if isinstance(place, Blob):
                    self.sizes[place.digest] = entry.size_bytes
                else:
                    self.others.count_unknown(entry)

    def repositories(self) -> list[RepositoryName]:
        """Return the names of all repositories: directories with one whose name begins with an underscore."""
        found: list[RepositoryName] = []
        waiting = [layout.REPOSITORIES]
        while waiting:
            self._going_on()
            path = waiting.pop()
            names = list(self._storage.list_names(path))
            name = path.removeprefix(layout.REPOSITORIES).lstrip("/")
            if any(each.startswith("_") for each in names) and is_repository_name(name):
                found.append(RepositoryName(name))
            waiting += [f"{path}/{each}" for each in names if not each.startswith("_")]
        return found

    def repository(
        self, name: RepositoryName, *, links: bool = True, counting: bool = True
    ) -> RepositoryRead:
        """Read a repository. ``links`` False: only the links of tags, which is enough for bytes.

        ``counting``: add what lies beside blobs to ``others``; not when it is read a second time.
        """
        others = self.others if counting else Others()
        currents: dict[TagName, Entry] = {}
        histories: dict[TagName, dict[Digest, Entry]] = {}
        revisions: dict[Digest, Entry] = {}
        layers: dict[Digest, Entry] = {}
        uploads: dict[str, Upload] = {}
        for entry, place in self._files_of(name, others):
            match place:
                case TagCurrent():
                    currents[place.tag] = entry
                case TagIndex():
                    histories.setdefault(place.tag, {})[place.digest] = entry
                case Revision():
                    revisions[place.digest] = entry
                case LayerLink():
                    layers[place.digest] = entry
                case layout.Upload():
                    before = uploads.get(place.id)
                    uploads[place.id] = Upload(
                        place.id,
                        entry.size_bytes + (before.size_bytes if before else 0),
                        max(entry.modified_at, before.modified_at) if before else entry.modified_at,
                    )
                case _:
                    continue
        others.uploads += len(uploads)
        read_currents = self._links(currents, read=True)
        pairs = {(tag, digest): each for tag, of_tag in histories.items() for digest, each in of_tag.items()}
        read_histories: dict[TagName, dict[Digest, Link]] = {}
        for (tag, digest), link in self._links(pairs, read=links, named=lambda key: key[1]).items():
            read_histories.setdefault(tag, {})[digest] = link
        return RepositoryRead(
            name=name,
            currents=read_currents,
            histories=read_histories,
            revisions=self._links(revisions, read=links, named=lambda key: key),
            layers=self._links(layers, read=links, named=lambda key: key),
            uploads=sorted(uploads.values(), key=lambda each: each.id),
        )

    def _files_of(self, name: RepositoryName, others: Others) -> Iterator[tuple[Entry, Place]]:
        """List a repository: tags first, because a push writes them last."""
        directory = layout.repository_directory(name)
        for part in (layout.MANIFESTS, layout.LAYERS, layout.UPLOADS):
            for chunk in self._storage.list(f"{directory}/{part}"):
                self._going_on()
                for entry in chunk:
                    place = layout.parse(entry.path)
                    if place is None:
                        others.count_unknown(entry)
                        continue
                    if isinstance(place, layout.Upload):
                        others.upload_bytes += entry.size_bytes
                    else:
                        others.links += 1
                        others.link_bytes += entry.size_bytes
                    yield entry, place

    def _links(
        self,
        entries: Mapping[K, Entry],
        *,
        read: bool,
        named: Callable[[K], Digest] | None = None,
    ) -> dict[K, Link]:
        """Read links. ``read`` False: take the digest that each one's path names for what it holds."""
        if not read and named is not None:
            return {key: Link(named(key), each.size_bytes, each.modified_at) for key, each in entries.items()}
        found: dict[K, Link] = {}
        keys = {entry.path: key for key, entry in entries.items()}
        for path, content in self._read_all(list(keys), LONGEST_LINK):
            if content is not None:  # else it was removed since it was listed
                key = keys[path]
                found[key] = Link(layout.parse_link(content), len(content), entries[key].modified_at)
        return found

    def _read_all(self, paths: Sequence[str], limit: int) -> Iterator[tuple[str, bytes | None]]:
        for start in range(0, len(paths), BATCH):
            self._going_on()
            yield from self._storage.read_many(paths[start : start + BATCH], limit)

    # -- bytes

    def read_manifests(self, digests: Iterable[Digest]) -> Mapping[Digest, Contents | Illegible]:
        """Return what manifests refer to, or why that cannot be read. Their bytes are compared with their digests.

        Those that are not stored, and those whose bytes are wrong, are left out; the latter are in ``wrong`` then.
        """
        found: dict[Digest, Contents | Illegible] = {}
        unread = []
        for digest in digests:
            if digest in self._cache:
                found[digest] = self._cache[digest]
            elif digest not in self.wrong:
                unread.append(digest)
        self.ask_again(unread)
        paths = {}
        for digest in unread:
            size = self.sizes.get(digest, 0)
            if size > LONGEST_MANIFEST:
                if not self.has_wrong_bytes(digest):
                    found[digest] = Illegible(f"it has {size} bytes", is_none=True)
            elif digest in self.sizes:
                paths[layout.blob_path(digest)] = digest
        for path, content in self._read_all(list(paths), LONGEST_MANIFEST):
            read = self._read_manifest(paths[path], content)
            if read is not None:
                found[paths[path]] = self._cached(paths[path], read)
        return found

    def _cached(self, digest: Digest, read: Contents | Illegible) -> Contents | Illegible:
        if len(self._cache) >= CACHED:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = read
        return read

    def _read_manifest(self, digest: Digest, content: bytes | None) -> Contents | Illegible | None:
        if content is None:
            self.sizes.pop(digest, None)
            return None
        if not content_matches(content, digest):
            self.wrong.add(digest)
            return None
        self.proven.add(digest)
        return read_manifest(content)

    def ask_again(self, digests: Iterable[Digest]) -> None:
        """Ask for blobs that the listing did not have: they may have been stored since."""
        for digest in digests:
            if digest not in self.sizes:
                entry = self._storage.stat(layout.blob_path(digest))
                if entry is not None:
                    self.sizes[digest] = entry.size_bytes

    def forget_missing(self, digests: Iterable[Digest]) -> None:
        """Ask whether blobs are still there, and forget those that are not."""
        for digest in digests:
            entry = self._storage.stat(layout.blob_path(digest))
            if entry is None:
                self.sizes.pop(digest, None)
                self.wrong.discard(digest)

    def has_wrong_bytes(self, digest: Digest, *, again: bool = False) -> bool:
        """Compare the bytes of a stored blob with its digest, at a bounded rate. A blob that is gone is not wrong."""
        if not again and (digest in self.proven or digest in self.wrong):
            return digest in self.wrong
        algorithm, _, encoded = digest.partition(":")
        hashing = hashlib.new(algorithm)
        pieces = self._storage.read_stream(layout.blob_path(digest))
        if pieces is None:
            self.sizes.pop(digest, None)
            return False
        size, began = 0, time.monotonic()
        for piece in pieces:
            hashing.update(piece)
            size += len(piece)
            self._going_on()
            self._rest(size, began)
        is_wrong = hashing.hexdigest() != encoded
        self.sizes[digest] = size
        (self.wrong if is_wrong else self.proven).add(digest)
        if not is_wrong:
            self.wrong.discard(digest)
        return is_wrong

    def _rest(self, size: int, began: float) -> None:
        if self._rate:
            ahead = size / self._rate - (time.monotonic() - began)
            if ahead > 0:
                time.sleep(ahead)

    def blobs_read(self, contents: Mapping[Digest, Contents | Illegible]) -> BlobsRead:
        """Return what was read of blobs, as the judgement takes it."""
        return BlobsRead(sizes=self.sizes, wrong=self.wrong, contents=contents)


def holdings_of(read: RepositoryRead) -> Holdings:
    """Return what the repository links, as the accounts take it."""
    history: dict[Digest, datetime] = {}
    for of_tag in read.histories.values():
        for digest, link in of_tag.items():
            if link.modified_at is not None:
                history[digest] = max(history.get(digest, link.modified_at), link.modified_at)
    return Holdings(
        name=read.name,
        tags={tag: link.digest for tag, link in read.currents.items() if link.digest is not None},
        history=history,
        revisions={link_target(digest, link) for digest, link in read.revisions.items()},
    )
