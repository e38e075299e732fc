"""Deletes manifests by their digest, once nothing needs them; puts them back where somebody pushed meanwhile.

Such a request takes every tag of the manifest along. So before any is sent, every tag of the repository is asked where
it points; what was pushed after that is announced, and put back::

    sweep ─▶ keep the manifest and its family, put the action on record ─▶ look ─▶ ask the record ─▶ DELETE ─▶ settle

Where the policy says so (``undo.trash``), the family is copied to another repository once it is on record.

The record is asked with the repository locked, after the action is on record: an event that was applied before is seen
there, one that is applied later is noted for the action. An index goes before what is attached to it, and that before
the children: the caller does one generation at a time, and the next once the record shows that the first is gone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from indexer.common.errors import RegistryError, RegistryMisbehaved
from indexer.inventory.own_actions import ActionKind, TagAction
from indexer.inventory.records import TimeSource
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import tag_actions as store
from indexer.store import unlinking
from indexer.store.pool import Connection, Pool, connection, transaction
from indexer.store.tag_actions import KeptManifest
from reconciler.cleanup import observe
from reconciler.cleanup.act import SETTLE_AFTER, Actor, SkipError, Why, planned
from reconciler.cleanup.observe import Unreadable
from reconciler.cleanup.trash import Trash
from reconciler.registry import hidden_tags
from reconciler.registry.answers import Deletion, NotFound
from reconciler.registry.protocol import ActingRegistry

log = structlog.get_logger()

SWEPT_FOR: Final = timedelta(minutes=2)
"""How long it counts that every tag was asked: pushes since are announced, and fewer of them are better."""

NO_TAG: Final = TagName("")
AT_A_TIME: Final = 8
NAMES_AT_A_TIME: Final = 1000

WAITING: Final = frozenset(
    {
        "hold.incomplete",
        "hold.unreadable",
        "hold.uncertain",
        "hold.hidden_tags",
        "hold.promised",
        "hold.needed",
        "hold.trash",
        "skipped.unverified",
        "hold.not_due",
        "under_way",
        "not_done",
    }
)
"""Codes of what stays due: nothing is known against it, only not enough for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwanted:
    """A manifest to delete. ``since``: what was done with it after that instant keeps it. ``reason``: why this one.

    ``grace``: how long the policy keeps what was pushed.
    """

    digest: Digest
    since: datetime
    grace: timedelta = timedelta(0)
    reason: str | None = None


IsDue = Callable[[Connection, Digest], Awaitable[bool]]
"""Whether a manifest may still be deleted: by a plan that is allowed, in its window."""


async def _always(_held: Connection, _digest: Digest) -> bool:
    return True


@dataclass(slots=True, kw_only=True)
class Unlinking:
    """What came of a call: the actions that were begun, and by digest what was skipped, in a code and a sentence."""

    begun: dict[Digest, uuid.UUID] = field(default_factory=dict)
    skipped: dict[Digest, tuple[str, str]] = field(default_factory=dict)


