"""Whether a storage is the registry's: nothing is reported or done before that is certain.

In a wrong mount, an old copy or another registry's bucket everything would look missing, or unreferenced.

1. The canary: a small manifest is pushed through the registry's API, to one tag of one fixed repository, and must then
   be found in the storage. It is one of ``VARIANTS``, and never the one to which the tag points already: so an old copy
   of the storage is told from the storage. They are the same few manifests for ever, and the tag holds one of them:
   nothing piles up.
2. A registry that takes no writes: the newest manifests that events announced must lie there with the right bytes, and
   one of them must be younger than a day. Enough to report, not to import or repair.
3. Else only on demand (``--unproven-storage``), and every output says so.

A canary that was pushed and is not in the storage is refused in any case.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from typing import Any, Final

import orjson

from indexer.common.errors import RegistryDenied, StorageRefused
from indexer.oci import media_types
from indexer.oci.digest import content_matches, digest_of
from indexer.oci.reference import RepositoryName, parse_tag_name
from indexer.store.pool import Pool, connection
from indexer.store.storage_proof import Announced, newest_announced
from reconciler.registry.protocol import WritableRegistry
from reconciler.storage.layout import Blob, Revision, TagCurrent, parse_link, path_of
from reconciler.storage.objects import Storage

REPOSITORY: Final = RepositoryName("registry-indexer-storage/canary")
TAG: Final = parse_tag_name("canary")
ARTIFACT_TYPE: Final = "application/vnd.registry-indexer.storage.canary.v1"
EMPTY: Final = b"{}"
VARIANTS: Final = 64
TRIES: Final = 3
"""Another verb may push its own canary between our push and our look."""

PATIENCE_SECONDS: Final = 15.0
"""How long the canary may take to show in the storage: a network file system delays what others write."""

NEWEST: Final = 20
YOUNG: Final = timedelta(days=1)
LINK_BYTES: Final = 256
MANIFEST_BYTES: Final = 16 * 1024 * 1024

_random = random.SystemRandom()


@unique
class ProvenBy(StrEnum):
    """What shows that the storage is the registry's."""

    CANARY = "canary"
    DIGESTS = "newest_digests"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Why a storage is taken for the registry's. ``text``: a sentence for the output."""

    by: ProvenBy
    text: str

    @property
    def is_proven(self) -> bool:
        """False where somebody only says so: every output must repeat ``text``."""
        return self.by is not ProvenBy.NOTHING

    def show(self) -> dict[str, Any]:
        """Return it as outputs show it."""
        return {"proven_by": self.by.value, "text": self.text}


async def proven(
    storage: Storage,
    registry: WritableRegistry,
    pool: Pool,
    *,
    unproven: bool = False,
    needs_canary: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Proof:
    """Return why the storage is the registry's; raise ``StorageRefused`` where it is not, or nothing shows it.

    ``unproven``: the operator says that it is. ``needs_canary``: of what changes something, which accepts only that.
    """
    try:
        await _find_canary(storage, registry, patience_seconds)
    except RegistryDenied as error:
        if needs_canary:
            raise StorageRefused(
                f"the registry did not take the canary that shows whether {storage.name} is its storage, and "
                "nothing is done without it: give RECONCILER_REGISTRY_USERNAME the permission to push to "
                f"{REPOSITORY} ({error})"
            ) from error
        return await _by_digests(storage, pool, unproven=unproven, why=str(error))
    return Proof(
        by=ProvenBy.CANARY,
        text=f"a canary that was pushed to the registry was found in {storage.name}",
    )


async def _find_canary(storage: Storage, registry: WritableRegistry, patience_seconds: float) -> None:
    """Push canaries until one is found in the storage; raise ``StorageRefused`` after some."""
    await registry.put_blob(REPOSITORY, EMPTY)
    for _ in range(TRIES):
        before = await asyncio.to_thread(storage.read, path_of(TagCurrent(REPOSITORY, TAG)), LINK_BYTES)
        manifest = _another(before)
        await registry.put_manifest(REPOSITORY, TAG, manifest, media_type=media_types.OCI_MANIFEST)
        found = await _appears(storage, manifest, before, patience_seconds)
        if found is True:
            return
        if found is None:
            break
    raise StorageRefused(await asyncio.to_thread(_missing, storage))


def _another(link: bytes | None) -> bytes:
    """Return one of the canaries, but not the one that a link names."""
    current = None if link is None else parse_link(link)
    others = [manifest for number in range(VARIANTS) if digest_of(manifest := canary(number)) != current]
    return _random.choice(others)


def canary(number: int) -> bytes:
    """Return one of the canaries: an OCI manifest, always the same bytes."""
    content = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": ARTIFACT_TYPE,
        "config": {"mediaType": media_types.OCI_EMPTY, "digest": digest_of(EMPTY), "size": len(EMPTY)},
        "layers": [{"mediaType": media_types.OCI_EMPTY, "digest": digest_of(EMPTY), "size": len(EMPTY)}],
        "annotations": {"registry-indexer.storage.canary": str(number)},
    }
    return orjson.dumps(content)


