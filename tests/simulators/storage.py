"""A registry's storage in memory: written as Distribution writes it, and served as Distribution serves it.

What it serves is written down here a second time, from the registry's code, so that it can contradict what we conclude.
"""

from __future__ import annotations

import builtins
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.oci import media_types
from indexer.oci.digest import Digest, digest_of
from reconciler.storage.objects import Entry, TagLinks
from reconciler.storage.tag_links import LINK_BYTES, Dated, from_listing

START = datetime(2026, 6, 1, tzinfo=UTC)


@dataclass
class MemoryStorage:
    """Files by path. ``reads``: how often something was read, by path."""

    files: dict[str, tuple[bytes, datetime]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    before_read: Callable[[str], None] = lambda _path: None
    name: str = "memory:"

    def list(self, prefix: str) -> Iterator[builtins.list[Entry]]:
        """List below a directory, in no good order, in small chunks."""
        found = [self._entry(path) for path in reversed(self.files) if path.startswith(f"{prefix}/")]
        for start in range(0, len(found), 3):
            yield found[start : start + 3]

    def list_each(self, prefix: str, name: str) -> Iterator[builtins.list[Entry]]:
        """List the files of one name, one level down."""
        for chunk in self.list(prefix):
            yield [each for each in chunk if each.path[len(prefix) + 1 :].split("/")[1:] == [name]]

    def read_tags(self, prefix: str, names: Sequence[str] | None = None) -> Iterator[TagLinks]:
        """Read the links of tags."""
        wanted = self.list_names(prefix) if names is None else names
        chunks = (chunk for tag in wanted for chunk in self.list(f"{prefix}/{tag}"))
        return from_listing(chunks, prefix, self._read_dated)

    def _read_dated(self, paths: Iterable[str]) -> Iterator[tuple[str, Dated | None]]:
        for path, content in self.read_many(paths, LINK_BYTES):
            yield path, None if content is None else (content, self.files[path][1])

    def list_names(self, prefix: str) -> builtins.list[str]:
        """List one level."""
        return sorted(
            {path[len(prefix) + 1 :].split("/")[0] for path in self.files if path.startswith(f"{prefix}/")}
        )

    def read(self, path: str, limit: int) -> bytes | None:
        """Read a file, up to one byte more than the limit."""
        self.before_read(path)
        self.reads.append(path)
        return self.files[path][0][: limit + 1] if path in self.files else None

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[tuple[str, bytes | None]]:
        """Read several, the last first."""
        for path in reversed(list(paths)):
            yield path, self.read(path, limit)

    def read_stream(self, path: str) -> Iterator[bytes] | None:
        """Read a file in pieces."""
        content = self.read(path, 1 << 40)
        return None if content is None else iter([content[:5], content[5:]])

    def stat(self, path: str) -> Entry | None:
        """Show one file."""
        return self._entry(path) if path in self.files else None

    def replace(self, path: str, content: bytes, mark: str) -> bool:
        """Write a file again."""
        assert mark
        if path not in self.files:
            return False
        self.files[path] = (content, self.files[path][1])
        return True

    def clear(self, path: str, mark: str) -> None:
        """Nothing is ever left."""

    def is_empty(self) -> bool:
        """Tell whether nothing is there."""
        return not self.files

    def _entry(self, path: str) -> Entry:
        content, modified_at = self.files[path]
        return Entry(path, len(content), modified_at)


def slashed(digest: str) -> str:
    """Return a digest as a path."""
    return digest.replace(":", "/")


def blob_at(digest: str) -> str:
    """Return where a blob lies."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}/data"


class StoredRegistry:
    """Writes what a registry writes. Every file gets a time of its own."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.now = START

    def put(self, path: str, content: bytes) -> None:
        """Write a file."""
        self.now += timedelta(seconds=1)
        self.storage.files[path] = (content, self.now)

    def blob(self, repository: str, content: bytes) -> Digest:
        """Push a blob, which is stored once, and linked in the repository."""
        digest = digest_of(content)
        if blob_at(digest) not in self.storage.files:
            self.put(blob_at(digest), content)
        self.put(f"repositories/{repository}/_layers/{slashed(digest)}/link", digest.encode())
        return digest

    def manifest(self, repository: str, document: dict[str, Any], tag: str | None = None) -> Digest:
        """Push a manifest, by a tag or by its digest."""
        content = json.dumps(document).encode()
        digest = digest_of(content)
        directory = f"repositories/{repository}/_manifests"
        if blob_at(digest) not in self.storage.files:
            self.put(blob_at(digest), content)
        self.put(f"{directory}/revisions/{slashed(digest)}/link", digest.encode())
        if tag is not None:
            self.put(f"{directory}/tags/{tag}/index/{slashed(digest)}/link", digest.encode())
            self.put(f"{directory}/tags/{tag}/current/link", digest.encode())
        return digest

    def image(
        self,
        repository: str,
        layers: Iterable[bytes],
        tag: str | None = None,
        *,
        subject: Digest | None = None,
        elsewhere: bytes | None = None,
    ) -> Digest:
        """Push an image with its blobs. ``elsewhere``: a layer with ``urls``, which is not stored."""
        layers = list(layers)
        config = json.dumps({"layers": [digest_of(layer) for layer in layers]}).encode()
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _descriptor(config, media_types.OCI_CONFIG),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        }
        for content in (config, *layers):
            self.blob(repository, content)
        if elsewhere is not None:
            foreign = _descriptor(elsewhere, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
            document["layers"].append({**foreign, "urls": ["https://layers.example/1"]})
        if subject is not None:
            document["subject"] = {"mediaType": media_types.OCI_MANIFEST, "digest": subject, "size": 2}
        return self.manifest(repository, document, tag)

    def index(
        self, repository: str, children: Iterable[Digest], tag: str | None = None, mark: str = ""
    ) -> Digest:
        """Push an index."""
        document = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [
                {"mediaType": media_types.OCI_MANIFEST, "digest": each, "size": self.size(each)}
                for each in children
            ],
            "annotations": {"mark": mark},
        }
        return self.manifest(repository, document, tag)

    def size(self, digest: Digest) -> int:
        """Return the size of a stored blob."""
        return len(self.storage.files[blob_at(digest)][0])

    def upload(self, repository: str, number: str, content: bytes) -> None:
        """Begin an upload, and do not finish it."""
        self.put(f"repositories/{repository}/_uploads/{number}/data", content)
        self.put(f"repositories/{repository}/_uploads/{number}/startedat", self.now.isoformat().encode())


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def sample_registry(seed: int) -> StoredRegistry:
    """Make a small registry with whatever real ones have: shared layers, indexes, referrers, moved tags, mounts."""
    rng = random.Random(seed)
    registry = StoredRegistry()
    layers = [f"layer {number} of {seed}".encode() * rng.randint(1, 9) for number in range(6)]
    for repository in rng.sample(["app", "team/app", "team/db", "team/app/sub", "zoo"], rng.randint(1, 4)):
        known: list[Digest] = []
        for number in range(rng.randint(1, 5)):
            tag = rng.choice([f"v{number}", "latest", None])
            kind = rng.random()
            if known and kind < 0.25:
                made = registry.index(
                    repository, rng.sample(known, rng.randint(1, len(known))), tag, f"{number}"
                )
            elif known and kind < 0.5:
                made = registry.image(repository, [rng.choice(layers)], tag, subject=rng.choice(known))
            else:
                chosen = rng.sample(layers, rng.randint(0, 3))
                elsewhere = b"foreign" if rng.random() < 0.2 else None
                made = registry.image(repository, chosen, tag, elsewhere=elsewhere)
            known.append(made)
        if rng.random() < 0.5:
            registry.upload(repository, "0e6f", b"half")
        if rng.random() < 0.5:
            registry.blob(repository, f"pushed alone {seed}".encode())
    return registry