class Unlinker:
    """Deletes manifests of one repository, as one job does. ``actor`` has its leases and its right to go on.

    ``is_due`` is asked before each manifest, and right before its request: every tag may be asked in between.
    ``trash``: the name below which copies are made first; None: none are.
    """

    def __init__(
        self,
        pool: Pool,
        registry: ActingRegistry,
        actor: Actor,
        *,
        repository: RepositoryName,
        is_due: IsDue = _always,
        trash: str | None = None,
    ) -> None:
        self._pool = pool
        self._registry = registry
        self._actor = actor
        self._repository = repository
        self._is_due = is_due
        self._trash = None if trash is None else Trash(pool, registry, actor, below=trash)
        self._swept: tuple[datetime, datetime] | None = None

    async def unlink(
        self, wanted: Sequence[Unwanted], why: Why, *, together: frozenset[Digest], result: Unlinking
    ) -> None:
        """Delete manifests, adding to ``result``; raise the registry errors and what the actor's check raises.

        ``together``: all that are to go, those of later generations included.
        """
        try:
            for each in wanted:
                try:
                    await self._unlink(each, why, together, result)
                except SkipError as skip:
                    result.skipped[each.digest] = (skip.code, str(skip))
                except Unreadable as error:
                    result.skipped[each.digest] = ("hold.unreadable", str(error))
        finally:
            async with connection(self._pool) as held:
                await store.drop_planned(held, holder=self._actor.holder, now=datetime.now(UTC))

    async def _unlink(
        self, wanted: Unwanted, why: Why, together: frozenset[Digest], result: Unlinking
    ) -> None:
        repository, digest = self._repository, wanted.digest
        await self._actor.check()
        async with connection(self._pool) as held:
            await self._raise_if_kept(held, wanted, together)
        swept_at = await self._sweep()
        await self._raise_if_absent(digest)
        async with connection(self._pool) as held:
            family = await observe.read_family(self._registry, held, repository, digest)
        of_it = why if wanted.reason is None else replace(why, reason=wanted.reason)
        action = planned(ActionKind.UNLINK, repository, NO_TAG, digest, of_it)
        async with transaction(self._pool) as held:
            if not await self._actor.put_on_record(held, action):
                raise SkipError("under_way", "something is under way for this manifest already")
            await store.keep_manifests(held, number=action.id, manifests=family, now=action.asked_at)
        try:
            if self._trash is not None:
                await self._trash.copy(action, family)
            before = await self._actor.permit([action.id])
            await self._last_look(wanted, together, action)
        except SkipError as skip:
            async with connection(self._pool) as held:
                await self._actor.end(held, action.id, "skipped", skip.code, str(skip))
            raise
        once = await self._actor.note({action.id: swept_at}, "DELETE", repository, digest, before)
        result.begun[digest] = action.id
        try:
            answer = await self._registry.delete_once(repository, digest, once=once)
        except RegistryError as error:
            await self._actor.unanswered([action.id], error)
            return
        now = datetime.now(UTC)
        async with connection(self._pool) as held:
            if answer is Deletion.ACCEPTED:
                await store.mark_done(held, ids=[action.id], now=now, due_at=now + SETTLE_AFTER)
            elif answer is Deletion.ABSENT:
                text = "somebody else deleted the manifest meanwhile"
                await self._actor.end(held, action.id, "skipped", "absent", text)
            else:
                text = "the registry does not delete this manifest"
                await self._actor.end(held, action.id, "refused", "refused", text)

    async def _last_look(self, wanted: Unwanted, together: frozenset[Digest], action: TagAction) -> None:
        """Raise ``SkipError`` where anything is against the deletion by now."""
        await self._raise_if_absent(wanted.digest)
        async with transaction(self._pool) as held:
            await unlinking.lock_repository(held, repository=self._repository)
            await self._raise_if_kept(held, wanted, together, but=action.id)

    async def _raise_if_absent(self, digest: Digest) -> None:
        if isinstance(await self._registry.head_manifest(self._repository, digest), NotFound):
            raise SkipError("skipped.absent", "the registry does not have this manifest")

    async def _raise_if_kept(
        self,
        held: Connection,
        wanted: Unwanted,
        together: frozenset[Digest],
        *,
        but: uuid.UUID | None = None,
    ) -> None:
        """Raise ``SkipError`` where the record has anything against it."""
        repository, digest = self._repository, wanted.digest
        if not await self._is_due(held, digest):
            raise SkipError("hold.not_due", "no plan allows it now: see `reconciler cleanup status`")
        if await unlinking.is_incomplete(held, repository=repository):
            raise SkipError(
                "hold.incomplete", "events may have been lost since the repository was last compared in full"
            )
        unsettled = await unlinking.unsettled(held, repository=repository, but=but)
        if unsettled is not None:
            raise SkipError(
                "hold.uncertain", f"it is not certain that a deletion undid no push: see {unsettled}"
            )
        unread = await unlinking.unread(held, repository=repository)
        if unread is not None:
            raise SkipError("hold.unreadable", f"it is not known what {unread} refers to")
        found = await unlinking.needs(held, repository=repository, digests=[digest])
        needed = keeping(found, together)
        if needed is not None:
            raise SkipError("skipped.needed", needed)
        await self._raise_if_wanted(held, digest, wanted)
        await self._raise_if_attached_stays(held, wanted, found, together)

    async def _raise_if_wanted(self, held: Connection, digest: Digest, wanted: Unwanted) -> None:
        until = await unlinking.promised_until(
            held, repository=self._repository, digest=digest, now=datetime.now(UTC)
        )
        if until is not None:
            raise SkipError(
                "hold.promised",
                f"a tag that a person deleted can be restored with it until {until.isoformat()}",
            )
        used = await unlinking.used_since(
            held, repository=self._repository, digest=digest, since=wanted.since, grace=wanted.grace
        )
        if used is not None:
            raise SkipError("skipped.used", used)

    async def _raise_if_attached_stays(
        self, held: Connection, wanted: Unwanted, found: Iterable[unlinking.Need], together: frozenset[Digest]
    ) -> None:
        """Raise ``SkipError`` where what is attached, at any depth, was to go as well, and stays by now.

        It is deleted after its subject. What stays must not lose that.
        """
        left, asked = _attached(found), {wanted.digest}
        while left:
            each = left.pop()
            if each in asked:
                continue
            asked.add(each)
            needs = await unlinking.needs(held, repository=self._repository, digests=[each])
            other = next((need for need in needs if need.by not in together), None)
            if other is not None:
                raise SkipError("skipped.needed", f"{each} is attached to it and stays: {other.text}")
            try:
                await self._raise_if_wanted(held, each, wanted)
            except SkipError as skip:
                raise SkipError(skip.code, f"{each} is attached to it and stays: {skip}") from None
            left += _attached(needs)

    # --- the tags of the repository ------------------------------------------------------------------------------

    async def _sweep(self) -> datetime:
        """Return when every tag was asked last, by the registry's clock; ask them now if that is long ago."""
        now = datetime.now(UTC)
        if self._swept is not None and now - self._swept[0] < SWEPT_FOR:
            return self._swept[1]
        at = await sweep(self._pool, self._registry, self._repository)
        self._swept = (now, at)
        return at


