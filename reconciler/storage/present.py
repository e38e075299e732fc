"""Findings and bytes as the store, jobs and commands show them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from indexer.common.rfc3339 import format_time
from indexer.store.collections import Inferred
from indexer.store.storage import MOST_TAGS, Sample, StoredFinding, StoredRoot, StoredShare
from reconciler.storage.bytes import Kept, RootShare, Share
from reconciler.storage.damage import Finding, Severity
from reconciler.storage.examine import Examined


def finding_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as results of jobs show it."""
    return {
        "code": finding.code,
        "severity": finding.severity,
        "repository": finding.repository,
        "tag": finding.tag,
        "digest": finding.digest,
        "path": finding.path,
        "tags": list(finding.tags[:MOST_TAGS]),
        "tags_count": len(finding.tags),
        "text": finding.text,
        "advice": finding.advice,
    }


def stored_finding(finding: Finding) -> StoredFinding:
    """Return a finding as the store has it."""
    return StoredFinding(
        code=finding.code,
        is_damaged=finding.severity is Severity.DAMAGED,
        repairable=finding.rewrite is not None,
        repository=finding.repository or "",
        path=finding.path,
        tag=finding.tag,
        digest=finding.digest,
        tags=finding.tags,
        tags_count=len(finding.tags),
        text=finding.text,
        advice=finding.advice,
    )


def sample_of(found: Examined, *, taken_at: datetime) -> Sample:
    """Return the bytes of a pass as the store has them."""
    totals, others = found.totals, found.others
    return Sample(
        taken_at=taken_at,
        stored_bytes=totals.stored_bytes,
        stored_blobs=totals.stored_blobs,
        referenced_bytes=totals.referenced_bytes,
        referenced_blobs=totals.referenced_blobs,
        tagged_bytes=totals.kept[Kept.TAGGED],
        children_bytes=totals.kept[Kept.CHILDREN],
        referrers_bytes=totals.kept[Kept.REFERRERS],
        old_bytes=totals.kept[Kept.OLD],
        untagged_bytes=totals.kept[Kept.UNTAGGED],
        upload_bytes=others.upload_bytes,
        link_bytes=others.link_bytes,
        unknown_bytes=others.unknown_bytes,
        repositories=len(found.repositories),
        tags=sum(each.tags for each in found.repositories),
        manifests=sum(each.manifests for each in found.repositories),
    )


def shares_of(shares: Iterable[Share]) -> list[StoredShare]:
    """Return the bytes of names as the store has them."""
    return [
        StoredShare(
            name=each.name,
            referenced_bytes=each.referenced_bytes,
            exclusive_bytes=each.exclusive_bytes,
            attributed_bytes=each.attributed_bytes,
            tags=each.tags,
            manifests=each.manifests,
            repositories=each.repositories,
        )
        for each in shares
    ]


def roots_of(shares: Iterable[RootShare]) -> Iterator[StoredRoot]:
    """Return the bytes of tagged digests as the store has them."""
    for each in shares:
        yield StoredRoot(
            repository=each.repository,
            digest=each.digest,
            referenced_bytes=each.referenced_bytes,
            exclusive_bytes=each.exclusive_bytes,
            attributed_bytes=each.attributed_bytes,
        )


def collection_text(found: Inferred) -> str:
    """Say that a collection ran, and what was pushed or deleted meanwhile."""
    ran = f"a collection of garbage ran between {format_time(found.not_before)} and {format_time(found.not_after)}"
    when = "during maintenance in that time" if found.in_maintenance else "in that time"
    if not found.overlapped:
        return f"{ran}; nothing was pushed or deleted {when}"
    where = ", ".join(found.examples)
    return (
        f"{ran}: {found.uploads} pushes and {found.deletions} deletions {when} ({where}). What was pushed while it ran "
        "may be lost: run `reconciler storage check`, and let nobody push the next time"
    )
