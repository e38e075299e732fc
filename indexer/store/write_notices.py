"""Notices of writes under way: which questions must wait, and for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from indexer.inventory.events import Event, EventAction
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("write_notices")

CHANNEL = "write_notice"
"""Notified when notices ended or were verified: questions may go on."""
WANTED_CHANNEL = "write_notice_wanted"
"""Notified when notices are to be verified."""

MOST_PER_REPOSITORY = 2000
"""Notices kept one by one. With more, the repository counts as being written until they are forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a question is about: a repository, also those ``below`` it; ``referrers``: pushes by digest count, too."""

    repository: str
    below: bool = False
    referrers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that waits. ``newest``: the newest notice that it waits for; ``overflow``: there are too many."""

    scope: Scope
    number: int
    newest: int | None
    overflow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNotice:
    """A notice whose reference is to be verified for a question; ``repository_id`` None: not on record."""

    id: str
    repository: RepositoryName
    reference: str
    question: int
    repository_id: int | None

    @property
    def digest(self) -> Digest | None:
        """The digest, if the reference is one."""
        return Digest(self.reference) if ":" in self.reference else None


async def put_notice(
    connection: Connection, *, number: str, repository: RepositoryName, reference: str, method: str
) -> None:
    """Note a write before it is passed to the registry; ``number`` is the proxy's id of the request."""
    noted = await connection.fetchval(
        SQL["put_notice"], number, repository, reference, method, MOST_PER_REPOSITORY
    )
    if noted is None:
        await connection.execute(SQL["put_overflow"], repository)


async def end_notices(held: Connection, events: Sequence[Event]) -> None:
    """End the notices of events that are applied, in their transaction.

    The deletion of a digest goes on as deletions of the tags that point to it: each has an event of its own.
    """
    ours = [event for event in events if event.write is not None and not event.imported]
    if not ours:
        return
    deleted = [
        event
        for event in ours
        if event.action is EventAction.DELETE and event.tag is None and event.digest is not None
    ]
    if deleted:
        await held.execute(
            SQL["spread_deletions"],
            [event.write for event in deleted],
            [event.repository for event in deleted],
            [event.digest for event in deleted],
            [digest_to_bytes(event.digest) for event in deleted if event.digest is not None],
        )
    ended = await held.fetch(
        SQL["end_notices"],
        [event.write for event in ours],
        [event.repository for event in ours],
        [event.tag or event.digest for event in ours],
    )
    if ended:
        await held.execute(f"NOTIFY {CHANNEL}")


async def begin_question(connection: Connection, scope: Scope) -> Question:
    """Number a question, and find what it must wait for."""
    row = await connection.fetchrow(SQL["begin_question"], scope.repository, scope.below, scope.referrers)
    assert row is not None  # noqa: S101 - an aggregate has a row
    return Question(scope=scope, number=row["number"], newest=row["newest"], overflow=row["overflow"])


async def count_open(connection: Connection, question: Question) -> int:
    """Return how many notices a question still waits for."""
    scope = question.scope
    return int(
        await connection.fetchval(
            SQL["count_open"],
            scope.repository,
            scope.below,
            scope.referrers,
            question.number,
            question.newest or 0,
        )
    )


async def want_verified(connection: Connection, question: Question) -> None:
    """Have the tags of the open notices verified for a question: the registry is to be asked after it."""
    scope = question.scope
    async with connection.transaction():
        await connection.execute(
            SQL["want_verified"],
            scope.repository,
            scope.below,
            question.number,
            question.newest or 0,
        )
        await connection.execute(f"NOTIFY {WANTED_CHANNEL}")


async def list_wanted(connection: Connection, *, limit: int) -> list[WantedNotice]:
    """Return the notices that are to be verified."""
    return [
        WantedNotice(
            id=row["id"],
            repository=RepositoryName(row["repository"]),
            reference=row["reference"],
            question=row["wanted"],
            repository_id=row["repository_id"],
        )
        for row in await connection.fetch(SQL["list_wanted"], limit)
    ]


async def list_pointing(connection: Connection, *, repository_id: int, digest: Digest) -> list[TagName]:
    """Return the tags on record that point to a digest."""
    rows = await connection.fetch(SQL["list_pointing"], repository_id, digest_to_bytes(digest))
    return [TagName(row["name"]) for row in rows]


async def finish_wanted(
    connection: Connection, *, verified: Sequence[WantedNotice], unknown: Sequence[WantedNotice]
) -> None:
    """Say which references were verified for the questions that wanted it, and of which nothing is known."""
    async with connection.transaction():
        if unknown:
            await connection.execute(SQL["drop_wanted"], *_columns(unknown))
        if verified:
            await connection.execute(SQL["mark_verified"], *_columns(verified))
            await connection.execute(f"NOTIFY {CHANNEL}")


def _columns(notices: Sequence[WantedNotice]) -> tuple[list[str], list[str], list[str], list[int]]:
    return (
        [notice.id for notice in notices],
        [notice.repository for notice in notices],
        [notice.reference for notice in notices],
        [notice.question for notice in notices],
    )


async def has_unread(connection: Connection, *, repository: str) -> bool:
    """Return whether manifests of a repository are still to be read, so that their subjects are not known yet."""
    return bool(await connection.fetchval(SQL["has_unread"], repository))


async def count_notices(connection: Connection) -> int:
    """Return how many notices are open."""
    return int(await connection.fetchval(SQL["count_notices"]))


async def trim_notices(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget notices from before an instant; return how many."""
    return int((await connection.execute(SQL["trim_notices"], before, limit)).rsplit(" ", 1)[1])