async def _appears(
    storage: Storage, manifest: bytes, before: bytes | None, patience_seconds: float
) -> bool | None:
    """Wait for a canary: True: it is there; False: the tag moved, but elsewhere; None: nothing changed."""
    loop = asyncio.get_running_loop()
    deadline, rest = loop.time() + patience_seconds, 0.1
    while True:
        if await asyncio.to_thread(_is_there, storage, manifest):
            return True
        if loop.time() >= deadline:
            break
        await asyncio.sleep(rest)
        rest = min(rest * 1.5, 2.0)
    now = await asyncio.to_thread(storage.read, path_of(TagCurrent(REPOSITORY, TAG)), LINK_BYTES)
    return False if now is not None and now != before else None


def _is_there(storage: Storage, manifest: bytes) -> bool:
    """Tell whether tag, revision and bytes of a canary are in the storage."""
    digest = digest_of(manifest)
    link = digest.encode()
    return (
        storage.read(path_of(TagCurrent(REPOSITORY, TAG)), LINK_BYTES) == link
        and storage.read(path_of(Revision(REPOSITORY, digest)), LINK_BYTES) == link
        and storage.read(path_of(Blob(digest)), len(manifest)) == manifest
    )


def _missing(storage: Storage) -> str:
    if storage.is_empty():
        return (
            f"nothing lies below docker/registry/v2 in {storage.name}: it is not mounted, or it is not the root "
            "directory of the registry's storage driver; nothing was done"
        )
    return (
        f"{storage.name} is not the storage of the registry at RECONCILER_REGISTRY_URL: a canary that was pushed to "
        f"{REPOSITORY} did not appear in it. It is another registry's, a copy, or another root directory; nothing was "
        "done"
    )


async def _by_digests(storage: Storage, pool: Pool, *, unproven: bool, why: str) -> Proof:
    """Look for what events announced last, since the registry takes no canary (``why``)."""
    async with connection(pool) as held:
        newest = await newest_announced(held, limit=NEWEST)
    missing = await asyncio.to_thread(_first_missing, storage, newest)
    if missing is not None:
        raise StorageRefused(
            f"{storage.name} is not the registry's storage, or is damaged: {missing.digest}, which was pushed lately, "
            "does not lie there with the right bytes; nothing was done"
        )
    if newest and datetime.now(UTC) - newest[0].at < YOUNG:
        return Proof(
            by=ProvenBy.DIGESTS,
            text=f"the registry takes no canary ({why}), but the {len(newest)} newest manifests lie in {storage.name}",
        )
    if unproven:
        return Proof(
            by=ProvenBy.NOTHING,
            text=f"NOT PROVEN: nothing shows that {storage.name} is the registry's storage ({why})",
        )
    raise StorageRefused(
        f"nothing shows that {storage.name} is the registry's storage: the registry takes no canary ({why}), and no "
        "manifest was announced within a day. Let it take a push, or say --unproven-storage if you are certain; "
        "nothing was done"
    )


def _first_missing(storage: Storage, announced: list[Announced]) -> Announced | None:
    for each in announced:
        content = storage.read(path_of(Blob(each.digest)), MANIFEST_BYTES)
        if content is None or not content_matches(content, each.digest):
            return each
    return None
