"""What the registry's answer for a digest proves, how often it must answer so, and of which instant it speaks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.changes import WorkKind
from indexer.oci.digest import parse_digest
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from reconciler.resolve import loop
from reconciler.resolve.loop import Resolver
from tests.integration.test_missing_manifests import (
    FIRST,
    FIRST_DIGEST,
    HOUR,
    SECOND,
    call_gone,
    enqueue,
    hold_on,
    hurry_up,
    pushed_by_digest,
    store,
    walk,
    work_off,
)
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState
from tools.sample_images import index

WAITING = "SELECT attempts FROM work_item WHERE kind = 'resolve' AND key = $1"


async def resolve(pool: Pool, lookups: Lookups, state: RegistryState) -> int | None:
    """Resolve once; return the attempts of the manifest's work item, None where it has none any more."""
    await hurry_up(pool)
    await Resolver(pool, lookups, DirectRegistry(state), concurrency=1).run_once()
    attempts: int | None = await pool.fetchval(WAITING, FIRST_DIGEST)
    return attempts


async def served_and_called_gone(pool: Pool, lookups: Lookups) -> RegistryState:
    """Return a registry that serves a manifest, untagged, which is on record as deleted and is to be resolved."""
    state = RegistryState()
    store(state, FIRST, "v1")
    await walk(pool, lookups, DirectRegistry(state))
    await call_gone(pool, FIRST_DIGEST)
    await enqueue(pool, WorkKind.RESOLVE, FIRST_DIGEST)
    return state


async def test_missing__is_believed_when_answered_twice(pool: Pool, lookups: Lookups) -> None:
    """One 404 may be a push under way. What is gone and was never read is not asked for again and again."""
    state, _ = await pushed_by_digest(pool, lookups, ago=HOUR)
    await pool.execute("UPDATE work_item SET attempts = 0")
    assert 1 == await resolve(pool, lookups, state)
    assert (await hold_on(pool, FIRST_DIGEST)).present
    assert await resolve(pool, lookups, state) is None
    assert not (await hold_on(pool, FIRST_DIGEST)).present
    assert "unreadable" == await pool.fetchval("SELECT content FROM manifest")


async def test_missing__speaks_of_the_registrys_instant(pool: Pool, lookups: Lookups) -> None:
    """The registry's clock is half an hour behind: evidence is no younger than that, though we observed it now."""
    state, _ = await pushed_by_digest(pool, lookups, ago=HOUR)
    half = HOUR / 2
    state.clock = lambda: datetime.now(UTC) - half
    began = datetime.now(UTC)
    assert await resolve(pool, lookups, state) is None
    record = await hold_on(pool, FIRST_DIGEST)
    assert record.deleted_at is not None
    assert record.deleted_at >= began
    assert timedelta(0) <= record.as_of - (began - half) + timedelta(seconds=1) < half / 2


@pytest.mark.parametrize("served", [True, False])
async def test_answer__that_contradicts_younger_evidence_is_asked_for_until_it_has_waited(
    pool: Pool, lookups: Lookups, *, served: bool
) -> None:
    """Our clock was set back by an hour: the answer is believed after enough attempts."""
    if served:
        state = await served_and_called_gone(pool, lookups)
    else:
        state, _ = await pushed_by_digest(pool, lookups, ago=HOUR)
    await pool.execute("UPDATE repository_manifest SET as_of = now() + interval '1 hour'")
    await pool.execute("UPDATE work_item SET attempts = $1", loop.ATTEMPTS_UNTIL_WAITED - 1)
    assert loop.ATTEMPTS_UNTIL_WAITED == await resolve(pool, lookups, state)
    assert served is not (await hold_on(pool, FIRST_DIGEST)).present
    assert await resolve(pool, lookups, state) is None
    assert served is (await hold_on(pool, FIRST_DIGEST)).present


async def test_served__is_believed_at_once_after_older_evidence(pool: Pool, lookups: Lookups) -> None:
    """Within the clock margin it is not, however few attempts there were."""
    state = await served_and_called_gone(pool, lookups)
    await pool.execute("UPDATE repository_manifest SET as_of = now()")
    assert 1 == await resolve(pool, lookups, state)
    assert not (await hold_on(pool, FIRST_DIGEST)).present
    await pool.execute("UPDATE repository_manifest SET as_of = now() - interval '1 hour'")
    assert await resolve(pool, lookups, state) is None
    assert (await hold_on(pool, FIRST_DIGEST)).present


async def test_index__has_its_children_asked_for_that_the_repository_lost(
    pool: Pool, lookups: Lookups
) -> None:
    """A child that was read before is asked for again where the repository is on record as not having it."""
    both = index([FIRST, SECOND])
    state = RegistryState()
    for image in (FIRST, SECOND):
        store(state, image, None)
    store(state, both, "v1")
    registry = DirectRegistry(state)
    await walk(pool, lookups, registry)
    await work_off(pool, lookups, registry)
    await call_gone(pool, FIRST_DIGEST, unread=False)
    await enqueue(pool, WorkKind.RESOLVE, parse_digest(both.digest))
    assert 0 == await resolve(pool, lookups, state)
    assert await pool.fetchval(WAITING, SECOND.digest) is None
    assert await resolve(pool, lookups, state) is None
    assert (await hold_on(pool, FIRST_DIGEST)).present
