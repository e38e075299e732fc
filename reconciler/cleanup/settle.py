"""Follows every action until it is certain that it undid no push; finishes what a crash interrupted.

    planned ──▶ requested ──▶ done ──▶ checked
       │            │           │  └──▶ uncertain ──▶ checked: it became certain, or a person confirmed it
       ▼            ▼           └─────▶ a push is put back, as an action of its own
    skipped    skipped (it was not carried out)

Whoever acts calls it for its own actions and waits; the daemon's loop does it for those of a process that ended, and
for whatever is announced late, within ``act.WATCHED``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, assert_never

import structlog
from prometheus_client import Counter

from indexer.background.loop import IterationResult
from indexer.common.errors import RegistryError
from indexer.inventory.own_actions import ActionKind, TagAction
from indexer.oci.reference import RepositoryName
from indexer.store import tag_actions as store
from indexer.store import unlinking
from indexer.store.pool import Pool, connection
from reconciler.cleanup import observe
from reconciler.cleanup.act import LEASE_SECONDS, WATCHED, Actor, Check, LeaseLost
from reconciler.cleanup.decide import (
    Conclusion,
    Facts,
    ManifestFacts,
    Verdict,
    conclude,
    conclude_put,
    conclude_unlink,
    deletion_announced,
    lost_with_manifest,
)
from reconciler.cleanup.unlink import put_back
from reconciler.registry.answers import NotFound
from reconciler.registry.protocol import ActingRegistry

log = structlog.get_logger()

BATCH: Final = 20
REST_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.2
AGAIN_AFTER: Final = timedelta(seconds=0.5)
FAILED_AGAIN_AFTER: Final = timedelta(seconds=10)
UNCERTAIN_AGAIN_AFTER: Final = timedelta(minutes=5)
CONFIRMED: Final = "confirmed"
"""The outcome where a person said that no push was lost. What turns out to be lost later is put back all the same."""
UNLINKED_AGAIN_AFTER: Final = timedelta(minutes=2)
"""When a deletion of a manifest is checked once more. The registry asks for the children of an index, then stores it,
then announces it: the event of one that was on its way may come after ours, and it names the index only."""
PROCESSES_OF: Final = timedelta(days=7)

ACTIONS: Final = Counter(
    "reconciler_tag_actions_total",
    "What became of tags that we deleted, restored or put back. An outcome of put_back means that a push fell between "
    "our last look and our request, and was put back.",
    ["kind", "outcome"],
)


class Settler:
    """The loop that follows actions."""

    name = "cleanup"

    def __init__(self, pool: Pool, registry: ActingRegistry, *, check: Check | None = None) -> None:
        self._pool = pool
        self._registry = registry
        self._actor = Actor(pool, registry) if check is None else Actor(pool, registry, check=check)

    async def run_once(self) -> IterationResult:
        """Settle what is due."""
        done = await self.settle()
        return IterationResult(items=done, rest_seconds=0 if done == BATCH else REST_SECONDS)

    async def until_settled(self, ids: Sequence[uuid.UUID], *, seconds: float) -> None:
        """Settle actions until each has an end, or for so many seconds: others go on with what is left."""
        until = monotonic() + seconds
        while monotonic() < until:
            if not await self.settle(ids=ids):
                await asyncio.sleep(POLL_SECONDS)
            async with connection(self._pool) as held:
                actions = await store.find_actions(held, ids=ids)
            if all(action.ended_at is not None for action in actions):
                return

    async def finish_dummies(self, repository: RepositoryName, *, seconds: float = 75.0) -> bool:
        """Finish the deletions of a repository that left a dummy manifest; return whether none is left."""
        async with connection(self._pool) as held:
            ids = await store.unfinished_dummies(held, repository=repository)
        if not ids:
            return True
        await self.until_settled(ids, seconds=seconds)
        async with connection(self._pool) as held:
            return not await store.unfinished_dummies(held, repository=repository)

    async def settle(self, *, ids: Sequence[uuid.UUID] = ()) -> int:
        """Take what is due, of ``ids`` if any are named; return how many actions were taken."""
        async with connection(self._pool) as held:
            taken = await store.take_due(
                held, lease_seconds=LEASE_SECONDS, holder=self._actor.holder, limit=BATCH, ids=ids
            )
        for action in taken:
            try:
                await self._settle(action)
            except LeaseLost:
                continue
            except RegistryError as error:
                log.warning(
                    "cleanup_not_settled", repository=action.repository, tag=action.tag, error=str(error)
                )
                await self._put_off(action, FAILED_AGAIN_AFTER)
        return len(taken)

    async def _settle(self, action: TagAction) -> None:
        now = datetime.now(UTC)
        if action.looked_at is None:
            await self._end(action, "skipped", "not_begun", "nothing was sent: the process ended before")
            return
        if action.is_on_manifest:
            facts = await self._facts_of_manifest(action)
            decide = conclude_unlink if action.kind is ActionKind.UNLINK else conclude_put
            conclusion = decide(action, facts, now)
        else:
            conclusion = conclude(action, await self._facts(action), now)
        match conclusion.verdict:
            case Verdict.WAIT:
                await self._put_off(action, AGAIN_AFTER if action.ended_at is None else FAILED_AGAIN_AFTER)
            case Verdict.CHECKED:
                await self._end(action, "checked", conclusion.outcome, conclusion.note)
            case Verdict.NOT_DONE:
                await self._end(action, "skipped", conclusion.outcome, conclusion.note)
            case Verdict.UNCERTAIN:
                await self._leave_uncertain(action, conclusion, now)
            case Verdict.FINISH:
                await self._actor.finish(action)
            case Verdict.PUT_BACK:
                await self._put_back(action, conclusion)
            case _:
                assert_never(conclusion.verdict)

    async def _facts(self, action: TagAction) -> Facts:
        # First the events, then the tag: with the event of our request come all pushes that were made before it. Then
        # whether we deleted it again: a request is on record before it is sent, so one that the tag shows is known.
        async with connection(self._pool) as held:
            events = await store.events_of(held, number=action.id)
            processes = await store.other_instances(held, since=datetime.now(UTC) - PROCESSES_OF)
            put_back = await store.put_back_until(held, number=action.id)
            until = action.done_at or datetime.now(UTC)
            lossy = await store.was_lossy(held, since=action.looked_at or until, until=until)
        seen = await observe.see(self._registry, action.repository, action.tag, dummy=action.dummy)
        async with connection(self._pool) as held:
            deleted_again = await store.was_deleted_again(held, number=action.id)
        return Facts(
            seen=seen,
            deleted_again=deleted_again,
            events=events,
            processes=processes,
            put_back_until=max(put_back.values(), default=None),
            lossy=lossy,
        )

    async def _facts_of_manifest(self, action: TagAction) -> ManifestFacts:
        # First the events, then the registry, as for a tag. Right before the request nothing needed the manifest, and
        # all was read: what does, or is not, came to be known since, whenever it was pushed.
        async with connection(self._pool) as held:
            events = await store.events_of(held, number=action.id)
            processes = await store.other_instances(held, since=datetime.now(UTC) - PROCESSES_OF)
            put_back = await store.put_back_until(held, number=action.id)
            until = action.done_at or datetime.now(UTC)
            lossy = await store.was_lossy(held, since=action.looked_at or until, until=until)
            unread = await unlinking.unread(held, repository=action.repository)
            needs = await unlinking.new_needs(held, repository=action.repository, digest=action.digest)
        answer = await self._registry.head_manifest(action.repository, action.digest)
        gone = set()
        for tag in {each.tag for each in events if each.tag is not None and not each.ours}:
            if (await observe.look_at(self._registry, action.repository, tag)).digest is None:
                gone.add(tag)
        async with connection(self._pool) as held:
            deleted_again = await store.was_deleted_again(held, number=action.id)
            since = action.looked_at or until
            gone -= {
                tag
                for tag in gone
                if await store.was_tag_deleted_since(held, repository=action.repository, tag=tag, since=since)
            }
        return ManifestFacts(
            present=not isinstance(answer, NotFound),
            events=events,
            gone_tags=frozenset(gone),
            needed=None if not needs else needs[0].text,
            unread=unread is not None,
            processes=processes,
            put_back=put_back,
            lossy=lossy,
            deleted_again=deleted_again,
        )

    async def _put_back_manifest(self, action: TagAction, conclusion: Conclusion) -> None:
        facts = await self._facts_of_manifest(action)
        lost = lost_with_manifest(action, facts, deletion_announced(facts.events))
        tags = {
            push.tag: (push.at, push.actor)
            for push in sorted(lost, key=lambda each: each.at)
            if push.tag is not None
        }
        done = await put_back(self._pool, self._actor, action, tags)
        if len(done) < max(len(tags), 1):
            await self._put_off(action, AGAIN_AFTER)
            return
        log.warning(
            "cleanup_manifest_put_back",
            repository=action.repository,
            digest=action.digest,
            tags=sorted(tags),
            because=conclusion.note,
        )
        await self._end(action, "checked", conclusion.outcome, conclusion.note)

    async def _put_back(self, action: TagAction, conclusion: Conclusion) -> None:
        if action.state == "requested":  # it was carried out, whether or not the answer came
            now = datetime.now(UTC)
            async with connection(self._pool) as held:
                await store.mark_done(held, ids=[action.id], now=now, due_at=now + FAILED_AGAIN_AFTER)
        if action.is_on_manifest:
            await self._put_back_manifest(action, conclusion)
            return
        push = conclusion.push
        assert push is not None  # noqa: S101 - the verdict has one
        number = await self._actor.put_back(action, push)
        if number is None:
            await self._put_off(action, AGAIN_AFTER)
            return
        log.warning(
            "cleanup_push_put_back",
            repository=action.repository,
            tag=action.tag,
            digest=push.digest,
            pushed_at=push.at.isoformat(),
            by=push.actor,
        )
        await self._end(action, "checked", conclusion.outcome, conclusion.note)

    async def _leave_uncertain(self, action: TagAction, conclusion: Conclusion, now: datetime) -> None:
        if action.outcome not in ("uncertain", CONFIRMED):
            log.warning(
                "cleanup_uncertain", repository=action.repository, tag=action.tag, because=conclusion.note
            )
            ACTIONS.labels(action.kind, conclusion.outcome).inc()
        again = now + UNCERTAIN_AGAIN_AFTER
        async with connection(self._pool) as held:
            await store.leave_uncertain(
                held,
                number=action.id,
                now=now,
                note=conclusion.note,
                again_at=again if again < action.asked_at + WATCHED else None,
                events=action.events,
            )

    async def _end(self, action: TagAction, state: str, outcome: str, note: str) -> None:
        if action.outcome != outcome:
            ACTIONS.labels(action.kind, outcome).inc()
        now = datetime.now(UTC)
        again = (action.done_at or now) + UNLINKED_AGAIN_AFTER
        async with connection(self._pool) as held:
            await store.end_action(
                held,
                number=action.id,
                now=now,
                state=state,
                outcome=outcome,
                note=note,
                again_at=again if outcome == "unlinked" and now < again else None,
                events=action.events,
            )

    async def _put_off(self, action: TagAction, delay: timedelta) -> None:
        async with connection(self._pool) as held:
            await store.put_off(held, ids=[action.id], until=datetime.now(UTC) + delay)
