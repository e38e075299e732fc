"""Cleanup beside pushers, with kills and stops at any request: no push is lost, no sibling goes, what stays is whole.

Two processes execute jobs of cleanup and settle what others left. Every round deletes all tags of some repositories,
then tries to delete every manifest that has no tag, whatever needs it, and restores some of it. Meanwhile others push:
to the tags, and what needs the manifests. In the end the registry collects its garbage, and every byte is fetched.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import pytest

from indexer.jobs.job import JobState
from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes, parse_digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import cleanup_plans, unlinking
from indexer.store import tag_actions as store
from indexer.store.jobs import Requested
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, open_pool, transaction
from reconciler.cleanup import act, settle
from reconciler.jobs import cleanup, restore
from reconciler.registry.answers import NotFound
from tests.chaos import processes
from tests.chaos.cleanup import SEEDS, cases
from tests.chaos.processes import Reconcilers
from tests.chaos.pushers import Pushed, Pushers, Shelf
from tests.fixtures.acting import Watched, watched
from tests.fixtures.jobs import asked, find, request
from tests.fixtures.registries import StartRegistry
from tests.integration.test_cleanup_job import plan_all, policies

SHELVES: Final = 4
TAGS: Final = 36
SIBLINGS: Final = 4
DELETED: Final = 500
UNLINKED: Final = 100
BETWEEN: Final = 20
SHARE_PUSHED: Final = 0.12
"""Of the requests: somebody pushes what it could undo right before it."""
RESTORED: Final = 6
"""Tags of each repository that are restored in a round."""
PATIENCE_SECONDS: Final = 600
FENCE: Final = RepositoryName("chaos/fence")
PROCESSES: Final = 2

STORY: Final = (
    """
    SELECT asked_at, looked_at, requested_at, done_at, ended_at, due_at, id, of_action, kind, state, outcome, note,
           digest, dummy, holder
    FROM tag_action WHERE repository = $1 AND tag = $2 AND ($3::bytea IS NULL OR digest = $3) ORDER BY asked_at
    """,
    """
    SELECT e.* FROM tag_action_event AS e JOIN tag_action AS a ON a.id = e.action_id
    WHERE a.repository = $1 AND a.tag = $2 AND ($3::bytea IS NULL OR a.digest = $3) ORDER BY e.occurred_at, a.asked_at
    """,
    """
    SELECT p.first_at, p.ended_at, p.outcome, p.because, p.digest
    FROM cleanup_planned AS p JOIN repository AS r ON r.id = p.repository_id
    WHERE r.name = $1 AND p.tag = $2 AND ($3::bytea IS NULL OR p.digest = $3) ORDER BY p.id
    """,
    """
    SELECT s.occurred_at, s.action, s.source, s.detail
    FROM audit_staged AS s JOIN repository AS r ON r.id = s.repository_id
    WHERE r.name = $1 AND s.tag = $2 AND $3::bytea IS NULL ORDER BY s.id
    """,
    """
    SELECT i.received_at, i.done_at, e ->> 'timestamp' AS at, e ->> 'action' AS action, e -> 'target' ->> 'tag' AS tag,
           e -> 'target' ->> 'digest' AS digest, e -> 'request' ->> 'method' AS method,
           e -> 'request' ->> 'useragent' AS by
    FROM inbox AS i, jsonb_array_elements(convert_from(i.body, 'UTF8')::jsonb -> 'events') AS e
    WHERE e -> 'target' ->> 'repository' = $1 AND CASE WHEN $2 <> '' THEN e -> 'target' ->> 'tag' = $2
          ELSE e -> 'target' ->> 'digest' = 'sha256:' || encode(substring($3::bytea FROM 2), 'hex') END
    ORDER BY i.id
    """,
    """
    SELECT h.* FROM repository AS r JOIN repository_manifest AS h ON h.repository_id = r.id
    JOIN manifest AS m ON m.id = h.manifest_id WHERE r.name = $1 AND $2 = '' AND m.digest = $3
    """,
)
"""Of a repository, a tag ('': none) and a digest (null: any)."""

COUNTED: Final = """
    SELECT count(*) FILTER (WHERE kind = 'delete') AS deleted, count(*) FILTER (WHERE kind = 'unlink') AS unlinked,
           count(*) FILTER (WHERE kind = 'put_back') AS put_back
    FROM tag_action WHERE done_at IS NOT NULL
