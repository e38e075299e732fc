"""What the registry has of a tag and of everything that belongs to it, right before and after a request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Final

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci.descriptor import Descriptor
from indexer.oci.digest import Digest, digest_of
from indexer.oci.manifest import ParsedManifest, parse_manifest
from indexer.oci.media_types import is_index
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Connection
from indexer.store.referrers import ReferrersWanted, referrers_of
from indexer.store.tag_actions import KeptManifest
from reconciler.cleanup.decide import Seen
from reconciler.registry.answers import Dated, Deletion, NotFound
from reconciler.registry.protocol import ActingRegistry, Registry

WITHOUT_CLOCK: Final = timedelta(seconds=60)
"""How far our clock may be ahead of a registry whose ``Date`` a proxy removes."""

_NEEDED: Final = ("config", "layers", "manifests", "subject")
"""The parts of a manifest without which it is not known what it needs."""

MOST_REFERRERS: Final = 1000
MOST_ANNOTATION_BYTES: Final = 1024 * 1024


class Way(Enum):
    """How a registry deletes a single tag."""

    BY_TAG = "by_tag"
    BY_DUMMY = "by_dummy"
    """2.8: only manifests can be deleted, so the tag is pointed to one of our own first."""


class NotAllowed(Exception):  # noqa: N818 - an answer, not a failure
    """The registry deletes nothing; the message says what to do."""


class Unreadable(Exception):  # noqa: N818 - an answer, not a failure
    """A manifest cannot be read, so what belongs to it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Where a tag points (None: it is not there), and when it was asked, by the registry's clock, rounded down."""

    digest: Digest | None
    at: datetime


async def find_way(registry: ActingRegistry, repository: RepositoryName) -> Way:
    """Ask how this registry deletes a tag, by two requests that delete nothing; raise ``NotAllowed``.

    A digest that nothing has is refused with 405 where deletes are switched off, or the registry is read-only. 3.0.0
    and 3.1.0 would delete a tag even so (CVE-2026-41888): the operator does not mean that.
    """
    never = digest_of(secrets.token_bytes(32))
    try:
        by_digest = await registry.delete_manifest(repository, never)
        by_tag = (
            await registry.delete_tag(repository, TagName(f"never-{secrets.token_hex(16)}"))
            if by_digest is not Deletion.UNSUPPORTED
            else by_digest
        )
    except RegistryDenied as error:
        raise NotAllowed(
            f"the registry refuses deletions in {repository}: give RECONCILER_REGISTRY_USERNAME the right to delete "
            f"there ({error})"
        ) from error
    if by_digest is Deletion.UNSUPPORTED:
        raise NotAllowed(
            "the registry does not allow deletions: nothing was deleted. Set storage.delete.enabled: true in its "
            "configuration, and make sure that it is not read-only"
        )
    return Way.BY_DUMMY if by_tag is Deletion.UNSUPPORTED else Way.BY_TAG


async def look_at(
    registry: Registry, repository: RepositoryName, tag: TagName, *, expected: Digest | None = None
) -> Look:
    """Return where a tag points now. Where it is as expected, the registry sends no event of the question."""
    answer = await registry.head_tag(repository, tag, if_digest=expected, on_record=expected)
    digest = None if isinstance(answer, NotFound) else answer.digest
    return Look(digest=digest, at=clock_of(answer))


def clock_of(answer: Dated) -> datetime:
    """Return when a question was answered by the registry's clock, never later than it was."""
    return answer.registry_clock or answer.observed_at - WITHOUT_CLOCK


async def see(registry: Registry, repository: RepositoryName, tag: TagName, *, dummy: Digest | None) -> Seen:
    """Return what a tag is after a request; whether a removed dummy left it dangling, where there was one."""
    digest = (await look_at(registry, repository, tag)).digest
    if digest is not None or dummy is None:
        return Seen(digest=digest)
    return Seen(digest=None, dangling=tag in set((await registry.list_tags(repository)).names))


async def read_family(
    registry: Registry, connection: Connection, repository: RepositoryName, digest: Digest
) -> list[KeptManifest]:
    """Read a manifest, its children at any depth and its referrers, in the order in which they are put back.

    What an index names and the repository does not have is left out: a registry may accept that. Raise ``Unreadable``.
    """
    found: dict[Digest, KeptManifest] = {}
    await _read_down(registry, repository, digest, "tagged", found)
    if digest not in found:
        raise Unreadable(f"{repository}@{digest} is not there, although the tag points to it")
    left = list(found)
    while left:
        subject = left.pop()
        wanted = ReferrersWanted(repository=repository, subject=subject)
        referrers = await referrers_of(
            connection, wanted, limit=MOST_REFERRERS, annotation_bytes=MOST_ANNOTATION_BYTES
        )
        for referrer in referrers:
            known = set(found)
            await _read_down(registry, repository, referrer.digest, "referrer", found)
            left += [each for each in found if each not in known]
    return list(found.values())


async def _read_down(
    registry: Registry,
    repository: RepositoryName,
    digest: Digest,
    role: str,
    found: dict[Digest, KeptManifest],
) -> None:
    if digest in found:
        return
    try:
        answer = await registry.get_manifest(repository, digest)
    except RegistryMisbehaved as error:
        raise Unreadable(f"{repository}@{digest} cannot be read: {error}") from error
    if isinstance(answer, NotFound):
        return
    for child in _parsed(repository, digest, answer.content, answer.media_type).children:
        await _read_down(registry, repository, child.digest, role if role == "referrer" else "child", found)
    found[digest] = KeptManifest(
        role=role, digest=digest, media_type=answer.media_type, content=answer.content
    )


def _parsed(repository: RepositoryName, digest: Digest, content: bytes, media_type: str) -> ParsedManifest:
    try:
        parsed = parse_manifest(content, media_type)
    except ValueError as error:
        raise Unreadable(f"{repository}@{digest} cannot be understood: {error}") from error
    needed = next((each for each in parsed.unread if each.part.startswith(_NEEDED)), None)
    if needed is not None:
        raise Unreadable(f"{repository}@{digest} cannot be understood: {needed.reason}")
    return parsed


def blobs_of(repository: RepositoryName, manifest: KeptManifest) -> list[Digest]:
    """Return the blobs that a registry must have for a manifest, its config last; none of an index.

    Layers that an image names with an address elsewhere are not the registry's.
    """
    return [part.digest for part in _parts(repository, manifest)]


def _parts(repository: RepositoryName, manifest: KeptManifest) -> list[Descriptor]:
    if is_index(manifest.media_type):
        return []
    parsed = _parsed(repository, manifest.digest, manifest.content, manifest.media_type)
    parts = [*parsed.layers, *([parsed.config] if parsed.config is not None else [])]
    return [
        part
        for part in parts
        if "foreign" not in part.media_type and "nondistributable" not in part.media_type
    ]


async def missing_blob(
    registry: ActingRegistry,
    repository: RepositoryName,
    manifests: Iterable[KeptManifest],
    *,
    concurrency: int = 8,
) -> Digest | None:
    """Return a blob that manifests need and the registry does not deliver; None: every one is really there.

    A blob without bytes has none to send.
    """
    wanted = {
        part.digest: None for manifest in manifests for part in _parts(repository, manifest) if part.size != 0
    }
    slots = asyncio.Semaphore(concurrency)

    async def delivered(digest: Digest) -> bool:
        async with slots:
            return await registry.delivers_blob(repository, digest)

    digests = list(wanted)
    answers = await asyncio.gather(*(delivered(digest) for digest in digests))
    return next((digest for digest, there in zip(digests, answers, strict=True) if not there), None)
