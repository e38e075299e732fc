"""A registry's storage as files below ``layout.ROOT``, whatever the driver: listed, read, asked for.

Every method blocks; call it in a worker thread. Paths are those of ``layout``: relative, with ``/``. Nothing relies on
an order: a disk lists in none. What is not a plain file is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

from indexer.common.errors import StorageError, StorageRefused, StorageUnavailable

if TYPE_CHECKING:
    from indexer.oci.digest import Digest
    from indexer.settings import Settings

__all__ = [
    "CHUNK",
    "Chunk",
    "Entry",
    "Names",
    "Storage",
    "StorageError",
    "StorageRefused",
    "StorageUnavailable",
    "TagLinks",
    "WritableStorage",
    "instant_of",
    "open_storage",
]

CHUNK: Final = 1000
"""Entries at a time: a page of S3."""

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Entry(NamedTuple):
    """A file: where it lies, its size, and when it was last written, as the storage says."""

    path: str
    size_bytes: int
    modified_at: datetime


Chunk: TypeAlias = list[Entry]
Names: TypeAlias = list[str]


class TagLinks(NamedTuple):
    """The links of a tag.

    - ``digest``: what its current link holds; None: that is missing, empty or no digest.
    - ``written_at``: when the current link was written: the file whose content was read, not another of that name.
    - ``read_at``: our clock before it was read.
    - ``earlier``: the other digests of its index, each with when that link was written.
    """

    tag: str
    digest: Digest | None
    written_at: datetime
    read_at: datetime
    earlier: tuple[tuple[Digest, datetime], ...] = ()


class Storage(Protocol):
    """Reads a storage. Raises ``StorageRefused`` where it may not be read, ``StorageUnavailable`` for no answer."""

    @property
    def name(self) -> str:
        """What to call it in messages: its URL, without secrets."""
        ...

    def list(self, prefix: str) -> Iterator[Chunk]:
        """Yield every file below a directory, however deep, in chunks; nothing where there is no such directory.

        A file that appears or goes meanwhile may be in it or not.
        """
        ...

    def list_each(self, prefix: str, name: str) -> Iterator[Chunk]:
        """Yield the file ``name`` of every directory that lies directly in a directory, in chunks."""
        ...

    def read_tags(self, prefix: str, names: Sequence[str] | None = None) -> Iterator[TagLinks]:
        """Yield what the links of tags hold, of these names or of all; ``prefix``: the directory of the tags.

        In any order. What has no links is left out; names are not checked for being tags.
        """
        ...

    def list_names(self, prefix: str) -> Names:
        """Return the names of files and directories directly in a directory; empty where there is none."""
        ...

    def read(self, path: str, limit: int) -> bytes | None:
        """Return a file's content; None: there is none. What is longer than ``limit`` is cut after ``limit + 1`` bytes.

        So a length beyond ``limit`` says that the file is longer.
        """
        ...

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[tuple[str, bytes | None]]:
        """Yield each path with what :meth:`read` returns for it, in any order; many at a time where that is faster."""
        ...

    def read_stream(self, path: str) -> Iterator[bytes] | None:
        """Return a file's content in pieces of about 1 MiB; None: there is none."""
        ...

    def stat(self, path: str) -> Entry | None:
        """Return a file's size and time; None: there is none."""
        ...

    def is_empty(self) -> bool:
        """Tell whether nothing at all lies where a registry keeps everything."""
        ...


class WritableStorage(Storage, Protocol):
    """A storage in which a file may be written again; nothing else is ever written."""

    def replace(self, path: str, content: bytes, mark: str) -> bool:
        """Write a small file again, as a whole or not at all; False, and nothing is written, if it is not there.

        ``mark``: of this one writing, hexadecimal. What it leaves beside the file if the process is killed in the
        middle, :meth:`clear` finds by it.
        """
        ...

    def clear(self, path: str, mark: str) -> None:
        """Remove what a killed :meth:`replace` with that mark left beside a file; nothing else."""
        ...


def open_storage(settings: Settings, environ: Mapping[str, str] | None = None) -> WritableStorage:
    """Return the storage that the settings name.

    ``environ``: where ``REGISTRY_STORAGE…`` is looked up beside the registry's configuration. Raises
    ``ConfigurationError`` where none is named or the configuration cannot be used, ``StorageRefused`` where it names
    what is not there.
    """
    import os  # noqa: PLC0415 - only for its variables

    from reconciler.storage.buckets import BucketStorage  # noqa: PLC0415 - loads a library of 10 MB
    from reconciler.storage.files import FileStorage  # noqa: PLC0415
    from reconciler.storage.whereabouts import Directory, whereabouts_of  # noqa: PLC0415

    where = whereabouts_of(settings, os.environ if environ is None else environ)
    return FileStorage(where.path) if isinstance(where, Directory) else BucketStorage(where)


def instant_of(seconds: float) -> datetime:
    """Return a file's time as an instant; one that no calendar has is moved to the nearest year that has it."""
    try:
        return min(max(datetime.fromtimestamp(seconds, UTC), _EARLIEST), _LATEST)
    except (OverflowError, ValueError, OSError):
        return _LATEST if seconds > 0 else _EARLIEST