"""

pytestmark = [
    pytest.mark.usefixtures("hurry", "short_leases"),
    pytest.mark.full,
    pytest.mark.slow,
    pytest.mark.skipif(SEEDS not in os.environ, reason="run by hand: python3 dev.py chaos --cleanup"),
]


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends is missed after seconds. That a request may be on its way for two minutes stays as it is."""
    for module in (act, settle):
        monkeypatch.setattr(module, "LEASE_SECONDS", processes.LEASE_SECONDS)
    monkeypatch.setattr(act, "SEND_WITHIN_SECONDS", processes.SEND_WITHIN_SECONDS)
    monkeypatch.setattr(act, "EXTEND_EVERY_SECONDS", processes.LEASE_SECONDS / 10)
    monkeypatch.setattr(act, "VERIFIED_WITHIN_SECONDS", 1.0)
    begin = act.Actor.__init__

    def begin_in_a_life(self: act.Actor, *args: Any, **more: Any) -> None:
        begin(self, *args, **more)
        life = processes.LIFE.get()
        if life is not None:
            life.holders.append(self.holder)

    monkeypatch.setattr(act.Actor, "__init__", begin_in_a_life)
    monkeypatch.setattr(settle, "FAILED_AGAIN_AFTER", timedelta(seconds=1))
    for module in (cleanup_plans, unlinking):  # before each plan everything is applied
        monkeypatch.setattr(module, "APPLIED_WITHIN", timedelta(0))