async def sweep(pool: Pool, registry: ActingRegistry, repository: RepositoryName) -> datetime:
    """Ask every tag of a repository where it points; return when that was begun, by the registry's clock.

    Raise ``SkipError`` where the record does not have every tag as it is, or the registry may hide tags.
    """
    listing = await registry.list_tags(repository)
    if not listing.complete:
        raise SkipError("hold.incomplete", f"tags/list is incomplete: {'; '.join(listing.reasons)}")
    names = list(listing.names)
    if names and not hidden_tags.shows_what_could_hide(names):
        await _raise_if_tags_may_hide(registry, repository, names[0])
    for start in range(0, len(names), NAMES_AT_A_TIME):
        await _compare(pool, registry, repository, names[start : start + NAMES_AT_A_TIME])
    return observe.clock_of(listing)


async def _raise_if_tags_may_hide(
    registry: ActingRegistry, repository: RepositoryName, listed: TagName
) -> None:
    if (await registry.list_tags(hidden_tags.NEVER_THERE)).unknown_repository:
        return
    last = hidden_tags.behind(listed)
    page = await registry.list_tags_behind(repository, last=last, size=hidden_tags.PAGE)
    if hidden_tags.ignores_last(page, last=last):
        return
    raise SkipError(
        "hold.hidden_tags",
        "the registry may leave tags out of tags/list (distribution issue 4891), and deleting a manifest takes its "
        "tags along: nothing is unlinked",
    )


async def _compare(
    pool: Pool, registry: ActingRegistry, repository: RepositoryName, names: Sequence[TagName]
) -> None:
    async with connection(pool) as held:
        recorded = await store.find_recorded(held, repository=repository, tags=names)
    slots = asyncio.Semaphore(AT_A_TIME)

    async def differs(tag: TagName) -> bool:
        on_record = recorded.get(tag)
        if on_record is None or on_record.digest is None or not on_record.verified:
            return True
        async with slots:
            look = await observe.look_at(registry, repository, tag, expected=on_record.digest)
        return look.digest != on_record.digest

    answers = await asyncio.gather(*(differs(tag) for tag in names))
    different = next((tag for tag, differing in zip(names, answers, strict=True) if differing), None)
    if different is not None:
        raise SkipError(
            "skipped.unverified",
            f"the inventory does not know the tag {different} as it is: it was changed just now, or run "
            "`reconciler once` first",
        )


def _attached(found: Iterable[unlinking.Need]) -> list[Digest]:
    return [each.by for each in found if each.kind == "referrer" and each.by is not None]


