"""Notices of writes under way: which questions must wait, and for what."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Final

from indexer.common.errors import StoreBusy
from indexer.inventory.dummies import DUMMIES
from indexer.inventory.events import Event, EventAction
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import manifests
from indexer.store.pool import Connection
from indexer.store.queries import load
from indexer.store.work_items import ABSENT

SQL = load("write_notices")

CHANNEL = "write_notice"
"""Notified when notices ended or were verified, or manifests were read: questions may go on."""
WANTED_CHANNEL = "write_notice_wanted"
"""Notified when notices are to be verified, or manifests to be read at once."""

MOST_PER_REPOSITORY = 2000
MOST_PER_ADDRESS = 200
"""Notices kept one by one, of a repository and of one address there. Of more it is only noted that there are more."""
OVERFLOW_NOTED_EVERY = timedelta(seconds=30)
"""So often it is noted again while it lasts: a flood reads that row for each write, and must not write it as often."""

MOST_READ_FIRST = 256
"""So many unread manifests of a repository are preferred at a time: each is a row to write."""
MOST_ASKED_AGAIN = 64

ALL_TAGS = "**"
"""The reference of a row that is no write: a question wants the repository compared."""


@unique
class Comparison(StrEnum):
    """What a question wants compared with the registry. The ids of such rows: too short for that of a write."""

    NAMES = "names"
    ALL = "compare"


JUDGEMENTS: Final = 0x6A756467
"""Class of the advisory locks of judgements about a repository ("judg")."""

DELETION_SECONDS: Final = 10.0
"""How long a judged deletion of a digest holds back pushes of immutable tags, should its event not come: a deletion
carries nothing that could be long on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a question is about: a repository, also those ``below`` it.

    ``names``: of the tags, the names alone. ``referrers``: pushes by digest count, too.
    """

    repository: str
    below: bool = False
    names: bool = False
    referrers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that waits.

    ``newest``: the newest notice that it waits for, of ``open`` in all; the oldest is ``oldest_seconds`` old.
    ``overflow``: more writes are under way than are kept one by one.
    """

    scope: Scope
    number: int
    newest: int | None
    open: int
    oldest_seconds: float
    overflow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNotices:
    """What a question still waits for: notices that are ``open``, of those that have not ended (``left``).

    ``state`` is another one after each event that ended one of them, or that may overrule what was verified.
    """

    open: int
    left: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNotice:
    """A notice whose reference is to be verified for a question; ``repository_id`` None: not on record.

    ``touched``: how many events of the reference had been applied before the registry was asked.
    """

    id: str
    repository: RepositoryName
    reference: str
    method: str
    question: int
    touched: int
    repository_id: int | None

    @property
    def digest(self) -> Digest | None:
        """The digest, if the reference is one."""
        return Digest(self.reference) if ":" in self.reference else None

    @property
    def pushed(self) -> Digest | None:
        """The digest, if the write is the push of a manifest without a tag."""
        return self.digest if self.method == "PUT" else None

    @property
    def comparison(self) -> bool:
        """Whether the repository is to be compared, and this is no write."""
        return self.reference == ALL_TAGS


async def put_notice(
    connection: Connection,
    *,
    number: str,
    repository: RepositoryName,
    reference: str,
    method: str,
    address: bytes = b"",
) -> bool:
    """Note a write before it is passed to the registry; ``number`` is the proxy's id of the request.

    Returns False if so many are noted that it is only noted that there are more. ``address``: a hash of the client's.
    """
    noted = await connection.fetchval(
        SQL["put_notice"],
        number,
        repository,
        reference,
        method,
        address,
        MOST_PER_ADDRESS,
        MOST_PER_REPOSITORY,
    )
    if noted is not None:
        return True
    if not await connection.fetchval(SQL["has_overflow"], repository, OVERFLOW_NOTED_EVERY):
        await connection.execute(SQL["put_overflow"], repository)
    return False


async def put_push_once(
    connection: Connection,
    *,
    number: str,
    repository: RepositoryName,
    tag: TagName,
    within: float,
    address: bytes,
) -> bool:
    """Note the push of a tag that may be pushed once; False: another write that decides it may be under way.

    ``within``: seconds in which the push may begin. Raises ``StoreBusy`` where the repository has too many notices.
    """
    async with connection.transaction():
        await connection.execute(SQL["lock_judgements"], JUDGEMENTS, repository)
        if await connection.fetchval(SQL["count_rivals"], number, repository, tag, DELETION_SECONDS):
            return False
        noted = await connection.fetchval(
            SQL["put_push"], number, repository, tag, MOST_PER_REPOSITORY, within, address
        )
        if noted is None:
            raise StoreBusy(f"{repository} has too many writes under way")
    return True