@dataclass
class Round:
    """What a run has and counts."""

    world: Watched
    pool: Pool
    pushers: Pushers
    reconcilers: Reconcilers
    chance: random.Random
    plans: int = 0
    fences: int = 0
    restored: int = 0
    fetched: set[str] = field(default_factory=set)
    times: dict[str, float] = field(default_factory=dict)

    @property
    def shelves(self) -> list[Shelf]:
        return list(self.pushers.shelves.values())

    @asynccontextmanager
    async def timed(self, what: str) -> AsyncIterator[None]:
        began = time.monotonic()
        yield
        self.times[what] = self.times.get(what, 0.0) + time.monotonic() - began

    # --- the rounds -------------------------------------------------------------------------------------------

    async def push_what_is_missing(self) -> None:
        wanted = [(shelf, tag) for shelf in self.shelves for tag, has in shelf.tags.items() if has is None]
        slots = asyncio.Semaphore(4)

        async def one(shelf: Shelf, tag: str) -> None:
            async with slots:
                await self.pushers.to_tag(shelf, tag)
                name = f"sibling-{tag}"
                if len(shelf.siblings) < SIBLINGS and name not in shelf.siblings:
                    sibling = shelf.tags[tag]
                    assert sibling is not None
                    shelf.siblings[name] = sibling
                    await self.pushers.send(shelf, sibling.image, name)

        await asyncio.gather(*(one(shelf, tag) for shelf, tag in wanted))
        await self.until_applied()

    async def delete_tags(self) -> None:
        named = [
            (shelf.name, tag, has.digest) for shelf in self.shelves for tag, has in shelf.tags.items() if has
        ]
        await self.clean_up(named)
        await self.check_tags()

    async def unlink(self) -> None:
        """Try to delete every manifest without a tag: also children of what stays, and what is attached to it."""
        images = {
            each.digest: each
            for pushed in [*self.pushers.known.values(), *self.untagged()]
            for each in pushed.manifests()
        }
        named = []
        for shelf in self.shelves:
            rows = await self.pool.fetch(
                "SELECT m.digest FROM repository AS r JOIN repository_manifest AS h ON h.repository_id = r.id"
                " JOIN manifest AS m ON m.id = h.manifest_id WHERE r.name = $1 AND h.deleted_at IS NULL AND NOT EXISTS"
                " (SELECT FROM tag AS t WHERE t.repository_id = r.id AND t.manifest_id = m.id) ORDER BY m.digest",
                shelf.name,
            )
            digests = [digest_from_bytes(row["digest"]) for row in rows]
            shelf.untagged = []
            shelf.unwanted = {each: images[each] for each in digests if each in images}
            named += [(shelf.name, None, each) for each in digests]
        await self.clean_up(named)
        for shelf in self.shelves:
            shelf.unwanted = {}
        await self.pool.execute(  # two minutes later
            "UPDATE tag_action SET due_at = now() WHERE kind = 'unlink' AND outcome = 'unlinked' AND asked_at > $1",
            await self.pool.fetchval("SELECT max(made_at) FROM cleanup_plan"),
        )
        await self.until_settled()
        await self.check_tags()
        await self.check_whole()

    def untagged(self) -> list[Pushed]:
        return [pushed for shelf in self.shelves for pushed in shelf.untagged]

    async def clean_up(self, named: Sequence[tuple[str, str | None, str]]) -> None:
        """Have a plan carried out by jobs, one for each repository, while others push."""
        self.plans += 1
        content = policies().replace(b"100/s", b"10000/s")
        async with transaction(self.pool) as held:
            await plan_all(held, content, named, plan_id=f"p{self.plans}")
        stop = asyncio.Event()
        pushing = [asyncio.create_task(self.pushers.keep_pushing(stop)) for _ in range(2)]
        try:
            await asyncio.gather(*(self.job("cleanup", shelf) for shelf in self.shelves))
        finally:
            stop.set()
            await asyncio.gather(*pushing)
        await self.until_settled()
        # what a job left open, since too many of its processes died, is planned anew
        await self.pool.execute(
            "UPDATE cleanup_planned SET ended_at = now(), outcome = 'cancelled', because = 'chaos'"
            " WHERE ended_at IS NULL"
        )

    async def job(self, kind: str, shelf: Shelf, tags: Iterable[str] = ()) -> None:
        named = [f"{shelf.name}:{tag}" for tag in tags]
        params = {"tags": named} if named else {"repositories": [shelf.name]}
        done = await request(self.pool, asked(shelf.name, kind=kind, params=params))
        assert isinstance(done, Requested), done
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (job := await find(self.pool, done.job)).state.has_ended:
                await asyncio.sleep(0.1)
        assert job.state in {JobState.DONE, JobState.FAILED}, job

    async def restore(self) -> None:
        """Restore some of what was deleted, unlinked or not, while processes end: it is what it was, every byte."""
        await asyncio.gather(*(self.restore_in(shelf) for shelf in self.shelves))
        await self.check_tags()

    async def restore_in(self, shelf: Shelf) -> None:
        gone = sorted(tag for tag, has in shelf.tags.items() if has is None)
        left = self.chance.sample(gone, min(RESTORED, len(gone)))
        wanted = {}
        for tag in left:
            async with self.pool.acquire() as held:
                deletion = await store.newest_deletion(held, repository=shelf.name, tag=TagName(tag))
                assert deletion is not None, f"{shelf.name}:{tag} is gone, and nobody deleted it"
                kept = {each.digest: each.role for each in await store.kept_of(held, number=deletion.id)}
            wanted[tag] = deletion.digest, kept
        async with asyncio.timeout(PATIENCE_SECONDS):
            while left:
                await self.job("restore", shelf, left)
                await self.until_settled()
                left = [
                    tag
                    for tag in left
                    if shelf.tags[tag] is None and await self.digest_of(shelf, tag) != wanted[tag][0]
                ]
        for tag, (digest, kept) in wanted.items():
            if shelf.tags[tag] is not None:
                continue  # somebody pushed while it was restored
            was = self.pushers.known[digest]
            attached = tuple(each for each in was.attached if kept.get(Digest(each.digest)) == "referrer")
            shelf.tags[tag] = restored = Pushed(was.image, attached)
            await self.fetch(shelf, restored)
            self.restored += 1

    # --- waiting ----------------------------------------------------------------------------------------------

    async def until_applied(self) -> None:
        """Wait until every event so far is applied, what tags point to is verified, and what manifests say is read."""
        self.fences += 1
        fence = f"f{self.fences}"
        await self.pushers.send(Shelf(FENCE, {}), self.pushers.make().image, fence)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.world.until_known(fence)
            while await self.pool.fetchval(
                "SELECT EXISTS (SELECT FROM tag WHERE verified_at IS NULL OR manifest_id IS NULL) OR EXISTS"
                " (SELECT FROM manifest WHERE content NOT IN ('read', 'partly-read') AND id IN"
                "  (SELECT manifest_id FROM repository_manifest WHERE deleted_at IS NULL))"
            ):
                await asyncio.sleep(0.05)
        await self.pool.execute("UPDATE repository SET last_reconciled_at = now()")

    async def until_settled(self) -> None:
        """Wait until every event is applied, and nothing is left to follow."""
        for _ in range(2):
            await self.until_applied()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await self.pool.fetchval(
                    "SELECT count(*) FROM tag_action"
                    " WHERE ended_at IS NULL OR state = 'uncertain' OR due_at <= now() OR lease_until > now()"
                ):
                    await asyncio.sleep(0.05)

    # --- what must hold ---------------------------------------------------------------------------------------

    async def digest_of(self, shelf: Shelf, tag: str) -> str | None:
        answer = await self.world.client.head_tag(shelf.name, TagName(tag))
        return None if isinstance(answer, NotFound) else answer.digest

    async def check_tags(self) -> None:
        """Every tag is what was pushed to it last, or was deleted at exactly that; siblings are what they were."""
        dummies = {
            digest_from_bytes(row["digest"])
            for row in await self.pool.fetch("SELECT digest FROM dummy_manifest")
        }
        rows = await self.pool.fetch(
            "SELECT DISTINCT ON (repository, tag) repository, tag, digest FROM tag_action"
            " WHERE kind = 'delete' AND outcome = 'deleted' ORDER BY repository, tag, asked_at DESC"
        )
        deleted = {(row["repository"], row["tag"]): digest_from_bytes(row["digest"]) for row in rows}
        for shelf in self.shelves:
            there = set()
            for tag, has in shelf.tags.items():
                digest = await self.digest_of(shelf, tag)
                where = f"{shelf.name}:{tag}"
                assert digest not in dummies, f"{where} was left on a dummy"
                if digest is not None:
                    if has is None:
                        raise AssertionError(
                            f"{where} is back, and nobody pushed it: {digest}\n"
                            + await self.story(shelf, tag)
                        )
                    if digest != has.digest:
                        raise AssertionError(
                            f"the last push of {where} is lost: {has.digest}, it points to {digest}\n"
                            + await self.story(shelf, tag)
                        )
                    there.add(tag)
                elif has is not None:
                    if deleted.get((shelf.name, tag)) != has.digest:
                        raise AssertionError(
                            f"the last push of {where} is lost: {has.digest}\n" + await self.story(shelf, tag)
                        )
                    shelf.tags[tag] = None
            for name, sibling in shelf.siblings.items():
                assert await self.digest_of(shelf, name) == sibling.digest, f"{shelf.name}:{name} is gone"
            listed = set((await self.world.client.list_tags(shelf.name)).names)
            assert listed - set(shelf.siblings) == there, f"{shelf.name} lists tags that nobody can reach"

    async def story(self, shelf: Shelf, tag: str = "", digest: str | None = None) -> str:
        """Return what is on record of a tag or a manifest, and of what was done to it."""
        packed = None if digest is None else digest_to_bytes(parse_digest(digest))
        rows = []
        for statement in STORY:
            rows += await self.pool.fetch(statement, shelf.name, tag, packed)
        return "\n".join(str({key: _short(value) for key, value in row.items()}) for row in rows)

    def kept(self, shelf: Shelf) -> list[Pushed]:
        return [each for each in [*shelf.tags.values(), *shelf.siblings.values(), *shelf.untagged] if each]

    async def check_whole(self) -> None:
        """Everything that has a tag, or was pushed since, has its children and what is attached to it."""
        for shelf in self.shelves:
            for pushed in self.kept(shelf):
                for each in pushed.manifests():
                    answer = await self.world.client.head_manifest(shelf.name, Digest(each.digest))
                    if isinstance(answer, NotFound):
                        raise AssertionError(
                            f"{shelf.name}: {pushed.digest} stays ({pushed.how}), and lacks {each.digest}:\n"
                            + await self.story(shelf, digest=each.digest)
                        )

    async def fetch(self, shelf: Shelf, pushed: Pushed) -> None:
        """Fetch every byte of an image and of what is attached to it."""
        for each in pushed.manifests():
            answer = await self.world.client.get_manifest(shelf.name, Digest(each.digest))
            assert not isinstance(answer, NotFound), f"{shelf.name}@{each.digest} is gone"
            assert answer.content == each.manifest.data
            for blob in each.blobs:
                content = await self.world.client.get_blob(
                    shelf.name, parse_digest(blob.digest), limit=1_000_000
                )
                assert content == blob.data, f"{shelf.name}: {blob.digest} of {each.digest} is gone"
        self.fetched.add(pushed.digest)


