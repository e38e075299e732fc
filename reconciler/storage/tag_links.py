"""The links of tags: what they hold, and when they were written; from a listing, or straight from a disk.

A disk is read without listing what lies in a tag's directories: its names are known. That takes a third of the time.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final, TypeAlias

from indexer.oci.digest import Digest, is_digest
from reconciler.storage.layout import parse_link
from reconciler.storage.objects import Chunk, TagLinks, instant_of

LINK_BYTES: Final = 256
"""A longer link is none."""

ALGORITHMS: Final = ("sha256", "sha512")

Dated: TypeAlias = tuple[bytes, datetime]
"""A file's content, and when that was written."""

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CURRENT: Final = ("current", "link")
_INDEX_PARTS: Final = 4


def from_listing(
    chunks: Iterable[Chunk], prefix: str, read: Callable[[Iterable[str]], Iterator[tuple[str, Dated | None]]]
) -> Iterator[TagLinks]:
    """Yield the links of the tags whose files were listed. ``read``: reads the files at paths, with their times.

    A link's time is that of the file that was read: a push between listing and reading has written another one.
    """
    index: dict[str, list[tuple[Digest, datetime]]] = {}
    current: set[str] = set()
    start = len(prefix) + 1
    for chunk in chunks:
        for entry in chunk:
            tag, *rest = entry.path[start:].split("/")
            if tuple(rest) == _CURRENT:
                current.add(tag)
                index.setdefault(tag, [])
            elif len(rest) == _INDEX_PARTS and rest[0] == "index" and rest[3] == "link":
                text = f"{rest[1]}:{rest[2]}"
                if is_digest(text):
                    index.setdefault(tag, []).append((Digest(text), entry.modified_at))
    read_at = datetime.now(UTC)
    for tag in index.keys() - current:
        yield TagLinks(tag, None, read_at, read_at)
    paths = {f"{prefix}/{tag}/current/link": tag for tag in current}
    for path, found in read(paths):
        tag = paths[path]
        if found is None:
            yield TagLinks(tag, None, read_at, read_at)
            continue
        content, written_at = found
        digest = parse_link(content)
        earlier = tuple(each for each in index[tag] if each[0] != digest)
        yield TagLinks(tag, digest, written_at, read_at, earlier)


def from_disk(directory: str, opened: int, tag: str) -> TagLinks | None:
    """Return the links of a tag; None: they are to be listed, since not everything is as usual.

    ``opened``: a descriptor of the directory of the tags, in which the tag's must be no symbolic link. No other is
    followed either: where a directory or a file on the way is one, the answer is None. Raises ``OSError`` for what may
    not be read.
    """
    read_at = datetime.now(UTC)
    try:
        if not _is_directory(f"{tag}/current", opened):
            return None
        found = _read(f"{tag}/current/link", opened)
        if found is None or not _is_directory(f"{tag}/index", opened):
            return None
        content, written_at = found
        digest = parse_link(content)
        earlier = _earlier(directory, opened, f"{tag}/index", digest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if earlier is None else TagLinks(tag, digest, written_at, read_at, earlier)


def _earlier(
    directory: str, opened: int, index: str, current: Digest | None
) -> tuple[tuple[Digest, datetime], ...] | None:
    """Return the digests of an index but the current one; None: something in it is a symbolic link."""
    found: list[tuple[Digest, datetime]] = []
    for algorithm in ALGORITHMS:
        below = f"{index}/{algorithm}"
        try:
            if not _is_directory(below, opened):
                return None
        except FileNotFoundError:
            continue
        for encoded in os.listdir(f"{directory}/{below}"):  # noqa: PTH208 - an object for each name takes twice as long
            text = f"{algorithm}:{encoded}"
            if text == current or not is_digest(text):
                continue
            try:
                link = os.stat(f"{below}/{encoded}/link", dir_fd=opened, follow_symlinks=False)
            except FileNotFoundError:
                continue
            if not (stat.S_ISREG(link.st_mode) and _is_directory(f"{below}/{encoded}", opened)):
                return None
            found.append((Digest(text), instant_of(link.st_mtime)))
    return tuple(found)


def _is_directory(path: str, opened: int) -> bool:
    """Tell whether there is a directory, and no symbolic link to one. From ``opened`` on, the way is short."""
    return stat.S_ISDIR(os.stat(path, dir_fd=opened, follow_symlinks=False).st_mode)


def _read(path: str, opened: int) -> Dated | None:
    """Return what a small plain file holds, and when that was written; None where it is none, or is being written."""
    try:
        descriptor = os.open(path, _FLAGS, dir_fd=opened)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError):
            raise
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        content = os.read(descriptor, LINK_BYTES + 1)
    finally:
        os.close(descriptor)
    return (content, instant_of(found.st_mtime)) if len(content) == found.st_size else None
