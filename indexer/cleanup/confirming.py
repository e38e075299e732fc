"""What is uncertain and who may say that no push was lost: the same for the command line and the API."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from indexer.cleanup.holding import parse_target
from indexer.common.rfc3339 import format_time
from indexer.inventory.own_actions import TagAction
from indexer.oci.digest import Digest
from indexer.store.confirmations import find_uncertain
from indexer.store.pool import Connection

NOT_UNCERTAIN = (
    "it is not uncertain any more, or its request may still be on its way: look again in some minutes"
)


async def find_targets(connection: Connection, targets: Sequence[str]) -> list[TagAction]:
    """Return what is uncertain of REPO, REPO:TAG, REPO@DIGEST or an id each; raise ``ValueError``.

    It is an error where a target names nothing that is uncertain.
    """
    found: dict[uuid.UUID, TagAction] = {}
    for text in targets:
        number = _id_of(text)
        if number is not None:
            actions = await find_uncertain(connection, number=number)
        else:
            repository, tag, digest = parse_target(text)
            if repository is None:
                raise ValueError(f"{text}: name the repository, too: REPO@{text}")
            # A digest names the deletion of a manifest, not of a tag that pointed to it.
            of_tag = "" if digest is not None else tag
            actions = await find_uncertain(
                connection,
                repository=repository,
                tag=of_tag,
                digest=None if digest is None else Digest(digest),
            )
        if not actions:
            raise ValueError(f"{text}: nothing of it is uncertain; see `reconciler cleanup uncertain`")
        found |= {each.id: each for each in actions}
    return list(found.values())


def _id_of(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def uncertain_json(action: TagAction) -> dict[str, Any]:
    """Return what is uncertain as it is shown."""
    return {
        "id": str(action.id),
        "action": str(action.kind),
        "repository": action.repository,
        "tag": action.tag or None,
        "digest": action.digest,
        "because": action.note,
        "since": format_time(action.looked_at),
        "until": format_time(action.done_at or action.requested_at),
        "asked_by": action.actor,
        "source": action.source,
        "reason": action.reason,
        "job": None if action.job is None else str(action.job),
    }


def name_of(action: TagAction) -> str:
    """Return what an action was about: REPO:TAG or REPO@DIGEST."""
    return f"{action.repository}:{action.tag}" if action.tag else f"{action.repository}@{action.digest}"


def uncertain_line(action: TagAction) -> str:
    """Return it as a line."""
    shown = uncertain_json(action)
    what = {"delete": "deleted", "restore": "restored", "put_back": "put back", "unlink": "deleted"}
    return (
        f"{action.id}  {name_of(action)}  {what[action.kind]} ({action.digest}) between {shown['since']} and "
        f"{shown['until']}: {action.note}"
    )
