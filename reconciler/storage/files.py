"""A storage on this machine's disks: what the driver ``filesystem`` writes.

Read by the system's own calls. obstore would follow a link anywhere, and does not list names like ``x#1``.

A symbolic link that leads out of the root directory is refused: what it points to is no registry's. One that stays
within is followed, as the registry follows it, but no second one behind it: so no circle is walked twice.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

from indexer.common.errors import StorageRefused, StorageUnavailable
from reconciler.storage.layout import ROOT
from reconciler.storage.objects import CHUNK, Chunk, Entry, Names, TagLinks, instant_of
from reconciler.storage.tag_links import LINK_BYTES, Dated, from_disk, from_listing

STREAM_BYTES: Final = 1024 * 1024
KNOWN_DIRECTORIES: Final = 4096
"""Directories that were found to lie within the root and are not checked again."""

_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})
_MARK: Final = re.compile(r"[0-9a-f]{16,64}")
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileStorage:
    """A :class:`~reconciler.storage.objects.Storage` below a directory: the driver's root directory."""

    def __init__(self, directory: Path) -> None:
        self._name = f"file://{directory}"
        try:
            self._root = os.path.realpath(directory, strict=True)
        except OSError as error:
            why = "does not exist" if error.errno in _GONE else f"cannot be read ({error.strerror})"
            raise StorageRefused(
                f"{directory} {why}: mount the registry's storage there, or set RECONCILER_STORAGE_URL to where it is"
            ) from None
        if not Path(self._root).is_dir():
            raise StorageRefused(
                f"{directory} is not a directory: set RECONCILER_STORAGE_URL to the registry's"
            )
        self._base = f"{self._root}/{ROOT}"
        self._checked = lru_cache(maxsize=KNOWN_DIRECTORIES)(self._check_within)
        with self._translating(self._root):
            os.scandir(self._root).close()

    @property
    def name(self) -> str:
        """See the protocol."""
        return self._name

    def is_empty(self) -> bool:
        """See the protocol."""
        return not self.list_names("")

    def list(self, prefix: str) -> Iterator[Chunk]:
        """See the protocol."""
        chunk: Chunk = []
        with self._translating(prefix):
            top = self._full(prefix)
            waiting = [(prefix.strip("/"), top, False)] if self._is_within(top) else []
        while waiting:
            directory, full, behind_link = waiting.pop()
            try:
                with os.scandir(full) as found:
                    for entry in found:
                        path = f"{directory}/{entry.name}" if directory else entry.name
                        is_link = entry.is_symlink()
                        if is_link:
                            self._follow(path, behind_link=behind_link)
                        if entry.is_dir():
                            waiting.append((path, entry.path, behind_link or is_link))
                        elif (of_file := _entry(path, entry)) is not None:
                            chunk.append(of_file)
                            if len(chunk) >= CHUNK:
                                yield chunk
                                chunk = []
            except OSError as error:
                if error.errno not in _GONE:
                    raise self._failure(error, directory) from error
        if chunk:
            yield chunk

    def list_each(self, prefix: str, name: str) -> Iterator[Chunk]:
        """See the protocol."""
        directory = prefix.strip("/")
        chunk: Chunk = []
        for below in self._scan(directory):
            if (found := self._entry_in(directory, below, name)) is not None:
                chunk.append(found)
                if len(chunk) >= CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk

    def _entry_in(self, directory: str, below: os.DirEntry[str], name: str) -> Entry | None:
        """Return a file of a directory; one that links lead to is looked for step by step."""
        path = f"{directory}/{below.name}/{name}"
        with self._translating(path):
            try:
                found = os.lstat(f"{below.path}/{name}")
            except OSError as error:
                if error.errno not in _GONE:
                    raise
                return None
            if below.is_symlink() or stat.S_ISLNK(found.st_mode):
                return self.stat(path)
        return Entry(path, found.st_size, instant_of(found.st_mtime)) if stat.S_ISREG(found.st_mode) else None

    def read_tags(self, prefix: str, names: Sequence[str] | None = None) -> Iterator[TagLinks]:
        """See the protocol."""
        directory = prefix.strip("/")
        full = self._full(directory)
        if not self._checked_within(directory, full):
            return
        with self._translating(directory):
            try:
                opened = os.open(full, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in _GONE:
                    return
                raise
        try:
            for name, is_plain in self._tags(directory, opened, names):
                yield from self._links(directory, opened, name, is_plain=is_plain)
        finally:
            os.close(opened)

    def _tags(self, directory: str, opened: int, names: Sequence[str] | None) -> Iterator[tuple[str, bool]]:
        """Yield names, each with whether a directory of this name is there, and no symbolic link."""
        if names is None:
            for entry in self._scan(directory):
                yield entry.name, entry.is_dir(follow_symlinks=False)
            return
        for name in names:
            try:
                found = os.stat(name, dir_fd=opened, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _GONE:
                    raise self._failure(error, f"{directory}/{name}") from error
                continue
            yield name, stat.S_ISDIR(found.st_mode)

    def _links(self, directory: str, opened: int, name: str, *, is_plain: bool) -> Iterator[TagLinks]:
        links = None
        if is_plain:
            try:
                links = from_disk(self._full(directory), opened, name)
            except OSError as error:
                raise self._failure(error, f"{directory}/{name}") from error
        if links is not None:
            yield links
        else:
            yield from from_listing(self.list(f"{directory}/{name}"), directory, self._read_dated)

    def _read_dated(self, paths: Iterable[str]) -> Iterator[tuple[str, Dated | None]]:
        for path in paths:
            opened = self._open(path)
            if opened is None:
                yield path, None
                continue
            descriptor, found = opened
            yield path, (self._read(path, descriptor, found, LINK_BYTES), instant_of(found.st_mtime))

    def list_names(self, prefix: str) -> Names:
        """See the protocol."""
        directory = prefix.strip("/")
        return [entry.name for entry in self._scan(directory)]

    def read(self, path: str, limit: int) -> bytes | None:
        """See the protocol."""
        opened = self._open(path)
        return None if opened is None else self._read(path, *opened, limit)

    def _read(self, path: str, descriptor: int, found: os.stat_result, limit: int) -> bytes:
        """Read a file that was opened, and close it. One byte more than it has shows that this is all of it."""
        try:
            content = os.read(descriptor, min(found.st_size, limit) + 1)
            while len(content) != found.st_size and len(content) <= limit:
                more = os.read(descriptor, limit + 1 - len(content))
                if not more:
                    break
                content += more
        except OSError as error:
            raise self._failure(error, path) from error
        finally:
            os.close(descriptor)
        return content

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[tuple[str, bytes | None]]:
        """See the protocol."""
        for path in paths:
            yield path, self.read(path, limit)

    def read_stream(self, path: str) -> Iterator[bytes] | None:
        """See the protocol."""
        opened = self._open(path)
        return None if opened is None else self._stream(path, opened[0])

    def _stream(self, path: str, descriptor: int) -> Iterator[bytes]:
        try:
            while True:
                with self._translating(path):
                    piece = os.read(descriptor, STREAM_BYTES)
                if not piece:
                    return
                yield piece
        finally:
            os.close(descriptor)

    def stat(self, path: str) -> Entry | None:
        """See the protocol."""
        opened = self._open(path)
        if opened is None:
            return None
        descriptor, found = opened
        os.close(descriptor)
        return Entry(path, found.st_size, instant_of(found.st_mtime))

    def replace(self, path: str, content: bytes, mark: str) -> bool:
        """See the protocol. Owner and rights of the file stay as they are."""
        opened = self._open(path)
        if opened is None:
            return False
        descriptor, before = opened
        os.close(descriptor)
        full = Path(os.path.realpath(self._full(path)))
        beside = _beside(full, mark)
        try:
            _write_like(beside, content, before)
            beside.replace(full)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            raise StorageRefused(
                f"{full} cannot be written by this user ({error.strerror}): run this as the registry's user, and mount "
                "the storage so that it may be written"
            ) from None
        return True

    def clear(self, path: str, mark: str) -> None:
        """See the protocol."""
        full = Path(os.path.realpath(self._full(path)))
        with self._translating(path):
            if self._is_within(str(full.parent)):
                _beside(full, mark).unlink(missing_ok=True)

    def _scan(self, directory: str) -> Iterator[os.DirEntry[str]]:
        """Yield what lies in a directory; nothing where it is gone, or is none."""
        full = self._full(directory)
        with self._translating(directory):
            if not self._is_within(full):
                return
            try:
                with os.scandir(full) as found:
                    yield from found
            except OSError as error:
                if error.errno not in _GONE:
                    raise

    def _open(self, path: str) -> tuple[int, os.stat_result] | None:
        """Open a plain file within the root; None: there is none."""
        full = self._full(path)
        if not self._checked_within(path, full.rpartition("/")[0]):
            return None
        try:
            descriptor = os.open(full, _FLAGS)
        except OSError as error:
            if error.errno in _GONE:
                return None
            if error.errno != errno.ELOOP:
                raise self._failure(error, path) from error
            with self._translating(path):
                self._follow(path, behind_link=False)
                return self._open_target(full)
        return _plain(descriptor)

    def _checked_within(self, path: str, directory: str) -> bool:
        try:
            return self._is_within(directory)
        except OSError as error:
            raise self._failure(error, path) from error

    def _open_target(self, full: str) -> tuple[int, os.stat_result] | None:
        """Open the file that a link points to, which lies within the root."""
        try:
            descriptor = os.open(os.path.realpath(full), _FLAGS)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise
        return _plain(descriptor)

    def _full(self, path: str) -> str:
        path = path.strip("/")
        if ".." in path.split("/"):
            raise ValueError(f"not a path below the root: {path!r}")
        return f"{self._base}/{path}" if path else self._base

    def _is_within(self, directory: str) -> bool:
        """Tell whether a directory is there; raise ``StorageRefused`` where links lead it out of the root."""
        try:
            self._checked(directory)
        except _NotThereError:
            return False
        return True

    def _check_within(self, directory: str) -> None:
        """Check each step from the root; what is not there raises, so that it is not remembered."""
        if directory == self._root:
            return
        self._checked(directory.rpartition("/")[0])
        try:
            is_link = stat.S_ISLNK(os.lstat(directory).st_mode)
        except OSError as error:
            if error.errno in _GONE:
                raise _NotThereError from None
            raise
        if is_link:
            self._check_target(directory, os.path.realpath(directory))

    def _follow(self, path: str, *, behind_link: bool) -> None:
        """Raise ``StorageRefused`` for a link that leads out, into itself, or that lies behind another link."""
        full = self._full(path)
        target = os.path.realpath(full)
        self._check_target(full, target)
        if behind_link or f"{full}/".startswith(f"{target}/"):
            raise StorageRefused(f"{full} is a symbolic link that leads in a circle: remove it")

    def _check_target(self, full: str, target: str) -> None:
        if not f"{target}/".startswith(f"{self._root}/"):
            raise StorageRefused(
                f"{full} is a symbolic link that leads out of {self._root}, to {target}: what lies there is not read; "
                "replace the link, or mount the other directory in its place"
            )

    @contextmanager
    def _translating(self, path: str) -> Iterator[None]:
        """Translate errors of the system into ours."""
        try:
            yield
        except OSError as error:
            raise self._failure(error, path) from error

    def _failure(self, error: OSError, path: str) -> StorageRefused | StorageUnavailable:
        where = error.filename or path or self._root
        if error.errno in _DENIED:
            return StorageRefused(
                f"{where} may not be read by this user: run the reconciler as the registry's user, or give its "
                "user the right to read the storage"
            )
        return StorageUnavailable(f"{where} cannot be read: {error.strerror}")


def _entry(path: str, entry: os.DirEntry[str]) -> Entry | None:
    """Return a plain file's size and time; None for what is none, or is gone."""
    try:
        found = entry.stat()
    except OSError as error:
        if error.errno not in _GONE:
            raise
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Entry(path, found.st_size, instant_of(found.st_mtime))


def _plain(descriptor: int) -> tuple[int, os.stat_result] | None:
    """Return a file that was opened with its size and times; close what is no plain file."""
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        return descriptor, found
    os.close(descriptor)
    return None


def _beside(path: Path, mark: str) -> Path:
    """Return where a file is written before it takes the place of another; no registry writes such a name."""
    if not _MARK.fullmatch(mark):
        raise ValueError(f"{mark!r} is no mark")
    return path.with_name(f"{path.name}.{mark}")


def _write_like(path: Path, content: bytes, like: os.stat_result) -> None:
    """Write a new file, to the disk, with the owner and the rights of another."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
        if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(descriptor, like.st_uid, like.st_gid)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _NotThereError(Exception):
    """A directory is not there."""