def before_of(
    pushers: Pushers, chance: random.Random
) -> Callable[[str, RepositoryName, str], Awaitable[None]]:
    async def before(method: str, repository: RepositoryName, reference: str) -> None:
        if repository in pushers.shelves and chance.random() < SHARE_PUSHED:
            await pushers.before(method, repository, reference)

    return before


@pytest.mark.parametrize(("version", "seed"), cases())
async def test_chaos__no_push_is_lost(
    database_url: str, lookups: Lookups, start_registry: StartRegistry, *, version: int, seed: int
) -> None:
    """After each round what must be there is there, and after the registry's own collection every byte of it."""
    pool = await open_pool(database_url, size=12, application="chaos")
    chance = random.Random(seed)
    began = time.monotonic()
    async with watched(pool, lookups, start_registry, version) as world:
        shelves = [
            Shelf(RepositoryName(f"chaos/r{number}"), {f"v{tag}": None for tag in range(TAGS)})
            for number in range(SHELVES)
        ]
        pushers = Pushers(world.server.url, chance, shelves)
        reconcilers = Reconcilers(
            pool,
            world.settings,
            chance,
            handlers={"cleanup": cleanup.run, "restore": restore.run},
            before=before_of(pushers, chance),
        )
        run = Round(world, pool, pushers, reconcilers, chance)
        counts: dict[str, int] = {}
        async with reconcilers.running(PROCESSES):
            while counts.get("deleted", 0) < DELETED or counts.get("unlinked", 0) < UNLINKED:
                for step in (run.push_what_is_missing, run.delete_tags, run.unlink, run.restore):
                    async with run.timed(step.__name__):
                        await step()
                counts = await counted(pool)
        async with run.timed("collect"):
            world.server.stop()
            printed = world.server.garbage_collect()
            world.server.start()
            for shelf in shelves:
                for pushed in run.kept(shelf):
                    await run.fetch(shelf, pushed)
        pushers.close()
    await pool.close()
    print(
        f"seed {seed} on {version}: {counts['deleted']} tags deleted, {counts['unlinked']} manifests unlinked, "
        f"{pushers.pushes} pushes, {pushers.between} between check and request, {counts['put_back']} put back, "
        f"{counts['near_miss']} near misses, {run.restored} restored, {len(run.fetched)} images fetched in full, "
        f"{reconcilers.kills} kills, {reconcilers.stops} stops, {pushers.failed} pushes failed at first, lost 0, "
        f"siblings gone 0, {time.monotonic() - began:.0f} s: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in run.times.items()),
        flush=True,
    )
    assert "blob eligible for deletion" in printed, (
        "nothing was collected: the proof after it is worth nothing"
    )
    assert counts["deleted"] >= DELETED
    assert pushers.between >= BETWEEN
    assert counts["put_back"] >= 10


def _short(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%H:%M:%S.%f")
    return value.hex()[2:14] if isinstance(value, bytes) else str(value)


async def counted(pool: Pool) -> dict[str, int]:
    """Return what was done. What a deletion came to changes where the tag is pushed again later: these count, too."""
    row = await pool.fetchrow(COUNTED)
    near = "SELECT count(*) FROM cleanup_planned WHERE outcome = 'near_miss'"
    assert row is not None
    return {**dict(row), "near_miss": await pool.fetchval(near)}
