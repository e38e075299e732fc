"""The trash: delete one tag, list what we deleted, put it back. The work is done by jobs."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field

from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import DigestText, Flag, Query, Text, Texts, Time
from indexer.api.paths import TAG
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Items
from indexer.api.rights import knows_of, require_acting
from indexer.api.v1.jobs import KEY, JobShown, ask_for
from indexer.common.rfc3339 import format_time
from indexer.inventory.own_actions import ActionKind, TagAction
from indexer.inventory.trash import restorable
from indexer.jobs.kinds import DELETE, RESTORE
from indexer.jobs.params import DeleteParams, RestoreParams
from indexer.oci.digest import Digest, digest_from_bytes
from indexer.oci.reference import RepositoryName
from indexer.store import tag_actions
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import Row, fetch_page
from indexer.store.listing.trash import TrashFilter, deleted_of, listed_trash

SCOPE = "trash"
NO_DELETION = "there is no such deletion in the trash"


class TrashQuery(ListQuery):
    """Deletions, newest first."""

    repository: Texts | None = Field(default=None, description="In any of these repositories.")
    tag: Text | None = Field(default=None, description="Of this tag.")
    deleted_by: Texts | None = Field(default=None, description="Asked for by any of these.")
    job: Text | None = Field(default=None, description="By this job.")
    deleted_after: Time | None = Field(default=None, description="Exclusive.")
    deleted_before: Time | None = Field(default=None, description="Exclusive.")
    manifests: Flag = Field(
        default=False, description="Manifests that were deleted by their digest, in place of tags."
    )


class ReasonQuery(Query):
    """Parameters of what is asked for."""

    reason: Text | None = Field(default=None, description="Why; it goes into the audit log.")


class DeleteQuery(ReasonQuery):
    """Parameters of the deletion of a tag."""

    digest: DigestText | None = Field(
        default=None,
        description="Delete it only if it points to this when it is looked at. Without it: wherever it points.",
    )


class RestoreQuery(ReasonQuery):
    """Parameters of a restore."""

    force: Flag = Field(
        default=False,
        description="Also where the tag points to something else by now; that is lost then.",
    )


class RestorableShown(Shown):
    """Whether a deletion can be undone, as far as the record says.

    Whether every blob is still in the registry is found out by the restore, before it changes anything.
    """

    possible: bool
    until: datetime | None = Field(description="Until when, if it is possible.")
    because: str | None = Field(description="Why it is not possible.")
    by_force: bool = Field(
        description="It is possible with `force`; what the tag points to by now is lost then."
    )
    unless: str | None = Field(
        description="What may end it sooner: once the manifest left the repository, a garbage collection does."
    )


class TrashShown(Shown):
    """A tag that we deleted, or a manifest."""

    id: uuid.UUID
    repository: str
    tag: str | None = Field(description="Null: the manifest itself, by its digest.")
    digest: str = Field(description="What the tag pointed to, or the manifest's own.")
    deleted_at: datetime
    deleted_by: str | None = Field(
        description="Who asked for it: a person, or a policy. Null: erased from the log."
    )
    source: Literal["operator", "policy"]
    reason: str | None
    job: uuid.UUID | None
    outcome: str | None = Field(
        description="What it came to, like `deleted` or `put_back`; null: not certain yet."
    )
    restorable: RestorableShown


@command(
    "DELETE",
    TAG,
    query=DeleteQuery,
    result=JobShown,
    status=202,
    headers=(KEY,),
    refusals=(404, 409, 422),
)
async def delete_tag(call: ApiCall[DeleteQuery]) -> Changed:
    """Delete one tag.

    Only this tag: others of the same manifest stay. The answer is the job that does it (kind `delete`); `Location` is
    where it is shown. 403: the token may not delete in the repository. 404: there is no such repository. 409: another
    job acts on it.
    """
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    wanted = call.query
    params = DeleteParams(
        tags=[f"{call.path['repository']}:{call.path['tag']}"],
        digest=None if wanted.digest is None else Digest(wanted.digest),
    )
    return await ask_for(call, DELETE, params, reason=wanted.reason)


@operation("/trash", query=TrashQuery, result=Listed[TrashShown], item=TrashShown)
async def list_trash(call: ApiCall[TrashQuery]) -> Items:
    """List the tags, or manifests, that we deleted, newest first, with whether each can be restored."""
    query = call.query
    wanted = TrashFilter(
        repositories=query.repository,
        tag=query.tag,
        deleted_by=query.deleted_by,
        job=query.job,
        deleted_after=query.deleted_after,
        deleted_before=query.deleted_before,
        manifests=query.manifests,
    )
    listing = listed_trash(granted=call.principal.repositories, wanted=wanted)
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    now = datetime.now(UTC)
    shown = [_show(row, now) for row in found.rows]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@command(
    "POST",
    "/trash/{id}/restore",
    query=RestoreQuery,
    result=JobShown,
    status=202,
    headers=(KEY,),
    refusals=(404, 409, 422),
)
async def restore_deletion(call: ApiCall[RestoreQuery]) -> Changed:
    """Put a deleted tag back, with everything that it needs and the dates that it had; or a deleted manifest.

    The answer is the job that does it (kind `restore`); `Location` is where it is shown. 403: the token may not push to
    the repository. 404: there is no such deletion. 409: another job acts on the repository.
    """
    require_acting(call.principal, acting_is_on=call.acting_is_on)
    deletion = await _deletion(call)
    named = (
        {"tags": [f"{deletion.repository}:{deletion.tag}"]}
        if deletion.tag
        else {"manifests": [f"{deletion.repository}@{deletion.digest}"]}
    )
    params = RestoreParams(**named, deletion=deletion.id, force=call.query.force)
    return await ask_for(call, RESTORE, params, reason=call.query.reason)


async def _deletion(call: ApiCall[Any]) -> TagAction:
    """Return the deletion of the path; raise a 404 where there is none, or the caller may not know of it."""
    try:
        number = uuid.UUID(call.path["id"])
    except ValueError:
        raise not_found(NO_DELETION) from None
    async with call.readers.reading() as held:
        found = await tag_actions.find_actions(held, ids=[number])
    for action in found:
        deletes = action.kind in (ActionKind.DELETE, ActionKind.UNLINK)
        carried_out = deletes and action.done_at is not None
        if carried_out and knows_of(call.principal, action.repository):
            return action
    raise not_found(NO_DELETION)


def _show(row: Row, now: datetime) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "repository": RepositoryName(row["repository"]),
        "tag": row["tag"] or None,
        "digest": digest_from_bytes(row["digest"]),
        "deleted_at": format_time(row["done_at"]),
        "deleted_by": row["actor"],
        "source": row["source"],
        "reason": row["reason"],
        "job": None if row["job_id"] is None else str(row["job_id"]),
        "outcome": row["outcome"],
        "restorable": restorable(deleted_of(row), now=now).show(),
    }
