"""Blobs: reads configs, and uploads (distribution spec 1.1, "Pulling blobs", "Pushing blobs").

With S3, GCS or Azure storage Distribution answers a blob's GET with a redirect to a presigned URL. It is followed
without our credentials, and the bytes must hash to the digest, whoever sent them.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci.digest import Digest, content_matches, digest_of
from indexer.oci.reference import RepositoryName
from reconciler.registry.auth import repository_scope
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, Request
from reconciler.registry.transport import Transport

CONFIG_LIMIT_BYTES: Final = 8 * 1024 * 1024
"""The largest config that is read; real ones are below 100 kB, mostly build history."""

_OK: Final = 200
_PARTIAL: Final = 206
_CREATED: Final = 201
_ACCEPTED: Final = 202
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TO_STORAGE: Final = 307
"""Distribution's answer where the storage serves blobs itself."""

_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405
_UNKNOWN: Final = frozenset({"BLOB_UNKNOWN", "NAME_UNKNOWN"})


async def get_blob(
    transport: Transport, repository: RepositoryName, digest: Digest, *, limit: int
) -> bytes | None:
    """Read a blob of at most ``limit`` bytes; None: the registry does not know it."""
    request = Request(
        method="GET",
        path=f"/v2/{repository}/blobs/{digest}",
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _NOT_FOUND, *_REDIRECTS}),
        limit=limit,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_FOUND:
        if not _UNKNOWN.intersection(answer.error_codes() or ()):
            raise RegistryMisbehaved(
                f"{answer.request_line}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return None
    if answer.status in _REDIRECTS:
        answer = await transport.fetch_redirected(answer, limit=limit)
    if not content_matches(answer.content, digest):
        raise RegistryMisbehaved(f"{request.method} {request.path}: the bytes do not hash to the digest")
    return answer.content


async def has_blob(transport: Transport, repository: RepositoryName, digest: Digest) -> bool:
    """Return whether a blob is there, by a GET of its first byte: a HEAD's 404 has no body that proves its sender.

    False also for an unknown repository (2.8.2 and 3.1.1 answer both alike here).
    """
    request = Request(
        method="GET",
        path=f"/v2/{repository}/blobs/{digest}",
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _PARTIAL, _NOT_FOUND, _TO_STORAGE}),
        limit=CONFIG_LIMIT_BYTES,
        headers={"Range": "bytes=0-0"},
    )
    answer = await transport.send(request)
    if answer.status == _NOT_FOUND:
        if not _UNKNOWN.intersection(answer.error_codes() or ()):
            raise RegistryMisbehaved(
                f"{answer.request_line}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return False
    if answer.status != _TO_STORAGE and answer.headers.get("Docker-Content-Digest") != digest:
        raise RegistryMisbehaved(f"{answer.request_line}: {answer.status}, but not with the blob")
    return True


async def delivers_blob(transport: Transport, repository: RepositoryName, digest: Digest) -> bool:
    """Return whether the first byte of a blob really arrives, also where the registry redirects to its storage.

    A registry with a cache of descriptors answers 200 for a blob that was collected, promises its bytes and sends none
    (read in its source): that raises ``RegistryUnavailable``, as an answer that breaks off. A blob without bytes raises
    ``RegistryMisbehaved`` (416).
    """
    headers = {"Range": "bytes=0-0"}
    request = Request(
        method="GET",
        path=f"/v2/{repository}/blobs/{digest}",
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _PARTIAL, _NOT_FOUND, *_REDIRECTS}),
        limit=SMALL_LIMIT_BYTES,
        headers=headers,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_FOUND:
        if not _UNKNOWN.intersection(answer.error_codes() or ()):
            raise RegistryMisbehaved(
                f"{answer.request_line}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return False
    if answer.status in _REDIRECTS:
        answer = await transport.fetch_redirected(
            answer,
            limit=SMALL_LIMIT_BYTES,
            headers=headers,
            expect=frozenset({_OK, _PARTIAL, _NOT_FOUND}),
        )
    return answer.status != _NOT_FOUND and len(answer.content) > 0


async def put_blob(transport: Transport, repository: RepositoryName, content: bytes) -> Digest:
    """Upload a blob: POST to start, PUT with all of its bytes."""
    digest = digest_of(content)
    path, query = await _start_upload(transport, repository)
    request = Request(
        method="PUT",
        path=path,
        query=[*query, ("digest", digest)],
        scope=repository_scope(repository, "pull", "push"),
        expect=frozenset({_CREATED}),
        limit=SMALL_LIMIT_BYTES,
        headers={"Content-Type": "application/octet-stream"},
        body=content,
        repeatable=False,
    )
    await transport.send(request)
    return digest


async def mount_blob(
    transport: Transport, repository: RepositoryName, digest: Digest, *, source: RepositoryName
) -> bool:
    """Have a repository serve a blob that another one serves; no bytes are sent.

    False: the registry begins an upload instead, since the other one does not serve it, or we may not read there. The
    upload is left unused, and the registry purges it.
    """
    scopes = (repository_scope(repository, "pull", "push"), repository_scope(source, "pull"))
    request = Request(
        method="POST",
        path=f"/v2/{repository}/blobs/uploads/",
        query=[("mount", digest), ("from", source)],
        scope=" ".join(scopes),
        expect=frozenset({_CREATED, _ACCEPTED, _NOT_ALLOWED}),
        limit=SMALL_LIMIT_BYTES,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_ALLOWED:
        raise RegistryDenied(f"{answer.request_line}: 405, the registry is read-only or a pull-through cache")
    return answer.status == _CREATED


async def _start_upload(
    transport: Transport, repository: RepositoryName
) -> tuple[str, list[tuple[str, str]]]:
    """Return path and query of a new upload. A repeated start leaves an unused upload, which the registry purges.

    Host and scheme of the Location are ignored: they come from request headers and proxies, and may be wrong or
    another server's.
    """
    request = Request(
        method="POST",
        path=f"/v2/{repository}/blobs/uploads/",
        scope=repository_scope(repository, "pull", "push"),
        expect=frozenset({_ACCEPTED, _NOT_ALLOWED}),
        limit=SMALL_LIMIT_BYTES,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_ALLOWED:
        raise RegistryDenied(f"{answer.request_line}: 405, the registry is read-only or a pull-through cache")
    location = urlsplit(answer.headers.get("Location", ""))
    start = location.path.find("/v2/")
    if start < 0:
        raise RegistryMisbehaved(f"{answer.request_line}: 202 without an upload address")
    return location.path[start:], parse_qsl(location.query, keep_blank_values=True)
