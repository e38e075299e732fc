"""The manifests of a repository, tagged or not, and one with its content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of, readable_repository
from indexer.api.models import CHECKED, PULLS_KNOWN, Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import DigestText, Flag, Platforms, Query, Several, Texts
from indexer.api.paths import MANIFEST, MANIFESTS
from indexer.api.problems import not_found
from indexer.api.responses import Document, Items
from indexer.common.rfc3339 import format_time
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.kinds import Kind
from indexer.store.instants import known
from indexer.store.listing import manifests as store
from indexer.store.listing.interned import FacetRow
from indexer.store.listing.page_query import Row

SCOPE = "manifests"

Content = Literal["announced", "read", "partly-read", "unreadable"]
CONTENT = "Whether the manifest and its image config were read from the registry."
UNREAD = (
    "If content is partly-read: the parts that could not be read, like layers[3].size or config.blob.created. Their "
    "values are absent."
)


class ManifestsQuery(ListQuery):
    """The manifests of one repository."""

    sort: Literal["pushed_at", "-pushed_at"] = Field(
        default="-pushed_at", description="`-pushed_at`: the newest push first."
    )
    tagged: Flag | None = Field(default=None, description="Whether any tag of the repository points to it.")
    media_type: Texts | None = Field(default=None, description="Of any of these media types.")
    artifact_type: Texts | None = Field(default=None, description="Of any of these artifact types.")
    kind: Several[Kind] | None = Field(default=None, description="Of any of these kinds.")
    platform: Platforms | None = Field(default=None, description="For any of these platforms.")
    subject: DigestText | None = Field(default=None, description="Referrers of this digest.")


LeftOut = Literal[
    "annotations",
    "labels",
    "layers",
    "children",
    "parents",
    "tags",
    "referrers",
    "referrers.annotations",
]


class NoQuery(Query):
    """No parameters."""


class Descriptor(Shown):
    """A reference to content, as in the OCI image specification."""

    media_type: str | None
    digest: str
    size_bytes: int | None


class Child(Shown):
    """A manifest that an index names."""

    digest: str
    media_type: str | None
    kind: Kind
    platform: str | None
    os_version: str | None = Field(
        description="Version of the operating system, as the index has it; images for Windows differ in it."
    )
    platforms: list[str]
    size_bytes: int = Field(description="Of the manifest itself; 0: not known.")
    total_size_bytes: int = Field(description="With config and layers; 0: not known.")
    held: bool = Field(
        description="False if the repository does not have it; then everything shown is what the index says of it."
    )


class Referrer(Shown):
    """An artifact whose subject is the manifest."""

    digest: str
    media_type: str | None
    artifact_type: str | None
    kind: Kind
    size_bytes: int
    total_size_bytes: int
    annotations: dict[str, str] = Field(
        description="Empty if the annotations of newer referrers are 256 KiB already."
    )
    pushed_at: datetime


class ManifestListed(Shown):
    """One manifest of a list."""

    digest: str
    media_type: str | None
    artifact_type: str | None
    kind: Kind
    size_bytes: int = Field(description="Of the manifest itself; 0: not known.")
    total_size_bytes: int = Field(
        description="With config and layers; of an index, its children. 0: not known."
    )
    created_at: datetime | None
    platforms: list[str]
    config_digest: str | None
    subject: str | None
    content: Content = Field(description=CONTENT)
    unread: list[str] = Field(description=UNREAD)
    pushed_at: datetime
    pushed_by: str | None
    last_pulled_at: datetime | None
    last_checked_at: datetime | None = Field(description=CHECKED)
    pull_count: int
    tags: list[str] = Field(description="The repository's tags that point to it; at most 100.")


class Manifest(Shown):
    """One manifest with its content."""

    digest: str
    media_type: str | None
    artifact_type: str | None
    kind: Kind
    size_bytes: int
    total_size_bytes: int
    created_at: datetime | None
    platforms: list[str]
    os_version: str | None = Field(
        description="Version of the operating system, as the image's config has it; images for Windows differ in it."
    )
    content: Content
    unread: list[str] = Field(description=UNREAD)
    read_at: datetime | None
    held: bool = Field(description="False if the repository does not have it any more.")
    config: Descriptor | None
    layers: list[Descriptor] = Field(description="At most 1000.")
    children: list[Child] = Field(description="At most 1000.")
    parents: list[str] = Field(description="Indexes of the repository that list it; at most 1000.")
    subject: str | None
    annotations: dict[str, str] = Field(description="Empty if they are more than 1 MiB.")
    labels: dict[str, str] = Field(description="Empty if they are more than 1 MiB.")
    left_out: list[LeftOut] = Field(
        description="What is too long to be shown completely. The registry has the manifest as a whole, under its "
        "digest; all its tags are in `/api/v1/repositories/<repository>/tags?digest=`, all referrers in "
        "`/v2/<repository>/referrers/<digest>`. `tags` means `sibling_tags` of a tag."
    )
    pushed_at: datetime | None
    pushed_by: str | None
    last_pulled_at: datetime | None
    last_checked_at: datetime | None = Field(description=CHECKED)
    pull_count: int


class ManifestWithTags(Manifest):
    """One manifest with its content and what points to it."""

    repository: str
    pulls_known: bool = Field(description=PULLS_KNOWN)
    tags: list[str]
    referrers: list[Referrer]


@operation(MANIFESTS, query=ManifestsQuery, result=Listed[ManifestListed], item=ManifestListed)
async def list_manifests(call: ApiCall[ManifestsQuery]) -> Items:
    """List the manifests of a repository."""
    query = call.query
    wanted = store.ManifestFilter(
        tagged=query.tagged,
        media_types=query.media_type,
        artifact_types=query.artifact_type,
        kinds=query.kind,
        platforms=query.platform,
        subject=None if query.subject is None else Digest(query.subject),
    )
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        listing = await store.manifests_of_repository(
            held, repository=repository, descending=query.sort.startswith("-"), wanted=wanted
        )
        page = await store.fetch_manifests(
            held, call.interned, listing, call.cursors.page_of(query, SCOPE, listing.orders)
        )
        count = await counted(held, call, listing)
    shown = [_show_listed(row, page) for row in page.found.rows]
    return items_of(
        call, SCOPE, listing, page.found, items=shown, freshness=repository.freshness, count=count
    )


@operation(MANIFEST, query=NoQuery, result=ManifestWithTags)
async def get_manifest(call: ApiCall[NoQuery]) -> Document:
    """Show one manifest with its content and what points to it."""
    content = None
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        number = await store.find_manifest_id(
            held, repository_id=repository.id, digest=Digest(call.path["digest"])
        )
        if number is not None:
            content = await store.manifest_content(
                held, call.interned, repository_id=repository.id, manifest_id=number
            )
    if content is None:
        raise not_found("there is no such manifest of the repository on record")
    return Document(
        body=show_manifest(content)
        | {
            "repository": repository.name,
            "pulls_known": repository.freshness.pulls_known,
            "tags": content.tags,
            "referrers": [show_referrer(referrer, content.facets) for referrer in content.referrers],
        }
    )


def _show_identity(row: Row, facet: FacetRow) -> dict[str, Any]:
    """Return the members that every form of a manifest has."""
    return {
        "digest": digest_from_bytes(row["digest"]),
        "media_type": facet.media_type or None,
        "artifact_type": facet.artifact_type or None,
        "kind": facet.kind,
        "size_bytes": row["size_bytes"],
        "total_size_bytes": row["total_bytes"],
    }


def show_manifest(content: store.ManifestContent) -> dict[str, Any]:
    """Return a :class:`Manifest` for the response."""
    row = content.manifest
    facet = content.facets[row["facet_id"]]
    return {
        **_show_identity(row, facet),
        "created_at": format_time(known(row["image_created"])),
        "platforms": facet.platforms,
        "os_version": row["os_version"],
        "content": row["content"],
        "unread": row["unread"] or [],
        "read_at": format_time(row["read_at"]),
        "held": row["held"],
        "config": _show_config(row),
        "layers": [_show_layer(layer) for layer in content.layers],
        "children": [_show_child(child, content.facets) for child in content.children],
        "parents": [digest_from_bytes(parent["digest"]) for parent in content.parents],
        "subject": _digest(row["subject_digest"]),
        "annotations": row["annotations"] or {},
        "labels": row["labels"] or {},
        "left_out": content.left_out,
        "pushed_at": format_time(row["pushed_at"]),
        "pushed_by": content.pushed_by,
        "last_pulled_at": format_time(row["last_pulled_at"]),
        "last_checked_at": format_time(row["last_checked_at"]),
        "pull_count": row["pull_count"] or 0,
    }


def show_referrer(row: Row, facets: Mapping[int, FacetRow]) -> dict[str, Any]:
    """Return a :class:`Referrer` for the response."""
    facet = facets[row["facet_id"]]
    return {
        **_show_identity(row, facet),
        "annotations": row["annotations"] or {},
        "pushed_at": format_time(row["pushed_at"]),
    }


def _show_listed(row: Row, page: store.ManifestPage) -> dict[str, Any]:
    facet = page.facets[row["facet_id"]]
    return {
        **_show_identity(row, facet),
        "created_at": format_time(known(row["image_created"])),
        "platforms": facet.platforms,
        "config_digest": _digest(row["config_digest"]),
        "subject": _digest(row["subject_digest"]),
        "content": row["content"],
        "unread": row["unread"] or [],
        "pushed_at": format_time(row["pushed_at"]),
        "pushed_by": page.actors[row["pushed_by"]],
        "last_pulled_at": format_time(row["last_pulled_at"]),
        "last_checked_at": format_time(row["last_checked_at"]),
        "pull_count": row["pull_count"],
        "tags": row["tags"],
    }


def _show_config(row: Row) -> dict[str, Any] | None:
    if row["config_digest"] is None:
        return None
    return {
        "media_type": row["config_media_type"],
        "digest": digest_from_bytes(row["config_digest"]),
        "size_bytes": row["config_size_bytes"],
    }


def _show_layer(row: Row) -> dict[str, Any]:
    return {
        "media_type": row["media_type"],
        "digest": digest_from_bytes(row["digest"]),
        "size_bytes": row["size_bytes"],
    }


def _show_child(row: Row, facets: Mapping[int, FacetRow]) -> dict[str, Any]:
    facet = facets.get(row["facet_id"])
    return {
        "digest": digest_from_bytes(row["digest"]),
        "media_type": (facet.media_type if facet is not None else "") or row["stated_media_type"] or None,
        "kind": Kind.UNKNOWN if facet is None else facet.kind,
        "platform": row["platform"] or None,
        "os_version": row["os_version"],
        "platforms": [] if facet is None else facet.platforms,
        "size_bytes": row["size_bytes"],
        "total_size_bytes": row["total_bytes"],
        "held": row["held"],
    }


def _digest(packed: bytes | None) -> str | None:
    return None if packed is None else digest_from_bytes(packed)
