"""Sealing hashes: the tree in the database is the one over the entries as they are exported."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from indexer.audit import seal as sealing
from indexer.audit.commitments import Salts
from indexer.audit.leaf import broken_commitment, leaf_of
from indexer.audit.seal import seal
from indexer.audit.tiles import TreeDamaged
from indexer.common.errors import StoreError
from indexer.store.listing.audit import staged_entries
from tests.fixtures import captures
from tests.fixtures.ingesting import ingest
from tests.fixtures.merkle import root_of
from tests.fixtures.sealing import exported, sealed, stage, tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.store.lookups import Lookups
    from indexer.store.pool import Connection, Pool


async def check_tree(pool: Pool, *, size: int) -> None:
    """The stored tree is that of the exported entries, which open what they commit to."""
    entries = await exported(pool)
    assert list(range(1, size + 1)) == [entry["position"] for entry in entries]
    assert root_of(leaf_of(entry) for entry in entries) == (await tree(pool)).root(size)
    assert [] == [entry for entry in entries if broken_commitment(entry) is not None]


async def test_tree__is_that_of_a_recorded_registry(pool: Pool, lookups: Lookups) -> None:
    """What a real registry told, sealed in small batches, is in the tree as it is exported."""
    await ingest(pool, lookups, captures.load("random-workload-a.3.1.1"), batch=200)
    staged = await pool.fetchval("SELECT count(*) FROM audit_staged")
    while await seal(pool, limit=37):
        pass
    await check_tree(pool, size=staged)


async def test_tree__grows_over_the_edges_of_tiles(pool: Pool) -> None:
    """Batches that end within a tile, fill one, and span several, by sealers that remember and that do not."""
    salts = Salts()
    for count, known in ((1, salts), (255, salts), (256, None), (700, salts), (30, salts)):
        await stage(pool, count)
        assert count == await seal(pool, limit=1000, salts=known)
    await check_tree(pool, size=1242)


async def test_media_type__that_the_facet_says_is_kept_once(pool: Pool, lookups: Lookups) -> None:
    """An entry shows the media type its event told; the row repeats it only where the facet says another."""
    await ingest(pool, lookups, captures.load("random-workload-a.3.1.1"), batch=200)
    await pool.execute(
        "UPDATE audit_staged SET detail = jsonb_set(detail, '{media_type}', '\"application/other\"') "
        "WHERE id = (SELECT min(id) FROM audit_staged WHERE detail ? 'media_type')"
    )
    words = "SELECT id, detail ->> 'media_type' AS told FROM {} WHERE detail ? 'media_type'"
    told = {row["id"]: row["told"] for row in await pool.fetch(words.format("audit_staged"))}
    assert len(told) > 10
    while await seal(pool, limit=37):
        pass
    entries = await exported(pool)
    await check_tree(pool, size=len(entries))
    assert told == {entry["id"]: entry["media_type"] for entry in entries if entry["id"] in told}
    kept = await pool.fetch(words.format("audit_entry"))
    assert [(min(told), "application/other")] == [tuple(row) for row in kept]


async def test_leaf__does_not_follow_what_is_learned_later(pool: Pool) -> None:
    """A manifest whose media type is told only later leaves the sealed entry as it was."""
    await sealed(pool, 3)
    before = await exported(pool)
    await pool.execute(
        "WITH new AS (INSERT INTO facet (key, media_type, artifact_type, kind, platforms) "
        "VALUES ('other', 'application/other', '', 'chart', '{}') RETURNING id) "
        "UPDATE manifest SET facet_id = new.id FROM new"
    )
    assert before == await exported(pool)
    await check_tree(pool, size=3)


async def test_commitments__are_per_person_and_day(pool: Pool) -> None:
    """One person has one commitment a day; two behind one address have commitments of their own to it."""
    await sealed(pool, 8, apart=timedelta(0))
    alice, bob, carol, nobody, _, again, *_ = await exported(pool)
    assert alice["request"]["address"] == carol["request"]["address"]
    assert alice["commitments"]["client"] != carol["commitments"]["client"]
    assert bob["commitments"] == again["commitments"]
    assert ["client"] == list(nobody["commitments"])
    await sealed(pool, 2, apart=timedelta(days=1))
    assert bob["commitments"] != (await exported(pool))[9]["commitments"]


async def test_salts__of_a_transaction_that_failed_are_not_remembered(pool: Pool) -> None:
    """Sealing that was rolled back leaves no commitment behind that nobody can look up."""
    salts = Salts()
    await stage(pool, 3)
    await pool.execute("ALTER TABLE audit_tile ADD CONSTRAINT full_disk CHECK (false)")
    with pytest.raises(Exception, match="full_disk"):
        await seal(pool, limit=10, salts=salts)
    assert 0 == await pool.fetchval("SELECT position FROM audit_log_head")
    await pool.execute("ALTER TABLE audit_tile DROP CONSTRAINT full_disk")
    assert 3 == await seal(pool, limit=10, salts=salts)
    await check_tree(pool, size=3)


async def test_tree__that_was_cut_is_not_sealed_upon(pool: Pool) -> None:
    """Where the tree does not end where the log does, sealing stops instead of making a log that proves nothing."""
    await sealed(pool, 10)
    await pool.execute("UPDATE audit_tile SET hashes = substr(hashes, 1, 32 * 9)")
    await stage(pool, 1)
    with pytest.raises(TreeDamaged):
        await seal(pool, limit=10)
    assert (10, 1) == tuple(
        await pool.fetchrow("SELECT position, (SELECT count(*) FROM audit_staged) FROM audit_log_head")  # type: ignore[arg-type]
    )


async def test_sealers__of_several_processes_make_one_tree(pool: Pool) -> None:
    """Each server seals when it can; together they make one order and one tree."""
    await stage(pool, 600)

    async def keep_sealing() -> None:
        salts = Salts()
        while await pool.fetchval("SELECT EXISTS (SELECT FROM audit_staged)"):
            await seal(pool, limit=50, salts=salts)

    await asyncio.gather(keep_sealing(), keep_sealing(), keep_sealing())
    await check_tree(pool, size=600)


async def test_staged__that_another_changed_are_not_sealed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that disappears while it is sealed would leave a gap: the whole batch is given up, and sealed later."""
    await stage(pool, 10)

    async def one_taken_away(held: Connection, *, limit: int) -> Sequence[Any]:
        rows: Sequence[Any] = await staged_entries(held, limit=limit)
        await held.execute("DELETE FROM audit_staged WHERE id = $1", rows[3]["id"])
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(sealing, "staged_entries", one_taken_away)
        with pytest.raises(StoreError, match="nothing was sealed"):
            await seal(pool, limit=100)
    assert [] == await exported(pool)
    assert 10 == await seal(pool, limit=100)
    await check_tree(pool, size=10)


async def test_sealer__rests_longer_while_entries_come_all_the_time(pool: Pool) -> None:
    """After a quiet time entries are sealed soon; of those that go on coming, all of a second are sealed together."""
    sealer = sealing.Sealer(pool)
    rests = []
    for count in (0, 2, 2, 0, 2):
        if count:
            await stage(pool, count)
        result = await sealer.run_once()
        assert count == result.items
        rests.append(result.rest_seconds)
    soon, later = sealing.REST_SECONDS, sealing.BUSY_REST_SECONDS
    assert [soon, soon, later, soon, soon] == rests