def keeping(found: Iterable[unlinking.Need], together: frozenset[Digest]) -> str | None:
    """Return what of some needs keeps a manifest, in a sentence; what is attached to it and goes, too, does not."""
    return next((each.text for each in found if not (each.kind == "referrer" and each.by in together)), None)


def first_generation(wanted: Iterable[Digest], found: Sequence[unlinking.Need]) -> list[Digest]:
    """Return those of the manifests that nothing needs any more, in order; the others wait for these, or stay."""
    together = frozenset(wanted)
    by_digest: dict[Digest, list[unlinking.Need]] = {}
    for need in found:
        by_digest.setdefault(need.digest, []).append(need)
    return sorted(each for each in together if keeping(by_digest.get(each, ()), together) is None)


def children_in(found: Iterable[unlinking.Need]) -> set[Digest]:
    """Return the manifests that an index refers to and that are attached to nothing: they go last."""
    needs = list(found)
    return {each.digest for each in needs if each.kind == "index"} - {
        each.digest for each in needs if each.kind == "subject"
    }


# --- putting back ------------------------------------------------------------------------------------------------


async def put_back(
    pool: Pool, actor: Actor, action: TagAction, tags: Mapping[TagName, tuple[datetime, str | None]]
) -> list[uuid.UUID]:
    """Put back a manifest that our request took from somebody, with children, tags, and what was attached to it.

    ``tags``: those pushed to it meanwhile, with when and by whom. Return the actions; fewer than tags: one is busy.
    """
    async with connection(pool) as held:
        kept = await store.kept_of(held, number=action.id)
    content = next((each for each in kept if each.digest == action.digest), None)
    if content is None:
        raise RegistryMisbehaved(f"{action.repository}@{action.digest} was not kept: push it again")
    await actor.put_missing(action.repository, [each for each in kept if each.role == "child"])
    why = Why(source=action.source, actor=action.actor, reason=action.reason, job=action.job)
    done = []
    for tag, (at, by) in (tags or {NO_TAG: (datetime.now(UTC), None)}).items():
        put = replace(
            planned(ActionKind.PUT_BACK, action.repository, tag, action.digest, why),
            of_action=action.id,
            published_at=at,
            published_source=TimeSource.EVENT,
            first_seen_at=at,
            pushed_by=by,
        )
        number = await (actor.put(put, None, content) if tag else put_manifest(pool, actor, put, content))
        if number is not None:
            done.append(number)
    await actor.put_missing(action.repository, [each for each in kept if each.role == "referrer"])
    return done


async def restore(
    pool: Pool, actor: Actor, deletion: TagAction, why: Why, *, kept: Sequence[KeptManifest]
) -> uuid.UUID | None:
    """Put back a manifest that was deleted by its digest: children, itself, then what was attached to it.

    Raise ``SkipError`` unless every blob is there. None: there is nothing to do, since the repository has it.
    """
    repository, digest = deletion.repository, deletion.digest
    if not isinstance(await actor.registry.head_manifest(repository, digest), NotFound):
        return None
    content = await actor.restorable(deletion, kept)
    await actor.put_missing(repository, [each for each in kept if each.role == "child"])
    action = replace(planned(ActionKind.RESTORE, repository, NO_TAG, digest, why), of_action=deletion.id)
    number = await put_manifest(pool, actor, action, content)
    if number is None:
        raise SkipError("under_way", "something is under way for this manifest already: try again")
    await actor.put_missing(repository, [each for each in kept if each.role == "referrer"])
    return number


async def put_manifest(
    pool: Pool, actor: Actor, action: TagAction, content: KeptManifest
) -> uuid.UUID | None:
    """Push a manifest by its digest, as an action; None: something is under way for it."""
    async with connection(pool) as held:
        if not await actor.put_on_record(held, action):
            return None
    before = await actor.permit([action.id])
    once = await actor.note({action.id: action.asked_at}, "PUT", action.repository, action.digest, before)
    try:
        await actor.registry.put_manifest_once(
            action.repository, action.digest, content.content, media_type=content.media_type, once=once
        )
    except RegistryError as error:
        await actor.unanswered([action.id], error)
        raise
    now = datetime.now(UTC)
    async with connection(pool) as held:
        await store.mark_done(held, ids=[action.id], now=now, due_at=now + SETTLE_AFTER)
    return action.id
