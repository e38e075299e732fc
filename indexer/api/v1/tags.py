"""The tags of a repository, and one tag with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of, readable_repository
from indexer.api.models import CHECKED, PULLS_KNOWN, Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import (
    Bytes,
    DigestText,
    Flag,
    Glob,
    Platforms,
    Query,
    Several,
    Text,
    Texts,
    Time,
)
from indexer.api.paths import TAG, TAGS
from indexer.api.patterns import whole_name_matcher
from indexer.api.problems import not_found
from indexer.api.responses import Document, Items
from indexer.api.sorting import parse_sort, sort_field
from indexer.api.v1.manifests import Manifest, Referrer, show_manifest, show_referrer
from indexer.common.errors import CallerError
from indexer.common.rfc3339 import format_time
from indexer.inventory.records import BrokenReason, TimeSource
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.kinds import Kind
from indexer.store.instants import show_instant
from indexer.store.listing import manifests as store
from indexer.store.listing import tags as store_tags
from indexer.store.listing.freshness import RepositoryRef
from indexer.store.listing.page_query import PageRows, Row
from indexer.store.listing.tag_filter import TagFilter
from indexer.store.listing.tags import (
    OF_REPOSITORY,
    TagPage,
    fetch_tags,
    find_tag,
    tags_of_repository,
    with_interned,
)
from indexer.store.storage import RootBytes, find_root

SCOPE = "tags"


class TagFilterQuery(ListQuery):
    """Filters of tags; a tag must match all of them."""

    other_names: ClassVar[Mapping[str, str]] = {
        "after_time": "published_after",
        "before_time": "published_before",
        "since": "published_after",
        "until": "published_before",
    }

    name_prefix: Text | None = Field(default=None, description="Tags that begin with this.")
    name_glob: Glob | None = Field(
        default=None, description="Tags that match: `*` any characters, `?` any one character."
    )
    name_regex: Text | None = Field(
        default=None,
        description="RE2; must match the whole tag: `1\\.2` matches only `1.2`, `1\\.2.*` every tag that begins so.",
    )
    digest: DigestText | None = Field(default=None, description="Tags that point to this digest.")
    media_type: Texts | None = Field(default=None, description="Media type of the manifest.")
    artifact_type: Texts | None = Field(default=None, description="Artifact type of the manifest.")
    kind: Several[Kind] | None = Field(default=None, description="What the manifest is used for.")
    platform: Platforms | None = Field(default=None, description="Tags for any of these platforms.")
    pushed_by: Text | None = Field(default=None, description="Who pushed what the tag points to.")
    published_after: Time | None = Field(default=None, description="Exclusive.")
    published_before: Time | None = Field(default=None, description="Exclusive.")
    created_after: Time | None = Field(default=None, description="Exclusive; by the image's own config.")
    created_before: Time | None = Field(default=None, description="Exclusive; by the image's own config.")
    pulled_after: Time | None = Field(default=None, description="Last pulled after; exclusive.")
    pulled_before: Time | None = Field(
        default=None, description="Last pulled before; exclusive. Tags that were never pulled do not match."
    )
    never_pulled: Flag | None = Field(
        default=None,
        description="Whether no pull of the tag is on record. Pulls that the registry does not announce are not.",
    )
    not_pulled_since: Time | None = Field(
        default=None, description="Not pulled at that time or later; tags that were never pulled match, too."
    )
    checked_after: Time | None = Field(
        default=None, description="Last checked (HEAD alone) after; exclusive."
    )
    checked_before: Time | None = Field(
        default=None,
        description="Last checked (HEAD alone) before; exclusive. Tags that were never checked do not match.",
    )
    not_checked_since: Time | None = Field(
        default=None,
        description="Not checked (HEAD alone) at that time or later; tags that were never checked match, too.",
    )
    size_min: Bytes | None = Field(default=None, description="Bytes, inclusive.")
    size_max: Bytes | None = Field(default=None, description="Bytes, inclusive.")
    broken: Flag | None = Field(default=None, description="Listed by the registry, but cannot be read.")
    verified: Flag | None = Field(
        default=None, description="Whether an observation of the registry has confirmed it."
    )
    in_use: Flag | None = Field(
        default=None,
        description="Whether a source reported it as in use: its digest, that of a child, an index or its config.",
    )
    expires_before: Time | None = Field(
        default=None, description="Tags that cleanup planned to delete before this; exclusive."
    )


class TagsQuery(TagFilterQuery):
    """The tags of one repository."""

    sort: str = sort_field(OF_REPOSITORY, default="name")
    name: Text | None = Field(default=None, description="Tags that contain this.")


class Expiry(Shown):
    """That a policy planned to delete a tag."""

    at: datetime = Field(
        description="Not before this; and only if the plan may be carried out then, and nothing has changed."
    )
    policy: str
    rule: str | None


class ProtectedBy(Shown):
    """One reason that keeps a tag from cleanup."""

    kind: Literal["rule", "hold", "in_use"]
    by: str = Field(description="The policy, the owner of the hold, or the source that reported it.")
    rule: str | None = Field(description="The rule of the policy.")
    until: datetime | None = Field(description="When the hold ends; null: when it is removed.")


class Tag(Shown):
    """One tag."""

    name: str
    digest: str | None = Field(description="Null for a broken tag that no event announced.")
    media_type: str | None
    artifact_type: str | None
    kind: Kind
    size_bytes: int = Field(
        description="Manifest, config and layers; of an index, its children. 0: not known yet."
    )
    published_at: datetime = Field(description="Since when the tag points to this digest.")
    published_at_source: TimeSource = Field(description="How that is known.")
    created_at: datetime | None = Field(description="By the image's own config.")
    first_seen_at: datetime
    last_pulled_at: datetime | None
    last_checked_at: datetime | None = Field(description=CHECKED)
    pull_count: int
    platforms: list[str]
    config_digest: str | None
    pushed_by: str | None
    verified_at: datetime | None = Field(
        description="When an observation of the registry last confirmed it. Null: unverified, known from an event only."
    )
    broken: bool = Field(description="Listed by the registry, but cannot be read.")
    broken_reason: BrokenReason | None = Field(
        description="Why: the registry answers 404 for it (`dangling_tag`), or 500 repeatedly (`unreadable_tag`)."
    )
    expires: Expiry | None = Field(
        description="When cleanup deletes it, as planned for this digest. Null: nothing planned that."
    )
    protected_by: list[ProtectedBy] = Field(
        description="What keeps cleanup from deleting it, whatever other rules say; empty: nothing does."
    )


class TagWithContent(Tag):
    """One tag with its manifest."""

    repository: str
    pulls_known: bool = Field(description=PULLS_KNOWN)
    manifest: Manifest | None
    referrers: list[Referrer] = Field(
        description="Artifacts in the repository whose subject is this digest; at most 1000."
    )
    sibling_tags: list[str] = Field(description="Other tags that point to the same digest; at most 1000.")
    referenced_bytes: int | None = Field(
        description="What its manifest, its children and what is attached to them need, as stored. These four are null "
        "where the storage was not read since a tag points there: see `reconciler storage report`."
    )
    exclusive_bytes: int | None = Field(
        description="Of this, what nothing else needs, in any repository: what is freed if exactly this tag is deleted "
        "with its manifests, and garbage is collected. 0 where another tag has the digest. Of several tags it does not "
        "add up."
    )
    attributed_bytes: int | None = Field(
        description="Each blob divided by the number of those that need it: adds up to all that is referenced."
    )
    bytes_as_of: datetime | None = Field(description="When the storage was read.")


class NoQuery(Query):
    """No parameters."""


@operation(TAGS, query=TagsQuery, result=Listed[Tag], item=Tag)
async def list_tags(call: ApiCall[TagsQuery]) -> Items:
    """List the tags of a repository, sorted and filtered.

    In a repository of more than 50,000 tags, a filter without an index reads 20,000 tags per request: the page may then
    be short or empty, and still have a `next`. Sorting by `last_checked_at` first works for at most 10,000 tags.
    """
    wanted = tag_filter(call.query, name=call.query.name)
    sort = parse_sort(call.query.sort, OF_REPOSITORY)
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        _refuse_to_sort(repository, sort[0][0])
        listing = await tags_of_repository(held, repository=repository, sort=sort, wanted=wanted)
        page = await fetch_tags(
            held, call.interned, listing, call.cursors.page_of(call.query, SCOPE, listing.orders)
        )
        count = await counted(held, call, listing)
    return items_of(
        call, SCOPE, listing, page.found, items=show_tags(page), freshness=repository.freshness, count=count
    )


@operation(TAG, query=NoQuery, result=TagWithContent)
async def get_tag(call: ApiCall[NoQuery]) -> Document:
    """Show one tag with its manifest."""
    async with call.readers.reading() as held:
        repository = await readable_repository(held, call)
        row = await find_tag(held, repository_id=repository.id, name=call.path["tag"])
        if row is None:
            raise not_found("there is no such tag on record")
        page = await with_interned(held, call.interned, PageRows(rows=[row], next=None, previous=None))
        content, figures = None, None
        if row["manifest_id"] is not None:
            figures = await find_root(held, repository_id=repository.id, manifest_id=row["manifest_id"])
            content = await store.manifest_content(
                held, call.interned, repository_id=repository.id, manifest_id=row["manifest_id"]
            )
    shown = show_tag(row, page) | {
        "repository": repository.name,
        "pulls_known": repository.freshness.pulls_known,
    }
    if content is None:
        return Document(
            body=shown
            | {"manifest": None, "referrers": [], "sibling_tags": []}
            | _show_bytes(figures, siblings=0)
        )
    siblings = [name for name in content.tags if name != row["name"]]
    return Document(
        body=shown
        | {
            "manifest": show_manifest(content),
            "referrers": [show_referrer(referrer, content.facets) for referrer in content.referrers],
            "sibling_tags": siblings,
        }
        | _show_bytes(figures, siblings=len(siblings))
    )


def _show_bytes(of_digest: RootBytes | None, *, siblings: int) -> dict[str, Any]:
    """Return what the bytes of a tag are, by those of its digest; every tag on it keeps all of it."""
    if of_digest is None:
        return dict.fromkeys(("referenced_bytes", "exclusive_bytes", "attributed_bytes", "bytes_as_of"))
    return {
        "referenced_bytes": of_digest.referenced_bytes,
        "exclusive_bytes": 0 if siblings else of_digest.exclusive_bytes,
        "attributed_bytes": of_digest.attributed_bytes // (siblings + 1),
        "bytes_as_of": format_time(of_digest.as_of),
    }


def _refuse_to_sort(repository: RepositoryRef, key: str) -> None:
    """Raise ``CallerError`` where no index has the order, and there are too many tags to sort them for each page."""
    if key == "last_checked_at" and repository.tag_count > store_tags.SORTED_BY_CHECKS:
        raise CallerError(
            f"a repository of more than {store_tags.SORTED_BY_CHECKS} tags is not sorted by last_checked_at",
            code="too_many_to_sort",
            parameter="sort",
            allowed="another key first; checked_after, checked_before and not_checked_since filter by it",
        )


def tag_filter(query: TagFilterQuery, *, name: str | None) -> TagFilter:
    """Return the store's filter for a query; raise ``CallerError`` for a bad regular expression."""
    matches = None
    if query.name_regex is not None:
        matches = whole_name_matcher("name_regex", query.name_regex)
    return TagFilter(
        name=name,
        name_prefix=query.name_prefix,
        name_glob=query.name_glob,
        name_matches=matches,
        digest=None if query.digest is None else Digest(query.digest),
        media_types=query.media_type,
        artifact_types=query.artifact_type,
        kinds=query.kind,
        platforms=query.platform,
        pushed_by=query.pushed_by,
        published_after=query.published_after,
        published_before=query.published_before,
        created_after=query.created_after,
        created_before=query.created_before,
        pulled_after=query.pulled_after,
        pulled_before=query.pulled_before,
        never_pulled=query.never_pulled,
        not_pulled_since=query.not_pulled_since,
        checked_after=query.checked_after,
        checked_before=query.checked_before,
        not_checked_since=query.not_checked_since,
        size_min=query.size_min,
        size_max=query.size_max,
        broken=query.broken,
        verified=query.verified,
        in_use=query.in_use,
        expires_before=query.expires_before,
    )


