"""Manifests: HEAD and GET by tag or digest, PUT and DELETE.

What was measured on 2.8.2 and 3.1.1 and is relied on here:

- ``If-None-Match`` on a *tag* answers 304 as long as the tag's link has that digest; the registry reads no manifest and
  sends no event. On a *digest* it always answers 304, even for one that never existed, so it is not sent there.
- A 404 to a HEAD has no body, so it may be a proxy's. A 404 to a GET has the registry's error code; only that counts as
  absence.
- With fewer than the four Accept types the answer is about other content; see ``MANIFEST_ACCEPT``. A proxy that
  shortens the header, or a cache that ignores it, gets the first child of a Docker list or, from 2.8, a conversion to
  schema 1, with a 200 for the tag. The tag's link proves it: ``If-None-Match`` is compared with the link before
  anything is converted, so a digest that was served and is not in the link is not the tag's. This is checked if the
  media type is one of a conversion and the digest is not the one on record.
"""

from __future__ import annotations

import re
from typing import Final

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci import media_types
from indexer.oci.digest import Digest, content_matches, digest_of, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import (
    Confirmed,
    Deletion,
    Found,
    ManifestAnswer,
    ManifestContent,
    ManifestRead,
    NotFound,
    NotFoundCode,
    TagAnswer,
)
from reconciler.registry.auth import repository_scope
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, Once, RegistryResponse, Request
from reconciler.registry.transport import Transport

MANIFEST_LIMIT_BYTES: Final = 4 * 1024 * 1024 + 64 * 1024
"""Distribution refuses manifests above 4 MiB; some more is for those stored by other means."""

_OK: Final = 200
_CREATED: Final = 201
_ACCEPTED: Final = 202
_NOT_MODIFIED: Final = 304
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405
_ACCEPT: Final = {"Accept": media_types.MANIFEST_ACCEPT}
_CONVERTED: Final = frozenset(
    {media_types.DOCKER_MANIFEST, media_types.DOCKER_SCHEMA1, media_types.DOCKER_SCHEMA1_SIGNED}
)
_NARROWED: Final = "a proxy or cache in front of the registry does not pass on our Accept header"
_BY_ACCEPT: Final = re.compile(r"accept header does not support", re.IGNORECASE)
"""The message of 2.8.2 and 3.1.1, with MANIFEST_UNKNOWN, for an OCI manifest or index that Accept did not include."""


async def head_tag(
    transport: Transport,
    repository: RepositoryName,
    tag: TagName,
    *,
    if_digest: Digest | None,
    on_record: Digest | None = None,
) -> TagAnswer:
    """Return where ``tag`` points: by a HEAD, and by a GET if the HEAD does not say enough.

    A digest that equals ``on_record`` is not checked for being a conversion.
    """
    answer = await _head(transport, repository, tag, if_digest=if_digest)
    if answer.status == _NOT_MODIFIED:
        if if_digest is None:
            raise RegistryMisbehaved(f"{answer.request_line}: 304 to a request without a condition")
        return Confirmed(
            observed_at=answer.observed_at, registry_clock=answer.registry_clock, digest=if_digest
        )
    found = _found_by_head(answer) or await _answer_by_reading(transport, repository, tag)
    if isinstance(found, Found) and found.digest != on_record and found.media_type in _CONVERTED:
        await _refuse_converted(transport, repository, tag, found)
    return found


async def _refuse_converted(
    transport: Transport, repository: RepositoryName, tag: TagName, found: Found
) -> None:
    """Raise ``RegistryMisbehaved`` if the tag's link does not have the digest that was served for it."""
    by_tag = await _head(transport, repository, tag, if_digest=found.digest)
    if by_tag.status != _OK or by_tag.headers.get("Docker-Content-Digest") != found.digest:
        return  # 304: the link has it. Otherwise the tag was moved or deleted meanwhile: the next observation shows it
    by_digest = await _head(transport, repository, found.digest, if_digest=found.digest)
    if by_digest.status == _NOT_MODIFIED:  # so the proxy does pass conditions on
        raise RegistryMisbehaved(
            f"{by_tag.request_line}: {found.media_type} {found.digest} was served, but the tag does not point to it: "
            f"converted, because {_NARROWED}"
        )


async def head_manifest(transport: Transport, repository: RepositoryName, digest: Digest) -> ManifestAnswer:
    """Return whether the manifest is served: by an unconditional HEAD, and by a GET before it counts as absent."""
    answer = await _head(transport, repository, digest, if_digest=None)
    found = _found_by_head(answer)
    if found is not None and found.digest != digest:
        raise RegistryMisbehaved(f"{answer.request_line}: answered about {found.digest}")
    return found or await _answer_by_reading(transport, repository, digest)


async def get_manifest(transport: Transport, repository: RepositoryName, digest: Digest) -> ManifestRead:
    """Read a manifest by digest; ``NotFound``: the registry does not know it."""
    return await _read(transport, repository, digest)


