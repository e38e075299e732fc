"""Whether anything needs a manifest that is to be deleted by its digest, as far as the record says.

What a plan said is hours old by then. So everything that keeps a manifest is asked for again, right before the
request: tags, indexes, referrers, subjects, holds, what is in use, pulls, and restores that are promised. The caller
has locked the repository: nothing is applied to it meanwhile, and what is applied later is noted for the action.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.oci.reference import RepositoryName
from indexer.oci.referrers import fallback_tag
from indexer.store import holds
from indexer.store.cleanup_facts import APPLIED_WITHIN
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("unlinking")


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Something of the same repository that needs a manifest. ``kind``: tag, index, referrer, or subject."""

    digest: Digest
    kind: str
    tag: str | None = None
    by: Digest | None = None

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        if self.kind == "tag":
            return f"tag {self.tag} needs it"
        if self.kind == "subject":
            return f"it is attached to {self.by}, which is there"
        return f"the {self.kind} {self.by} needs it"


async def lock_repository(connection: Connection, *, repository: RepositoryName) -> None:
    """Wait for what is being applied to a repository; nothing more is until the end of the transaction."""
    await connection.execute(SQL["lock_repository"], repository)


async def needs(
    connection: Connection, *, repository: RepositoryName, digests: Iterable[Digest]
) -> list[Need]:
    """Return what in a repository needs some manifests, by the record."""
    wanted = list(digests)
    rows = await connection.fetch(
        SQL["needs"],
        repository,
        [digest_to_bytes(each) for each in wanted],
        [fallback_tag(each) for each in wanted],
    )
    return [_need(row) for row in rows]


async def new_needs(connection: Connection, *, repository: RepositoryName, digest: Digest) -> list[Need]:
    """Return the indexes and referrers that need a manifest that was deleted; not those that go themselves."""
    rows = await connection.fetch(SQL["new_needs"], repository, digest_to_bytes(digest))
    return [_need(row) for row in rows]


def _need(row: Any) -> Need:
    return Need(
        digest=digest_from_bytes(row["digest"]),
        kind=row["kind"],
        tag=row["tag"],
        by=None if row["by_digest"] is None else digest_from_bytes(row["by_digest"]),
    )


async def unread(connection: Connection, *, repository: RepositoryName) -> Digest | None:
    """Return a manifest of which it is not known yet what it refers to; None: there is none."""
    found: bytes | None = await connection.fetchval(SQL["unread"], repository)
    return None if found is None else digest_from_bytes(found)


async def promised_until(
    connection: Connection, *, repository: RepositoryName, digest: Digest, now: datetime
) -> datetime | None:
    """Return until when the restore of a tag is promised that a person deleted and that needs a manifest."""
    until: datetime | None = await connection.fetchval(
        SQL["promised_until"], repository, digest_to_bytes(digest), now
    )
    return until


async def unsettled(
    connection: Connection, *, repository: RepositoryName, but: uuid.UUID | None = None
) -> str | None:
    """Return a tag of which it is not certain that we undid no push of it; None: there is none in the repository."""
    found: str | None = await connection.fetchval(SQL["unsettled"], repository, but or uuid.UUID(int=0))
    return found


async def is_incomplete(connection: Connection, *, repository: RepositoryName) -> bool:
    """Tell whether a repository may have changed without our knowing: it must be compared with the registry first."""
    found: bool | None = await connection.fetchval(SQL["may_be_incomplete"], repository)
    return found is None or found


async def used_since(
    connection: Connection, *, repository: RepositoryName, digest: Digest, since: datetime, grace: timedelta
) -> str | None:
    """Return what was done since an instant with a manifest or its children, in a sentence; None: nothing.

    A pull of a child is one of its index, and what runs a child needs the index, too. ``grace`` of pushes: see
    ``cleanup_plans.changed_since``.
    """
    rows = await connection.fetch(SQL["family_down"], digest_to_bytes(digest))
    family = [row["digest"] for row in rows]
    configs = [row["config_digest"] for row in rows if row["config_digest"] is not None]
    known, pushed = since - APPLIED_WITHIN, since - min(grace, APPLIED_WITHIN)
    if await connection.fetchval(SQL["used_since"], repository, family, pushed, known):
        return "it, or an image in it, was pulled, checked or pushed since it was planned"
    names = [digest_from_bytes(each) for each in (*family, *configs)]
    if await connection.fetchval(SQL["in_use"], repository, names):
        return "a source reports it, or an image in it, as in use"
    return await _held(connection, repository, [digest_from_bytes(each) for each in family], known)


async def _held(
    connection: Connection, repository: RepositoryName, digests: Sequence[Digest], since: datetime
) -> str | None:
    for digest in digests:
        if await holds.holds_any(connection, repository=repository, tag=None, digest=digest, since=since):
            return "it, or an image in it, was put on hold since it was planned"
    return None
