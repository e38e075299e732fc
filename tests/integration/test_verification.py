"""Verification: it rests while the registry is away, and says how long it takes and how much it covers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from indexer.background.housekeeping import Housekeeper, Retention
from indexer.common.errors import RegistryUnavailable
from indexer.inventory.latency import bucket_of
from indexer.oci.reference import RepositoryName
from indexer.store import verification_latency, work_items
from indexer.store.listing import status
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from indexer.store.queries import load
from reconciler.verify import decide
from reconciler.verify.loop import Verifier
from tests.fixtures import captures
from tests.fixtures.ingesting import ingest
from tests.fixtures.rows import TagRow, put_repository
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

CAPTURE = "push-by-tag-oci.3.1.1"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = timedelta(milliseconds=5)
    monkeypatch.setattr(work_items, "FIRST_OBSERVATION_DELAY", moment)
    monkeypatch.setattr(work_items, "OBSERVATION_SPACING", moment)
    monkeypatch.setattr(decide, "SPACING", moment)


class Away(DirectRegistry):
    """A registry that does not answer, not even that it is there."""

    def _begin(self, *call: str) -> tuple[datetime, datetime]:
        self.asked.append(call)
        raise RegistryUnavailable("connection refused")


async def until_verified(pool: Pool, verifiers: Sequence[Verifier]) -> None:
    async with asyncio.timeout(60):
        while await pool.fetchval("SELECT count(*) FROM work_item WHERE kind = 'verify'"):
            await asyncio.gather(*(verifier.run_once() for verifier in verifiers))
            await asyncio.sleep(0.005)


async def test_away__burns_no_attempts(pool: Pool, lookups: Lookups) -> None:
    """Rounds that find nobody fail for the harness to pause, and give every tag back as it was; then all settle."""
    capture = captures.load(CAPTURE)
    await ingest(pool, lookups, capture, batch=50)
    state = RegistryState.from_truth(capture.truth)
    waiting = (
        "SELECT key, attempts, observations, confirmations, lease_until FROM work_item"
        " WHERE kind = 'verify' ORDER BY key"
    )
    before = await pool.fetch(waiting)
    assert before
    away = Away(state)
    await asyncio.sleep(0.01)
    for _ in range(20):
        with pytest.raises(RegistryUnavailable):
            await Verifier(pool, lookups, away, concurrency=4).run_once()
    assert before == await pool.fetch(waiting)
    await until_verified(pool, [Verifier(pool, lookups, DirectRegistry(state), concurrency=4)])
    assert 0 == await pool.fetchval("SELECT count(*) FROM tag WHERE verified_at IS NULL")


async def test_lengths__each_push_counts_once(pool: Pool, lookups: Lookups) -> None:
    """Every tag that was told and then verified counts once, by the time since its event, whoever verified it."""
    capture = captures.load("random-workload-a.3.1.1")
    await ingest(pool, lookups, capture, batch=50)
    told = await pool.fetch(
        "SELECT last_event_at FROM tag WHERE verified_at IS NULL AND last_event_at > '-infinity'"
    )
    registry = DirectRegistry(RegistryState.from_truth(capture.truth))
    await until_verified(pool, [Verifier(pool, lookups, registry, concurrency=4) for _ in range(2)])
    async with connection(pool) as held:
        counted = await verification_latency.sum_verified(held, since=datetime.now(UTC) - timedelta(hours=1))
        shown = await status.verification(held, tags=len(told), now=datetime.now(UTC))
    assert len(told) == sum(counted.values()) == shown.pushes
    youngest = min((datetime.now(UTC) - row["last_event_at"]).total_seconds() for row in told)
    assert min(counted) >= bucket_of(youngest) - 1
    assert shown.median_seconds is not None
    assert shown.p99_seconds is not None
    assert shown.median_seconds <= shown.p99_seconds


async def test_lengths__are_forgotten(pool: Pool) -> None:
    """Minutes older than a day are trimmed, and those of the last hour are what is shown."""
    now = datetime.now(UTC)
    async with connection(pool) as held:
        for hours in (0, 2, 30):
            await verification_latency.count_verified(
                held, seconds=[0.3, 0.3, 7.0], at=now - timedelta(hours=hours)
            )
        shown = await status.verification(held, tags=0, now=now)
    assert (3, 0.31, 7.2) == (
        shown.pushes,
        round(shown.median_seconds or 0, 2),
        round(shown.p99_seconds or 0, 1),
    )
    day = timedelta(days=1)
    keep = Retention(inbox=day, events=day, tombstones=day, due=day, pull_detail=day)
    await Housekeeper(pool, keep).run_once()
    assert 2 == await pool.fetchval("SELECT count(DISTINCT minute) FROM verification_latency")


async def test_shares__of_many_tags_come_from_a_sample(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of tags the shares are estimated, and the table is not read as a whole."""
    now = datetime.now(UTC)
    rows = [
        TagRow(name=f"t{number}", verified_at=now if number % 4 else None, seed=f"{number % 50}")
        for number in range(4000)
    ]
    async with connection(pool) as held:
        await put_repository(held, RepositoryName("team/app"), rows)
        exact = await status.verification(held, tags=len(rows), now=now)
        monkeypatch.setattr(status, "COUNTED_EXACTLY", 2000)
        sampled = await status.verification(held, tags=len(rows), now=now)
        statement = load("listing_status")["verified_sample"]
        plan = await held.fetch(f"EXPLAIN {statement}", now, now, 1.0)
    assert (0.75, False) == (exact.within_15_minutes, exact.sampled)
    assert sampled.sampled
    assert sampled.within_15_minutes is not None
    assert 0.5 < sampled.within_15_minutes < 1
    assert any("Sample Scan" in row[0] for row in plan)
