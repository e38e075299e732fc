"""``reconciler storage report``: where the bytes are. Reads the storage, and records a sample."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from indexer.common.rfc3339 import format_time
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store import storage as store
from indexer.store.collections import Inferred, newest_reading
from indexer.store.pool import Connection, connection, transaction
from indexer.store.storage import StoredCheck
from reconciler.components import Components
from reconciler.storage.bytes import Kept, Share, TagShare, Waiting
from reconciler.storage.canary import Proof, proven
from reconciler.storage.contents import Contents, read_manifest
from reconciler.storage.examine import Examined, examine
from reconciler.storage.objects import open_storage
from reconciler.storage.observe import Reader
from reconciler.storage.present import collection_text
from reconciler.storage.recording import record_pass
from reconciler.storage.threads import Thread, in_thread

SHOWN: Final = 20
UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")
STEP: Final = 1000
PAGE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was read, how the storage was known to be the registry's, and the collection that ran since it was read.

    ``check``: the newest check of the storage, which says what is damaged.
    """

    taken_at: datetime
    proof: Proof
    found: Examined
    collection: Inferred | None
    check: StoredCheck | None


async def make_report(components: Components, *, unproven: bool, with_tags: bool) -> Report:
    """Read the storage, and record what bytes belong to; raise ``StorageRefused`` where it is not the registry's."""
    storage = await asyncio.to_thread(open_storage, components.settings)
    proof = await proven(storage, components.registry, components.pool, unproven=unproven)
    now = datetime.now(UTC)
    async with connection(components.pool) as held:
        before = await newest_reading(held)
        known_wrong = [Digest(each) for each in await store.known_wrong(held)]
        check = await store.find_check(held)
        in_trash = await _in_trash(held, now)
    awaited = () if before is None else before.unreferenced

    def work(thread: Thread) -> Examined:
        reader = Reader(storage, going_on=thread.going_on)
        return examine(
            reader,
            now=now,
            checking=False,
            known_wrong=known_wrong,
            with_tags=with_tags,
            awaited=awaited,
            in_trash=in_trash,
            progress=thread.progress,
        )

    found = await in_thread(work, check=_nothing, report=_report)
    ended_at = datetime.now(UTC)
    async with transaction(components.pool) as held:
        collection = await record_pass(
            held, found, is_proven=proof.is_proven, before=before, begun_at=now, ended_at=ended_at
        )
    return Report(taken_at=ended_at, proof=proof, found=found, collection=collection, check=check)


async def _in_trash(held: Connection, now: datetime) -> set[Digest]:
    """Return the digests that are needed to put deleted tags back, as long as that is promised."""
    found: set[Digest] = set()
    after: Digest | None = None
    while manifests := await store.manifests_in_trash(held, now=now, after=after, limit=PAGE):
        for digest, content in manifests:
            read = read_manifest(content)
            found.add(digest)
            if isinstance(read, Contents):
                found.update(each.digest for each in read.needed)
        after = manifests[-1][0]
    return found


async def _nothing() -> None:
    """Nothing ends a report but the end of its process."""


async def _report(done: int, total: int | None, unit: str) -> None:
    if sys.stderr.isatty():
        of_all = "" if total is None else f" of {total}"
        sys.stderr.write(f"\r{done}{of_all} {unit}   ")
        sys.stderr.flush()


def report_json(report: Report, *, repository: RepositoryName | None) -> dict[str, Any]:
    """Return the report for machines. ``repository``: with its tags."""
    totals, others = report.found.totals, report.found.others
    return {
        "taken_at": format_time(report.taken_at),
        "proof": report.proof.show(),
        "collection": None if report.collection is None else report.collection.show(),
        "stored_bytes": totals.stored_bytes,
        "stored_blobs": totals.stored_blobs,
        "referenced_bytes": totals.referenced_bytes,
        "referenced_blobs": totals.referenced_blobs,
        "unreferenced_bytes": totals.unreferenced_bytes,
        "unreferenced_blobs": totals.unreferenced_blobs,
        "kept": {kept.name.lower(): size for kept, size in totals.kept.items()},
        "old": dict(totals.old),
        "uploads": {"uploads": others.uploads, "bytes": others.upload_bytes},
        "links": {"links": others.links, "bytes": others.link_bytes},
        "unknown": {"files": others.unknown, "bytes": others.unknown_bytes, "examples": others.examples},
        "trash": asdict(report.found.trash),
        "damaged": {
            "checked_at": None if report.check is None else format_time(report.check.checked_at),
            "damaged": None if report.check is None else report.check.damaged,
            "wrong_bytes": report.found.wrong_bytes,
        },
        "missing_blobs": totals.missing,
        "repositories": [_share(each) for each in report.found.repositories],
        "prefixes": [_share(each) for each in report.found.prefixes],
        **({} if repository is None else {"tags": [asdict(each) for each in _tags_of(report, repository)]}),
    }


def _share(share: Share) -> dict[str, Any]:
    return {**asdict(share), "shared_bytes": share.shared_bytes}


def _tags_of(report: Report, repository: RepositoryName) -> list[TagShare]:
    return [each for each in report.found.tags if each.repository == repository]