async def put_manifest(
    transport: Transport,
    repository: RepositoryName,
    reference: TagName | Digest,
    content: bytes,
    *,
    media_type: str,
    once: Once | None = None,
) -> Digest:
    """Push a manifest and return its digest."""
    request = Request(
        method="PUT",
        path=manifest_path(repository, reference),
        scope=repository_scope(repository, "pull", "push"),
        expect=frozenset({_CREATED, _NOT_ALLOWED}),
        limit=MANIFEST_LIMIT_BYTES,
        headers={"Content-Type": media_type},
        body=content,
        repeatable=once is None,
        nonce=None if once is None else once.nonce,
        before=None if once is None else once.before,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_ALLOWED:
        raise RegistryDenied(f"{answer.request_line}: 405, the registry is read-only or a pull-through cache")
    return digest_of(content)


async def delete(
    transport: Transport,
    repository: RepositoryName,
    reference: TagName | Digest,
    *,
    once: Once | None = None,
) -> Deletion:
    """Delete by digest or tag."""
    request = Request(
        method="DELETE",
        path=manifest_path(repository, reference),
        scope=repository_scope(repository, "delete"),
        expect=frozenset({_ACCEPTED, _BAD_REQUEST, _NOT_FOUND, _NOT_ALLOWED}),
        limit=MANIFEST_LIMIT_BYTES,
        repeatable=once is None,
        nonce=None if once is None else once.nonce,
        before=None if once is None else once.before,
    )
    answer = await transport.send(request)
    if answer.status == _ACCEPTED:
        return Deletion.ACCEPTED
    if answer.status == _NOT_FOUND:
        _not_found(answer)
        return Deletion.ABSENT
    if answer.status == _BAD_REQUEST and answer.error_codes() not in {("DIGEST_INVALID",), ("UNSUPPORTED",)}:
        raise RegistryMisbehaved(f"{answer.request_line}: 400 {answer.error_codes()}")
    # 405: deletes are not allowed, or the registry is read-only. 400 DIGEST_INVALID: 2.8 for a tag.
    return Deletion.UNSUPPORTED


async def _head(
    transport: Transport,
    repository: RepositoryName,
    reference: TagName | Digest,
    *,
    if_digest: Digest | None,
) -> RegistryResponse:
    headers = _ACCEPT if if_digest is None else {**_ACCEPT, "If-None-Match": f'"{if_digest}"'}
    request = Request(
        method="HEAD",
        path=manifest_path(repository, reference),
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _NOT_MODIFIED, _NOT_FOUND}),
        limit=SMALL_LIMIT_BYTES,
        headers=headers,
    )
    return await transport.send(request)


def _found_by_head(answer: RegistryResponse) -> Found | None:
    """Parse the 200 of a HEAD; None: it is a 404, or a proxy removed headers that a registry sends."""
    if answer.status != _OK:
        return None
    length = answer.headers.get("Content-Length", "")
    stated = answer.headers.get("Docker-Content-Digest", "")
    if not stated or not (length.isascii() and length.isdigit()):
        return None
    return Found(
        observed_at=answer.observed_at,
        registry_clock=answer.registry_clock,
        digest=_stated_digest(stated, answer),
        media_type=_manifest_type(answer),
        size=int(length),
    )


async def _answer_by_reading(
    transport: Transport, repository: RepositoryName, reference: TagName | Digest
) -> ManifestAnswer:
    content = await _read(transport, repository, reference)
    if isinstance(content, NotFound):
        return content
    return Found(
        observed_at=content.observed_at,
        registry_clock=content.registry_clock,
        digest=content.digest,
        media_type=content.media_type,
        size=len(content.content),
    )


async def _read(
    transport: Transport, repository: RepositoryName, reference: TagName | Digest
) -> ManifestRead:
    """GET a manifest by tag or digest; the bytes must hash to the digest requested, or stated in the answer."""
    request = Request(
        method="GET",
        path=manifest_path(repository, reference),
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _NOT_FOUND}),
        limit=MANIFEST_LIMIT_BYTES,
        headers=_ACCEPT,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_FOUND:
        return _not_found(answer)
    media_type = _manifest_type(answer)
    return ManifestContent(
        observed_at=answer.observed_at,
        registry_clock=answer.registry_clock,
        digest=_verified_digest(answer, reference),
        media_type=media_type,
        content=answer.content,
    )


def _verified_digest(answer: RegistryResponse, reference: TagName | Digest) -> Digest:
    stated = answer.headers.get("Docker-Content-Digest", "")
    if ":" in reference:  # a tag has no colon
        expected = parse_digest(reference)
    elif stated:
        expected = _stated_digest(stated, answer)
    else:
        expected = digest_of(answer.content)
    if not content_matches(answer.content, expected):
        raise RegistryMisbehaved(f"{answer.request_line}: the bytes do not hash to {expected}")
    return expected


def _stated_digest(text: str, answer: RegistryResponse) -> Digest:
    try:
        return parse_digest(text)
    except ValueError as error:
        raise RegistryMisbehaved(f"{answer.request_line}: Docker-Content-Digest is {error}") from error


def _manifest_type(answer: RegistryResponse) -> str:
    """Return the Content-Type, if it is a manifest's: a login page answers 200, too."""
    media_type = media_types.bare(answer.headers.get("Content-Type", ""))
    if not media_types.is_manifest(media_type):
        raise RegistryMisbehaved(f"{answer.request_line}: 200 with {media_type[:80]!r}, which is no manifest")
    return media_type


def _not_found(answer: RegistryResponse) -> NotFound:
    """Return a 404 as absence, only if it has the registry's own code for it and is not about the Accept header."""
    if any(map(_BY_ACCEPT.search, answer.error_messages())):
        raise RegistryMisbehaved(f"{answer.request_line}: 404, but the manifest is there: {_NARROWED}")
    for code in answer.error_codes() or ():
        if code in set(NotFoundCode):
            return NotFound(
                observed_at=answer.observed_at, registry_clock=answer.registry_clock, code=NotFoundCode(code)
            )
    raise RegistryMisbehaved(
        f"{answer.request_line}: a 404 that is not the registry's ({answer.content[:80]!r})"
    )


def manifest_path(repository: RepositoryName, reference: TagName | Digest) -> str:
    """Return the path of a manifest by tag or digest."""
    return f"/v2/{repository}/manifests/{reference}"
