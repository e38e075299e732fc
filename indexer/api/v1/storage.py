"""The registry's storage, as it was read last: what cannot be pulled and why, and what the bytes belong to."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of, readable_repository
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query, Texts
from indexer.api.paths import STORAGE
from indexer.api.responses import Document, Items
from indexer.api.v1.cleanup import require_all
from indexer.api.v1.status.storage import CollectionShown
from indexer.common.rfc3339 import format_time
from indexer.store import storage as store
from indexer.store.collections import newest_collections
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page
from indexer.store.listing.storage import StorageFilter, listed_findings

SCOPE = "storage"
SAMPLES = 400
"""Newest samples that are shown: one a day."""
COLLECTIONS = 100
LARGEST = 100
"""Repositories and prefixes that are shown of the whole registry, those with the most bytes first."""
MOST_FINDINGS = 1000
"""Findings that are shown of one repository."""


class StorageFinding(Shown):
    """Something wrong in the storage."""

    code: str = Field(description="What is wrong, stable: see the reference of the storage check.")
    severity: Literal["damaged", "harmless"] = Field(
        description="`damaged`: something that was pushed cannot be pulled, or the next push of it will be broken. "
        "`harmless`: nothing is lost."
    )
    repository: str | None = Field(description="Null: a blob that no repository needs.")
    tag: str | None = Field(description="Where a tag itself is wrong.")
    digest: str | None = Field(description="Of what cannot be pulled or served; null: not known.")
    path: str = Field(description="Where it lies, or should, below `docker/registry/v2`.")
    tags: list[str] = Field(description="Tags that cannot be pulled, or not wholly; at most 100.")
    tags_count: int = Field(description="The number of all of them.")
    text: str
    advice: str = Field(description="What to do.")
    first_seen_at: datetime = Field(description="When a check found it first.")
    last_seen_at: datetime = Field(description="When the newest check found it.")


class StorageQuery(ListQuery):
    """Findings of the newest check, by repository and path."""

    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    code: Texts | None = Field(default=None, description="With any of these codes.")
    severity: Literal["damaged", "harmless"] | None = Field(default=None, description="Only these.")


class StorageCheckShown(Shown):
    """The newest check that came to its end."""

    checked_at: datetime
    begun_at: datetime
    job: uuid.UUID | None
    content: bool = Field(description="Whether the bytes of all blobs were compared with their digests.")
    proven_by: str = Field(
        description="How it was known to be the registry's storage: `canary`, `newest_digests`, or `nothing`."
    )
    proof: str = Field(description="The same in a sentence.")
    repositories: int
    blobs: int
    compared: int = Field(description="Blobs whose bytes were compared, manifests included.")
    damaged: int
    harmless: int


class StorageSample(Shown):
    """What bytes belonged to at an instant. The five reasons add up to `referenced_bytes`."""

    taken_at: datetime
    stored_bytes: int = Field(description="All blobs: referenced and unreferenced.")
    stored_blobs: int
    referenced_bytes: int
    referenced_blobs: int
    unreferenced_bytes: int = Field(description="What the registry's garbage-collect frees.")
    tagged_bytes: int = Field(description="A tag points to it.")
    children_bytes: int = Field(description="Only an index that a tag points to contains it.")
    referrers_bytes: int = Field(description="It is attached to one of these by `subject`.")
    old_bytes: int = Field(description="A tag pointed to it once.")
    untagged_bytes: int = Field(description="It was pushed by its digest.")
    upload_bytes: int
    link_bytes: int
    unknown_bytes: int = Field(description="Files that no registry writes.")
    repositories: int
    tags: int
    manifests: int


class StorageShare(Shown):
    """Bytes of a repository, or of all below a prefix of names."""

    name: str
    referenced_bytes: int = Field(description="What its manifests refer to, each blob once.")
    exclusive_bytes: int = Field(description="Of these, what nothing outside refers to.")
    shared_bytes: int = Field(description="Of these, the rest.")
    attributed_bytes: int = Field(
        description="Each blob divided by the number of repositories that refer to it; adds up to the registry's."
    )
    tags: int
    manifests: int
    repositories: int = Field(description="Below a prefix; of a repository 1.")


class CodeCount(Shown):
    """The number of findings of one code."""

    code: str
    severity: Literal["damaged", "harmless"]
    findings: int


class StorageShown(Shown):
    """The storage of the whole registry."""

    checked: StorageCheckShown | None = Field(description="Null: it was never checked.")
    findings: list[CodeCount] = Field(description="Of the newest check, by code.")
    bytes: StorageSample | None = Field(description="The newest; null: it was never read.")
    samples: list[StorageSample] = Field(
        description="Newest first, one a day, at most 400: how the storage grew."
    )
    collections: list[CollectionShown] = Field(
        description="Collections of garbage that are known to have run, newest first, at most 100."
    )
    largest_repositories: list[StorageShare] = Field(description="At most 100, by attributed bytes.")
    largest_prefixes: list[StorageShare] = Field(
        description="The same of prefixes of names, like `team` of `team/app`, with several repositories."
    )


class RepositoryStorage(Shown):
    """The storage of one repository."""

    repository: str
    checked_at: datetime | None = Field(description="Of the newest check; null: there was none.")
    bytes: StorageShare | None = Field(
        description="Null: the storage was not read since the repository exists."
    )
    findings: list[StorageFinding] = Field(description="Damaged ones first, at most 1000.")


@operation("/storage", query=Query, result=StorageShown)
async def show_storage(call: ApiCall[Query]) -> Document:
    """Show how the registry's storage was found by the newest check, and what its bytes belong to.

    Both are read by `reconciler storage check`; `reconciler storage report` reads only the bytes.
    """
    require_all(call)
    async with call.readers.reading() as held:
        check = await store.find_check(held)
        counts = await store.count_findings(held)
        samples = await store.newest_samples(held, limit=SAMPLES)
        repositories = await store.largest_shares(held, prefixes=False, limit=LARGEST)
        prefixes = await store.largest_shares(held, prefixes=True, limit=LARGEST)
        collections = await newest_collections(held, limit=COLLECTIONS)
    return Document(
        body={
            "checked": None if check is None else check_json(check),
            "findings": [
                {"code": code, "severity": severity_of(is_damaged), "findings": findings}
                for (code, is_damaged), findings in counts.items()
            ],
            "bytes": sample_json(samples[0]) if samples else None,
            "samples": [sample_json(each) for each in samples],
            "collections": [each.show() for each in collections],
            "largest_repositories": _shares(repositories),
            "largest_prefixes": _shares(prefixes),
        }
    )


@operation("/storage/findings", query=StorageQuery, result=Listed[StorageFinding], item=StorageFinding)
async def list_storage_findings(call: ApiCall[StorageQuery]) -> Items:
    """List what the newest check of the storage found, by repository and path."""
    query = call.query
    wanted = StorageFilter(
        repositories=query.repository,
        codes=query.code,
        is_damaged=None if query.severity is None else query.severity == "damaged",
    )
    listing = listed_findings(granted=call.principal.repositories, wanted=wanted)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [_finding(store.finding_of(row)) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation(STORAGE, query=Query, result=RepositoryStorage)
async def show_repository_storage(call: ApiCall[Query]) -> Document:
    """Show what is wrong with a repository in the storage, and what its bytes are."""
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        check = await store.find_check(held)
        share = await store.find_share(held, repository=repository.name)
        findings = await store.findings_of(held, repository=repository.name, limit=MOST_FINDINGS)
    return Document(
        body={
            "repository": repository.name,
            "checked_at": None if check is None else format_time(check.checked_at),
            "bytes": None if share is None else share_json(share),
            "findings": [_finding(each) for each in findings],
        }
    )


def severity_of(is_damaged: bool) -> str:
    """Return the word for a finding."""
    return "damaged" if is_damaged else "harmless"


def check_json(check: store.StoredCheck) -> dict[str, Any]:
    """Return a :class:`StorageCheckShown` for the response."""
    shown = asdict(check)
    job = shown.pop("job_id")
    return {
        **shown,
        "job": None if job is None else str(job),
        "checked_at": format_time(check.checked_at),
        "begun_at": format_time(check.begun_at),
    }


def sample_json(sample: store.Sample) -> dict[str, Any]:
    """Return a :class:`StorageSample` for the response."""
    return {
        **asdict(sample),
        "taken_at": format_time(sample.taken_at),
        "unreferenced_bytes": sample.stored_bytes - sample.referenced_bytes,
    }


def share_json(share: store.StoredShare) -> dict[str, Any]:
    """Return a :class:`StorageShare` for the response."""
    return {**asdict(share), "shared_bytes": share.referenced_bytes - share.exclusive_bytes}


def _shares(shares: Sequence[store.StoredShare]) -> list[dict[str, Any]]:
    return [share_json(each) for each in shares]


def _finding(finding: store.SeenFinding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": severity_of(finding.is_damaged),
        "repository": finding.repository or None,
        "tag": finding.tag,
        "digest": finding.digest,
        "path": finding.path,
        "tags": list(finding.tags),
        "tags_count": finding.tags_count,
        "text": finding.text,
        "advice": finding.advice,
        "first_seen_at": format_time(finding.first_seen_at),
        "last_seen_at": format_time(finding.last_seen_at),
    }
