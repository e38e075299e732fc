"""Makes plans: from the storage, or from the text of a dry run and what is on record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from indexer.common.errors import ConfigurationError
from indexer.oci.digest import Digest, digest_of
from indexer.store.collections import parents_of, sizes_of, subjects_of, tags_that_need
from indexer.store.maintenance import why_paused
from indexer.store.policies_in_force import in_force
from indexer.store.pool import Connection, connection
from reconciler.collection.decide import Collection, Drivers, Mode, collect
from reconciler.collection.dry_run import DryRun
from reconciler.collection.hazards import Code, Hazard, find_hazards
from reconciler.collection.plan import CollectionPlan
from reconciler.collection.reading import read_snapshot
from reconciler.collection.references import Release
from reconciler.collection.snapshot import Snapshot
from reconciler.components import Components
from reconciler.storage.canary import EMPTY, REPOSITORY, VARIANTS, canary, proven
from reconciler.storage.objects import Storage
from reconciler.storage.threads import Thread, in_thread

EXAMPLES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which collection. ``release`` None: the registry is asked. ``cache``: of blob descriptors, where it has one."""

    release: Release | None = None
    delete_untagged: bool = False
    unproven: bool = False
    cache: str | None = None


async def _go_on() -> None:
    pass


async def _unreported(_done: int, _total: int | None, _unit: str) -> None:
    pass


async def plan_from_storage(
    components: Components,
    storage: Storage,
    asked: Asked,
    *,
    check: Callable[[], Awaitable[None]] = _go_on,
    report: Callable[[int, int | None, str], Awaitable[None]] = _unreported,
) -> tuple[CollectionPlan, Collection]:
    """Return what a collection would do with the registry's storage, and what it was computed to mark.

    ``check`` is called again and again meanwhile, and what it raises ends the work; ``report`` gets how far it is.
    Raises ``StorageRefused`` where nothing shows that it is the registry's, ``ConfigurationError`` where its release is
    not known.
    """
    proof = await proven(storage, components.registry, components.pool, unproven=asked.unproven)
    release = asked.release or await _release(components)
    drivers = Drivers.KEYS if storage.name.startswith("s3://") else Drivers.TREE
    mode = Mode(release, delete_untagged=asked.delete_untagged, drivers=drivers)
    began_at = datetime.now(UTC)

    def work(thread: Thread) -> tuple[Snapshot, Collection, datetime, list[Hazard]]:
        snapshot = read_snapshot(storage, release, thread.progress)
        ended_at = datetime.now(UTC)
        thread.progress(0, None, "marking")
        collection = collect(snapshot, mode)
        thread.progress(0, None, "hazards")
        return snapshot, collection, ended_at, [*find_hazards(snapshot, collection, mode, now=began_at)]

    snapshot, collection, ended_at, hazards = await in_thread(work, check=check, report=report)
    if collection.blobs or collection.manifests or collection.layer_links:
        async with connection(components.pool) as held:
            hazards += await _of_now(held, asked)
    plan = CollectionPlan(
        source="storage",
        blobs={digest: snapshot.blobs[digest].size_bytes for digest in collection.blobs},
        manifests=collection.manifests,
        layer_links=collection.layer_links,
        hazards=_sorted(hazards),
        repositories=len(collection.repositories),
        marked=len(collection.marked),
        began_at=began_at,
        ended_at=ended_at,
        fails=collection.aborts is not None,
        release=release.value,
        delete_untagged=asked.delete_untagged,
        storage=proof.show(),
    )
    return plan, collection


async def _release(components: Components) -> Release:
    major = await components.registry.find_major(REPOSITORY)
    if major is None:
        raise ConfigurationError(
            "the registry does not show whether it is 2.8 or 3.x: say --registry-version 2.8 or 3"
        )
    return Release.V3 if major == 3 else Release.V2  # noqa: PLR2004 - the newer


async def _of_now(held: Connection, asked: Asked) -> list[Hazard]:
    """Return the hazards of how things stand: our own deletions, and a cache that outlives what it describes."""
    found: list[Hazard] = []
    file = await in_force(held)
    if file is not None and file.content and await why_paused(held) is None:
        found.append(
            Hazard(
                Code.DELETIONS,
                "Policies are in force and nothing is paused: a manifest that is deleted while a collection reads its "
                "repository can end that reading early, and what it has not read by then is deleted. Run `reconciler "
                "maintenance begin` before, and let nobody else delete.",
            )
        )
    if asked.cache is not None:
        found.append(
            Hazard(
                Code.CACHE,
                f"The registry has a cache of blob descriptors ({asked.cache}): afterwards it goes on saying of "
                "deleted blobs that they are there, and images pushed then are broken. Restart every process of it"
                + (", and empty the cache," if asked.cache != "inmemory" else "")
                + " before anybody pushes.",
            )
        )
    return found


def _sorted(hazards: Iterable[Hazard]) -> tuple[Hazard, ...]:
    return tuple(
        sorted(hazards, key=lambda each: (int(each.code[1:]), each.repository or "", each.digest or ""))
    )