def show_tags(page: TagPage) -> list[Mapping[str, Any]]:
    """Return each :class:`Tag` for the response."""
    return [show_tag(row, page) for row in page.found.rows]


def show_tag(row: Row, page: TagPage) -> dict[str, Any]:
    """Return a :class:`Tag` for the response."""
    facet = page.facets[row["facet_id"]]
    return {
        "name": row["name"],
        "digest": shown_digest(row["digest"]),
        "media_type": facet.media_type or None,
        "artifact_type": facet.artifact_type or None,
        "kind": facet.kind,
        "size_bytes": row["size_bytes"],
        "published_at": show_instant(row["published_at"]),
        "published_at_source": row["published_source"],
        "created_at": show_instant(row["image_created"]),
        "first_seen_at": show_instant(row["first_seen_at"]),
        "last_pulled_at": show_instant(row["last_pulled_at"]),
        "last_checked_at": show_instant(row["last_checked_at"]),
        "pull_count": row["pull_count"] or 0,
        "platforms": facet.platforms,
        "config_digest": shown_digest(row["config_digest"]),
        "pushed_by": page.actors[row["pushed_by"]],
        "verified_at": show_instant(row["verified_at"]),
        "broken": row["broken_reason"] is not None,
        "broken_reason": row["broken_reason"],
        "expires": _show_expiry(page.expiring.get((row["repository_id"], row["name"]))),
        "protected_by": [
            {"kind": each.kind, "by": each.by, "rule": each.rule, "until": show_instant(each.until)}
            for each in page.protected.get((row["repository_id"], row["name"]), ())
        ],
    }


def _show_expiry(planned: Row | None) -> dict[str, Any] | None:
    if planned is None:
        return None
    return {"at": show_instant(planned["due_at"]), "policy": planned["policy"], "rule": planned["rule"]}


def shown_digest(packed: bytes | None) -> str | None:
    """Return a stored digest as text; None where there is none."""
    return None if packed is None else digest_from_bytes(packed)