async def want_checked(
    connection: Connection, *, number: str, repository: RepositoryName, tag: TagName
) -> int | None:
    """Have the tag of a notice verified; return the number of the question, None: there is no such notice."""
    async with connection.transaction():
        question = await connection.fetchval(SQL["want_checked"], number, repository, tag)
        await connection.execute(f"NOTIFY {WANTED_CHANNEL}")
    return None if question is None else int(question)


async def is_checked(
    connection: Connection, *, number: str, repository: RepositoryName, tag: TagName, question: int
) -> bool:
    """Return whether the tag of a notice was verified for a question."""
    return bool(await connection.fetchval(SQL["is_checked"], number, repository, tag, question))


async def has_tag(connection: Connection, *, repository: RepositoryName, tag: TagName) -> bool:
    """Return whether a tag is on record."""
    return bool(await connection.fetchval(SQL["has_tag"], repository, tag))


async def drop_notice(connection: Connection, *, number: str, repository: RepositoryName) -> None:
    """End the notice of a write that did not take place."""
    await connection.execute(SQL["drop_notice"], number, repository)
    await connection.execute(f"NOTIFY {CHANNEL}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The tags that the deletion of a digest would take away, or break.

    ``by_dummy``: of those that are deleted on record, but perhaps not yet in the registry. ``arriving``: of which a
    push may be under way, to whatever digest. ``complete``: the registry has no others.
    """

    tags: tuple[TagName, ...]
    by_dummy: tuple[TagName, ...]
    arriving: tuple[TagName, ...]
    complete: bool


async def lock_judgements(connection: Connection, repository: RepositoryName) -> None:
    """Hold back other judgements about a repository until the transaction ends."""
    await connection.execute(SQL["lock_judgements"], JUDGEMENTS, repository)


async def find_kept(connection: Connection, *, repository: RepositoryName, digest: Digest) -> Kept:
    """Return which tags need a digest."""
    packed = digest_to_bytes(digest)
    rows = await connection.fetch(SQL["list_kept_by"], repository, packed, digest in DUMMIES)
    arriving = await connection.fetch(SQL["list_pushes"], repository)
    return Kept(
        tags=tuple(sorted(TagName(row["name"]) for row in rows if not row["by_dummy"])),
        by_dummy=tuple(sorted(TagName(row["name"]) for row in rows if row["by_dummy"])),
        arriving=tuple(sorted(TagName(row["name"]) for row in arriving)),
        complete=bool(await connection.fetchval(SQL["was_reconciled"])),
    )


async def end_notices(held: Connection, events: Sequence[Event]) -> None:
    """End the notices of events that are applied, in their transaction, and take back what was verified before.

    The deletion of a digest goes on as deletions of the tags that point to it: each has an event of its own. An event
    that is applied only now may be older than what the registry answered meanwhile, and may overrule that.
    """
    named = [event for event in events if not event.imported and not event.is_blob]
    references = {
        (event.repository, reference)
        for event in named
        for reference in (event.tag, event.digest, ALL_TAGS)
        if reference is not None
    }
    locked = await held.fetch(
        SQL["lock_notices"],
        [repository for repository, _ in references],
        [reference for _, reference in references],
    )
    if not locked:
        return
    ours = [event for event in named if event.write is not None]
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
    if len(ended) < len(locked):
        await held.execute(
            SQL["touch_notices"],
            [row["id"] for row in locked],
            [row["repository"] for row in locked],
            [row["reference"] for row in locked],
        )
    if ended:
        await held.execute(f"NOTIFY {CHANNEL}")


async def begin_question(connection: Connection, scope: Scope) -> Question:
    """Number a question, and find what it must wait for."""
    row = await connection.fetchrow(SQL["begin_question"], scope.repository, scope.below, scope.referrers)
    assert row is not None  # noqa: S101 - an aggregate has a row
    return Question(
        scope=scope,
        number=row["number"],
        newest=row["newest"],
        open=row["open"],
        oldest_seconds=row["oldest"],
        overflow=row["overflow"],
    )


async def count_open(
    connection: Connection, question: Question, *, compared: Collection[Comparison] = ()
) -> OpenNotices:
    """Return how many notices a question still waits for. ``compared``: the comparisons that verify them all."""
    scope = question.scope
    row = await connection.fetchrow(
        SQL["count_open"],
        scope.repository,
        scope.below,
        scope.referrers,
        question.number,
        question.newest or 0,
        list(compared),
    )
    assert row is not None  # noqa: S101 - an aggregate has a row
    return OpenNotices(open=row["open"], left=row["left"], state=row["state"])


async def want_compared(connection: Connection, question: Question, *, comparison: Comparison) -> None:
    """Have the repositories of a question compared: the registry is to be asked after it."""
    scope = question.scope
    async with connection.transaction():
        await connection.execute(
            SQL["want_compared"],
            scope.repository,
            scope.below,
            question.number,
            question.newest or 0,
            comparison,
        )
        await connection.execute(f"NOTIFY {WANTED_CHANNEL}")


async def is_compared(connection: Connection, question: Question) -> bool:
    """Return whether the question's repository was compared completely for it."""
    return bool(await connection.fetchval(SQL["is_compared"], question.scope.repository, question.number))


async def want_verified(
    connection: Connection, question: Question, *, noted_for: timedelta = timedelta(0)
) -> None:
    """Have the tags and digests of the open notices verified for a question: the registry is to be asked after it.

    ``noted_for``: of those alone that are noted for so long, and whose event should have come.
    """
    scope = question.scope
    async with connection.transaction():
        await connection.execute(
            SQL["want_verified"],
            scope.repository,
            scope.below,
            question.number,
            question.newest or 0,
            noted_for,
            scope.referrers,
        )
        await connection.execute(f"NOTIFY {WANTED_CHANNEL}")


async def list_wanted(connection: Connection, *, limit: int, all_tags: bool = False) -> list[WantedNotice]:
    """Return the notices that are to be verified; ``all_tags``: the wanted comparisons of all tags instead."""
    return [
        WantedNotice(
            id=row["id"],
            repository=RepositoryName(row["repository"]),
            reference=row["reference"],
            method=row["method"],
            question=row["wanted"],
            touched=row["touched"],
            repository_id=row["repository_id"],
        )
        for row in await connection.fetch(SQL["list_wanted"], limit, all_tags)
    ]


async def list_pointing(connection: Connection, *, repository_id: int, digest: Digest) -> list[TagName]:
    """Return the tags on record that point to a digest."""
    rows = await connection.fetch(SQL["list_pointing"], repository_id, digest_to_bytes(digest))
    return [TagName(row["name"]) for row in rows]


async def finish_wanted(
    connection: Connection, *, verified: Sequence[WantedNotice], unknown: Sequence[WantedNotice]
) -> None:
    """Say which references were verified for the questions that wanted it, and of which nothing is known.

    A verification counts only if no event of the reference was applied since it began: that may be an older one. Else
    the reference is still wanted.
    """
    if verified:
        async with connection.transaction():
            await connection.execute(
                SQL["mark_verified"], *_columns(verified), [notice.touched for notice in verified]
            )
            await connection.execute(f"NOTIFY {CHANNEL}")
    if unknown:
        # In a transaction of its own: each locks notices in one order, but both together would not.
        await connection.execute(SQL["drop_wanted"], *_columns(unknown))


def _columns(notices: Sequence[WantedNotice]) -> tuple[list[str], list[str], list[str], list[int]]:
    return (
        [notice.id for notice in notices],
        [notice.repository for notice in notices],
        [notice.reference for notice in notices],
        [notice.question for notice in notices],
    )


async def list_live(connection: Connection, *, repository_id: int) -> set[TagName]:
    """Return the names of a repository's tags on record."""
    return {TagName(row["name"]) for row in await connection.fetch(SQL["list_live"], repository_id)}


async def has_unread(connection: Connection, *, repository: str) -> bool:
    """Return whether manifests of a repository are still to be read, so that its referrers are not known yet.

    What was asked for already, and is asked for again, is known if the answer agrees with the record: the manifest is
    gone, or its content was read. What failed three times is left out.
    """
    if await connection.fetchval(SQL["has_unread"], repository):
        return True
    asked = await connection.fetch(SQL["list_asked"], repository, MOST_ASKED_AGAIN)
    if not asked:
        return False
    if len(asked) == MOST_ASKED_AGAIN:
        return True
    name = RepositoryName(repository)
    digests = [Digest(row["key"]) for row in asked]
    records = await manifests.find_repository_manifests(
        connection,
        keys=[(name, digest) for digest in digests],
        repository_ids={name: asked[0]["repository_id"]},
    )
    contents = await manifests.find_manifests(connection, digests=digests)
    for row, digest in zip(asked, digests, strict=True):
        record = records.get((name, digest))
        present = record is not None and record.present
        read = digest in contents and contents[digest].content != "announced"
        known = row["last_observation"] == (digest if present else ABSENT) and (read or not present)
        if not known:
            return True
    return False


async def want_read(connection: Connection, *, repository: str) -> None:
    """Have manifests of a repository that are not read yet read before all others."""
    async with connection.transaction():
        wanted = await connection.execute(SQL["want_read"], repository, MOST_READ_FIRST)
        if wanted != "UPDATE 0":
            await connection.execute(f"NOTIFY {WANTED_CHANNEL}")


async def tell_read(connection: Connection) -> None:
    """Let questions go on that wait for manifests to be read."""
    await connection.execute(f"NOTIFY {CHANNEL}")


async def count_notices(connection: Connection) -> int:
    """Return how many notices are open."""
    return int(await connection.fetchval(SQL["count_notices"]))


async def trim_notices(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget notices from before an instant; return how many."""
    return int((await connection.execute(SQL["trim_notices"], before, limit)).rsplit(" ", 1)[1])