# --- from the text of a dry run ---------------------------------------------------------------------------


async def plan_from_text(held: Connection, read: DryRun) -> CollectionPlan:
    """Return what a dry run said, with sizes and hazards by what is on record."""
    now = datetime.now(UTC)
    sizes = await sizes_of(held, digests=sorted(read.blobs))
    hazards = [*_never_tagged(read), *await _missed(held, read)]
    return CollectionPlan(
        source="dry-run",
        blobs={digest: sizes.get(digest) for digest in read.blobs},
        manifests=read.manifests,
        layer_links=read.layer_links,
        hazards=_sorted(hazards),
        repositories=len(read.repositories),
        marked=len(read.marked),
        began_at=now,
        ended_at=datetime.now(UTC),
    )


def _never_tagged(read: DryRun) -> Iterator[Hazard]:
    for name in sorted(read.never_tagged):
        yield Hazard(
            Code.NEVER_TAGGED_LOSES,
            f"{name} never had a tag: its manifests keep their links and lose what they need, so that they cannot be "
            "pulled any more. Leave --delete-untagged out, or give them tags.",
            repository=name,
        )


async def _missed(held: Connection, read: DryRun) -> list[Hazard]:
    """Return what would be deleted though something that stays needs it, as far as that is on record."""
    manifests = sorted(read.manifests)
    found = [
        Hazard(
            Code.INDEX_CHILD,
            f"{name}@{child} is deleted though it is part of {name}@{parent}, which stays: pulls of that platform "
            "fail. Leave --delete-untagged out; 3.x keeps children.",
            repository=name,
            digest=child,
        )
        for name, child, parent in await parents_of(held, manifests=manifests)
        if (name, parent) not in read.manifests
    ]
    found += [
        Hazard(
            Code.REFERRER,
            f"{name}@{digest} is deleted though it is attached to {name}@{subject}, which stays: a signature, SBOM or "
            "attestation is lost. Leave --delete-untagged out, or give it a tag.",
            repository=name,
            digest=digest,
        )
        for name, digest, subject in await subjects_of(held, manifests=manifests)
        if (name, subject) not in read.manifests
    ]
    lost: dict[tuple[str, str, Digest], list[Digest]] = defaultdict(list)
    for needed in await tags_that_need(held, digests=sorted(read.blobs)):
        if needed.repository == REPOSITORY:
            continue  # its tag moves with every proof; the record may be older
        lost[needed.repository, needed.tag, needed.manifest].append(needed.digest)
    found += [
        Hazard(
            Code.LAYER_LOST,
            f"{name}:{tag} is on record and needs {len(digests)} of the blobs that are deleted, among them "
            f"{', '.join(sorted(digests)[:EXAMPLES])}: it cannot be pulled any more. Run `reconciler once --repository "
            f"{name}`; if the tag is still there, do not collect.",
            repository=name,
            digest=manifest,
        )
        for (name, tag, manifest), digests in sorted(lost.items())
    ]
    return found


# --- both -------------------------------------------------------------------------------------------------


def differences(collection: Collection, read: DryRun) -> list[str]:
    """Return where a dry run says something else than was computed, a sentence each; none: they are equal.

    Our canaries are left out: one is pushed before the storage is read, so after the dry run.
    """
    found: list[str] = []
    if (collection.aborts is not None) is not (read.counts is None):
        found.append(
            "the dry run failed, or its text is not whole; from the storage a collection succeeds"
            if read.counts is None
            else "the dry run succeeded; from the storage a collection fails"
        )
    pairs: list[tuple[str, frozenset[object], frozenset[object]]] = [
        ("manifests that stay", frozenset(collection.marked_manifests), frozenset(read.marked_manifests)),
        ("digests that stay", frozenset(collection.marked), frozenset(read.marked)),
    ]
    if not found:
        pairs += [
            ("blobs to be deleted", frozenset(collection.blobs), frozenset(read.blobs)),
            ("manifests to be deleted", frozenset(collection.manifests), frozenset(read.manifests)),
            ("layer links to be deleted", frozenset(collection.layer_links), frozenset(read.layer_links)),
        ]
    for what, ours, theirs in pairs:
        for side, differing in (
            ("only in the storage", ours - theirs),
            ("only in the dry run", theirs - ours),
        ):
            if more := [each for each in differing if not _is_ours(each)]:
                examples = ", ".join(sorted(map(_name, more))[:EXAMPLES])
                found.append(f"{len(more)} {what} {side}: {examples}")
    return found


_CANARIES: Final = frozenset({digest_of(EMPTY), *(digest_of(canary(number)) for number in range(VARIANTS))})


def _is_ours(each: object) -> bool:
    return each[0] == REPOSITORY if isinstance(each, tuple) else each in _CANARIES


def _name(each: object) -> str:
    return "@".join(each) if isinstance(each, tuple) else str(each)
