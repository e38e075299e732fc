"""A storage in a bucket: S3, Google Cloud Storage or Azure, through obstore.

Only obstore's blocking calls are used: a program that ends right after its asynchronous ones may be aborted (0.12.1).
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from indexer.common.errors import ConfigurationError, StorageError, StorageRefused, StorageUnavailable
from reconciler.storage.layout import ROOT
from reconciler.storage.objects import CHUNK, Chunk, Entry, Names, TagLinks
from reconciler.storage.tag_links import LINK_BYTES, Dated, from_listing

if TYPE_CHECKING:
    from reconciler.storage.whereabouts import Bucket

READERS: Final = 16
"""Requests at a time where many small files are read."""

STREAM_BYTES: Final = 1024 * 1024
TIMEOUT: Final = timedelta(seconds=60)
LONGEST_QUOTED: Final = 200

T = TypeVar("T")


class BucketStorage:
    """A :class:`~reconciler.storage.objects.Storage` in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        prefix = f"{bucket.prefix}/{ROOT}" if bucket.prefix else ROOT
        try:
            self._store = _open(bucket, prefix)
        except (BaseError, ValueError) as error:
            raise ConfigurationError(f"{bucket.url} cannot be used: {_words(error)}") from None

    @property
    def name(self) -> str:
        """See the protocol."""
        return self._bucket.url

    def is_empty(self) -> bool:
        """See the protocol."""
        with self._translating(""):
            return next(iter(obstore.list(self._store, chunk_size=1)), None) is None

    def list(self, prefix: str) -> Iterator[Chunk]:
        """See the protocol."""
        with self._translating(prefix):
            pages = iter(obstore.list(self._store, prefix=prefix or None, chunk_size=CHUNK))
        while True:
            with self._translating(prefix):
                page = next(pages, None)
            if page is None:
                return
            yield [Entry(found["path"], found["size"], found["last_modified"]) for found in page]

    def list_each(self, prefix: str, name: str) -> Iterator[Chunk]:
        """See the protocol."""
        depth = prefix.strip("/").count("/") + 2
        for chunk in self.list(prefix):
            kept = [
                each for each in chunk if each.path.count("/") == depth and each.path.endswith(f"/{name}")
            ]
            if kept:
                yield kept

    def read_tags(self, prefix: str, names: Sequence[str] | None = None) -> Iterator[TagLinks]:
        """See the protocol."""
        if names is None:
            yield from from_listing(self.list(prefix), prefix, self._read_dated)
            return
        chunks = (chunk for name in names for chunk in self.list(f"{prefix}/{name}"))
        yield from from_listing(chunks, prefix, self._read_dated)

    def list_names(self, prefix: str) -> Names:
        """See the protocol."""
        with self._translating(prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def read(self, path: str, limit: int) -> bytes | None:
        """See the protocol."""
        found = self._get(path, limit)
        return None if found is None else found[0]

    def _get(self, path: str, limit: int) -> Dated | None:
        """Return an object's content, and when that was written."""
        with self._translating(path):
            try:
                found = obstore.get(self._store, path)
                if found.meta["size"] <= limit:
                    return bytes(found.bytes()), found.meta["last_modified"]
                return bytes(obstore.get_range(self._store, path, start=0, end=limit + 1)), found.meta[
                    "last_modified"
                ]
            except FileNotFoundError:
                return None

    def read_many(self, paths: Iterable[str], limit: int) -> Iterator[tuple[str, bytes | None]]:
        """See the protocol."""
        return _each(paths, lambda path: self.read(path, limit))

    def _read_dated(self, paths: Iterable[str]) -> Iterator[tuple[str, Dated | None]]:
        return _each(paths, lambda path: self._get(path, LINK_BYTES))

    def read_stream(self, path: str) -> Iterator[bytes] | None:
        """See the protocol."""
        with self._translating(path):
            try:
                found = obstore.get(self._store, path)
            except FileNotFoundError:
                return None
        return self._stream(path, found)

    def _stream(self, path: str, found: Any) -> Iterator[bytes]:
        pieces = iter(found.stream(min_chunk_size=STREAM_BYTES))
        while True:
            with self._translating(path):
                piece = next(pieces, None)
            if piece is None:
                return
            yield bytes(piece)

    def stat(self, path: str) -> Entry | None:
        """See the protocol."""
        with self._translating(path):
            try:
                found = obstore.head(self._store, path)
            except FileNotFoundError:
                return None
        return Entry(path, found["size"], found["last_modified"])

    def replace(self, path: str, content: bytes, mark: str) -> bool:  # noqa: ARG002
        """See the protocol. A bucket writes an object as a whole."""
        if self.stat(path) is None:
            return False
        with self._translating(path):
            obstore.put(self._store, path, content)
        return True

    def clear(self, path: str, mark: str) -> None:
        """See the protocol: nothing is ever left."""

    @contextmanager
    def _translating(self, path: str) -> Iterator[None]:
        """Translate errors of obstore into ours."""
        try:
            yield
        except (BaseError, PermissionError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise self._failure(error, path) from error

    def _failure(self, error: BaseException, path: str) -> StorageError:
        words, bucket = str(error), self._bucket
        if (
            "PermanentRedirect" in words
            or "redirect without LOCATION" in words
            or "AuthorizationHeaderMalformed" in words
        ):
            return StorageRefused(
                f"{bucket.url} is in another region than the one that is set: set the bucket's region (AWS_REGION, or "
                "storage.s3.region of the registry's configuration)"
            )
        if "NoSuchBucket" in words or "ContainerNotFound" in words:
            return StorageRefused(f"there is no bucket {bucket.name!r} where {bucket.url} is looked for")
        if (
            isinstance(error, PermissionError | PermissionDeniedError | UnauthenticatedError)
            or "AccessDenied" in words
            or "InvalidAccessKeyId" in words
            or "SignatureDoesNotMatch" in words
        ):
            return StorageRefused(
                f"{bucket.url} may not be read with these credentials: they need the right to list the bucket and to "
                "get its objects"
            )
        return StorageUnavailable(f"{bucket.url}/{path}: {_words(error)}")


def _each(paths: Iterable[str], read: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    """Yield each path with what is read of it, many at a time."""
    waiting: deque[tuple[str, Future[T]]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="storage") as readers:
        try:
            for path in paths:
                waiting.append((path, readers.submit(read, path)))
                if len(waiting) > 2 * READERS:
                    first, reading = waiting.popleft()
                    yield first, reading.result()
            while waiting:
                first, reading = waiting.popleft()
                yield first, reading.result()
        finally:
            readers.shutdown(wait=True, cancel_futures=True)


def _open(bucket: Bucket, prefix: str) -> Any:
    client: Any = {"timeout": TIMEOUT, "connect_timeout": timedelta(seconds=10)}
    if bucket.plain_http:
        client["allow_http"] = True
    if bucket.any_certificate:
        client["allow_invalid_certificates"] = True
    shared: Any = {
        "prefix": prefix,
        "client_options": client,
        "retry_config": {"max_retries": 5, "retry_timeout": TIMEOUT},
    }
    options: Any = dict(bucket.options)
    match bucket.kind:
        case "s3":
            return S3Store(bucket.name, config=options, **shared)
        case "gs":
            return GCSStore(bucket.name, config=options, **shared)
    return AzureStore(bucket.name, config=options, **shared)


def _words(error: BaseException) -> str:
    """Return the first line of what obstore says, without the debug text that follows."""
    lines = str(error).splitlines()
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= LONGEST_QUOTED else json.dumps(text[:LONGEST_QUOTED])