def report_lines(report: Report, *, repository: RepositoryName | None) -> Iterator[str]:
    """Return the report for people: a line for each thing that takes space, and what would free it."""
    if not report.proof.is_proven:
        yield report.proof.text
    totals, others = report.found.totals, report.found.others
    yield f"stored        {size_text(totals.stored_bytes)} in {totals.stored_blobs} blobs"
    for kept, what in _KEPT.items():
        yield f"  {size_text(totals.kept[kept]):>9}  {what}"
        if kept is Kept.OLD and totals.kept[kept]:
            yield f"             {_ages(totals.old)}"
    yield (
        f"  {size_text(totals.unreferenced_bytes):>9}  unreferenced, {totals.unreferenced_blobs} blobs: the registry's "
        "garbage-collect frees it"
    )
    yield f"of these {size_text(report.found.trash.bytes):>9}  {_trash(report.found.trash)}"
    yield f"of these {size_text(report.found.wrong_bytes):>9}  damaged: {_damaged(report.check)}"
    yield "beside the blobs"
    yield (
        f"  {size_text(others.upload_bytes):>9}  {others.uploads} unfinished uploads: the registry's upload purging "
        "frees them"
    )
    yield f"  {size_text(others.link_bytes):>9}  {others.links} links, before rounding to the disk's blocks"
    if others.unknown:
        yield (
            f"  {size_text(others.unknown_bytes):>9}  {others.unknown} files that no registry writes, like "
            f"{others.examples[0]}"
        )
    if totals.missing:
        yield f"{totals.missing} blobs that manifests need are not stored: see `reconciler storage check`"
    if report.collection is not None:
        yield collection_text(report.collection)
    yield from _table("repositories", report.found.repositories)
    if report.found.prefixes:
        yield from _table("prefixes", report.found.prefixes)
    if repository is not None:
        yield from _tag_table(_tags_of(report, repository), repository)


def _trash(trash: Waiting) -> str:
    if not trash.blobs:
        return "the trash needs, to put deleted tags back"
    return (
        f"in {trash.blobs} blobs the trash needs, to put deleted tags back, and no tag keeps; "
        f"{size_text(trash.unreferenced_bytes)} are unreferenced: a collection ends these restores"
    )


def _damaged(check: StoredCheck | None) -> str:
    if check is None:
        return "not known, run `reconciler storage check`"
    at = format_time(check.checked_at)
    if not check.damaged:
        return f"nothing, by the check of {at}"
    return f"{check.damaged} things by the check of {at}; `reconciler storage check` says what to do"


def _ages(old: Mapping[str, int]) -> str:
    parts = [f"{size_text(size)} pushed last {_AGES[age]}" for age, size in old.items() if size]
    return ", ".join(parts)


def _table(what: str, shares: Sequence[Share]) -> Iterator[str]:
    most = sorted(shares, key=lambda each: (-each.attributed_bytes, each.name))
    yield f"{what} by attributed bytes ({min(len(most), SHOWN)} of {len(most)})"
    yield "  attributed  referenced   exclusive  name"
    for each in most[:SHOWN]:
        yield (
            f"  {size_text(each.attributed_bytes):>10}  {size_text(each.referenced_bytes):>10}  "
            f"{size_text(each.exclusive_bytes):>10}  {each.name}"
        )


def _tag_table(tags: Sequence[TagShare], repository: RepositoryName) -> Iterator[str]:
    most = sorted(tags, key=lambda each: (-each.exclusive_bytes, -each.referenced_bytes, each.tag))
    yield f"tags of {repository} by exclusive bytes ({min(len(most), SHOWN)} of {len(most)}), which do not add up"
    yield "  attributed  referenced   exclusive  tag"
    for each in most[:SHOWN]:
        kept_by = f"  (kept by {each.siblings} more tags of its digest)" if each.siblings else ""
        yield (
            f"  {size_text(each.attributed_bytes):>10}  {size_text(each.referenced_bytes):>10}  "
            f"{size_text(each.exclusive_bytes):>10}  {each.tag}{kept_by}"
        )


def size_text(size: int) -> str:
    """Return a size in the decimal unit that leaves up to three digits, for example ``1.2 GB``."""
    value = float(size)
    for unit in UNITS:
        if value < STEP or unit == UNITS[-1]:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= STEP
    raise AssertionError  # pragma: no cover - the last unit takes any size


_KEPT: Final[Mapping[Kept, str]] = {
    Kept.TAGGED: "of manifests that tags point to: delete tags, and their manifests",
    Kept.CHILDREN: "only of children of tagged indexes: they go with their index",
    Kept.REFERRERS: "only attached to these by `subject`, like signatures: they go with their subject",
    Kept.OLD: "only of manifests that tags pointed to once: a cleanup policy for `untagged` unlinks them",
    Kept.UNTAGGED: "only of manifests that were pushed by digest: the same",
}
_AGES: Final[Mapping[str, str]] = {
    "7d": "within 7 days",
    "30d": "7 to 30 days ago",
    "90d": "30 to 90 days ago",
    "older": "over 90 days ago",
}