class Served:
    """What a client gets of the storage, as far as Distribution 2.8 and 3.x serve it."""

    def __init__(self, storage: MemoryStorage) -> None:
        self._files = storage.files

    def repositories(self) -> set[str]:
        """Return the repositories."""
        return {
            path.removeprefix("repositories/").split("/_")[0]
            for path in self._files
            if path.startswith("repositories/") and "/_" in path
        }

    def tags(self, repository: str) -> set[str]:
        """Return the tags that are listed: the directories."""
        prefix = f"repositories/{repository}/_manifests/tags/"
        return {path.removeprefix(prefix).split("/")[0] for path in self._files if path.startswith(prefix)}

    def revisions(self, repository: str) -> set[str]:
        """Return the digests of which a link lies there, whatever is in it."""
        prefix = f"repositories/{repository}/_manifests/revisions/"
        return {
            ":".join(path.removeprefix(prefix).split("/")[:2])
            for path in self._files
            if path.startswith(prefix)
        }

    def pulls_tag(self, repository: str, tag: str) -> bool:
        """Tell whether a client can pull everything of a tag."""
        found = self._files.get(f"repositories/{repository}/_manifests/tags/{tag}/current/link")
        return found is not None and self.pulls(repository, found[0].decode(errors="replace"))

    def pulls(self, repository: str, digest: str) -> bool:
        """Tell whether a client can pull everything of a manifest: it compares digests, and takes no other bytes."""
        content = self._linked(repository, digest, ["_manifests/revisions", "_layers"])
        if content is None:
            return False
        try:
            document = json.loads(content)
        except ValueError:
            return False
        if document.get("schemaVersion") != 2:
            return False
        if "manifests" in document:
            return all(self.pulls(repository, each["digest"]) for each in document["manifests"])
        blobs = [document["config"], *(each for each in document["layers"] if not each.get("urls"))]
        return all(self._linked(repository, each["digest"], ["_layers"]) is not None for each in blobs)

    def _linked(self, repository: str, digest: str, directories: list[str]) -> bytes | None:
        for directory in directories:
            link = self._files.get(f"repositories/{repository}/{directory}/{slashed(digest)}/link")
            if link is None:
                continue
            stored = self._files.get(blob_at(link[0].decode(errors="replace")) if link[0] else "")
            right = stored is not None and digest_of(stored[0]) == digest
            return stored[0] if stored is not None and right else None
        return None
