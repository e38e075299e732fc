"""The same attack through ``store.apply`` on a real PostgreSQL: what is decided is what is written.

After every step the tables say exactly what the pure core, fed the same evidence, has on record.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis.stateful import invariant

from indexer.ingest.envelope import decode
from indexer.inventory.changes import AuditSource
from indexer.inventory.observations import ManifestObservation, TagObservation
from indexer.oci.digest import digest_from_bytes
from indexer.store import apply, repositories
from indexer.store.apply import ObservedRevision, Stored
from indexer.store.instants import known
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, open_pool, transaction
from tests.fixtures.ingesting import check_counters
from tests.fixtures.postgres import PostgresServer
from tests.fixtures.selection import examples
from tests.stateful.test_inventory_machine import REPOSITORY, InventoryMachine

TABLES = (
    "tag, tag_tombstone, tag_history, tag_pull, tag_check, unmatched_check, repository_manifest, audit_staged,"
    " applied_event, work_item, drift_finding, repository"
)


class StoreMachine(InventoryMachine):
    """Feeds the database what the pure core is fed, and holds one against the other."""

    runner: ClassVar[asyncio.Runner]
    pool: ClassVar[Pool]
    lookups: ClassVar[Lookups]

    def __init__(self) -> None:
        super().__init__()
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        async with transaction(self.pool) as held:
            await held.execute(f"TRUNCATE {TABLES} CASCADE")
            await repositories.add_repositories(held, announced={REPOSITORY: self.now})

    def take(self, event: dict[str, Any]) -> None:
        decoded = decode(
            json.dumps({"events": [event]}).encode(), content_encoding="", received_at=self.clock
        )

        async def ingest() -> None:
            await apply.prepare(self.lookups, decoded.events)
            async with transaction(self.pool) as held:
                await apply.apply_events(held, self.lookups, decoded.events, now=self.now)

        self.runner.run(ingest())
        super().take(event)

    def store(self, observation: TagObservation, revision: int, **how: Any) -> Any:
        judgement = super().store(observation, revision, **how)

        async def apply_observation() -> Stored:
            async with transaction(self.pool) as held:
                (stored,) = await apply.apply_tag_observations(
                    held,
                    self.lookups,
                    [ObservedRevision(observation=observation, revision=revision, **how)],
                    source=AuditSource.VERIFY,
                    now=self.now,
                )
            return stored

        stored = self.runner.run(apply_observation())
        assert stored.value == ("overtaken" if judgement is None else judgement.value)
        return judgement

    def store_manifest(self, observation: ManifestObservation, *, waited: bool = False) -> Any:
        judgement = super().store_manifest(observation, waited=waited)
        key = (observation.repository, observation.digest)

        async def apply_observation() -> Stored:
            async with transaction(self.pool) as held:
                (stored,) = await apply.apply_manifest_observations(
                    held,
                    self.lookups,
                    [observation],
                    source=AuditSource.WALK,
                    now=self.now,
                    waited={key} if waited else (),
                )
            return stored

        assert self.runner.run(apply_observation()).value == judgement.value
        return judgement

    @invariant()
    def the_tables_are_what_was_decided(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        rows = await self.pool.fetch(
            "SELECT t.name, m.digest, t.revision, t.last_event_at, t.last_observed_at, t.published_at, t.broken_reason,"
            " t.verified_at"
            " FROM tag AS t LEFT JOIN manifest AS m ON m.id = t.manifest_id"
        )
        live = {
            row["name"]: (
                digest_from_bytes(row["digest"]) if row["digest"] else None,
                row["revision"],
                known(row["last_event_at"]),
                known(row["last_observed_at"]),
                row["published_at"],
                row["broken_reason"],
                row["verified_at"],
            )
            for row in rows
        }
        assert live == {
            record.name: (
                record.digest,
                record.revision,
                record.last_event_at,
                record.last_observed_at,
                record.published_at,
                record.broken_reason,
                record.verified_at,
            )
            for record in self.known.tags.values()
            if record.live
        }
        dead = await self.pool.fetch("SELECT name, revision, deleted_at FROM tag_tombstone")
        assert {tuple(row) for row in dead} == {
            (record.name, record.revision, record.published_at)
            for record in self.known.tags.values()
            if not record.live
        }
        intervals = await self.pool.fetch(
            "SELECT h.name, h.valid_from, h.valid_to, m.digest FROM tag_history AS h"
            " JOIN manifest AS m ON m.id = h.manifest_id"
        )
        assert {
            (row["name"], row["valid_from"], known(row["valid_to"]), digest_from_bytes(row["digest"]))
            for row in intervals
        } == {
            (tag, part.valid_from, part.valid_to, part.digest)
            for (_, tag), timeline in self.known.histories.items()
            for part in timeline
        }
        held = await self.pool.fetch(
            "SELECT m.digest, h.as_of, h.deleted_at FROM repository_manifest AS h"
            " JOIN manifest AS m ON m.id = h.manifest_id"
        )
        assert {(digest_from_bytes(row["digest"]), row["as_of"], row["deleted_at"]) for row in held} == {
            (record.digest, record.as_of, record.deleted_at) for record in self.known.manifests.values()
        }
        await check_counters(self.pool, settled=False)


@pytest.mark.slow
def test_store_machine__obeys_the_same_rules(postgres_server: PostgresServer, database_url: str) -> None:
    """State, tombstones, history and counters in PostgreSQL equal the pure core's after every step."""
    with asyncio.Runner() as runner:
        StoreMachine.runner = runner
        StoreMachine.pool = runner.run(open_pool(database_url, size=3, application="tests"))
        words = runner.run(open_pool(database_url, size=1, application="tests words"))
        StoreMachine.lookups = Lookups(words)
        case = StoreMachine.TestCase
        case.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)
        try:
            case("runTest").runTest()
        finally:
            runner.run(StoreMachine.pool.close())
            runner.run(words.close())
