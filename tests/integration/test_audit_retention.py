"""Keeping the log: parts close with the month, and leave the log whole, checked and in order."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import stat
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from indexer.audit import retention
from indexer.audit.archive import write_archive
from indexer.audit.checkpoint import Checkpointer, CheckpointSettings
from indexer.audit.leaf import leaf_of
from indexer.audit.note import Checkpoint, SignerKey, verify_note
from indexer.audit.proofs import parse_part
from indexer.audit.retention import (
    Policy,
    RetentionBusy,
    RetentionLoop,
    expire_parts,
    find_leaving,
    load_parts,
    turn,
)
from indexer.audit.seal import seal
from indexer.audit.self_check import check_everything
from indexer.audit.tiles import TreeDamaged
from indexer.audit.verify import VerifyFault, verify_export
from indexer.common.errors import StoreError
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.listing.audit import AuditFilter, audit_entries
from indexer.store.listing.page_query import Page, fetch_page
from indexer.store.operators import Operator
from indexer.store.pool import connection
from tests.fixtures.sealing import exported, sealed, tree

if TYPE_CHECKING:
    from pathlib import Path

    from indexer.store.pool import Pool

MARCH, APRIL, MAY = (datetime(2026, month, 10, tzinfo=UTC) for month in (3, 4, 5))
KEY = SignerKey.generate("log.example/registry")
ERIN = Operator(name="erin", host="box", command="indexer audit archive")


async def three_months(pool: Pool) -> None:
    """300 entries of March, 700 of April, some of May."""
    await pool.execute("UPDATE audit_part SET opened_at = $1", MARCH)
    await sealed(pool, 300)
    assert 1 == await turn(pool, now=APRIL)
    await sealed(pool, 700)
    assert 1 == await turn(pool, now=MAY)
    await sealed(pool, 20)
    await sign(pool)


async def sign(pool: Pool) -> None:
    await Checkpointer(pool, KEY, CheckpointSettings(interval=timedelta(0), entries=1, file=None)).run_once()


async def shape(pool: Pool) -> list[tuple[int, int | None, bool]]:
    async with pool.acquire() as held:
        return [(one.first, one.last, one.dropped_at is not None) for one in await load_parts(held)]


def read(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


async def test_turn__closes_a_month_and_loses_nothing(pool: Pool) -> None:
    """Entries go on without a gap, in the part of their month, and listings show all of them in their order."""
    await three_months(pool)
    assert [(1, 300, False), (301, 1000, False), (1001, None, False)] == await shape(pool)
    assert list(range(1, 1021)) == [entry["position"] for entry in await exported(pool)]
    counted = [await pool.fetchval(f"SELECT count(*) FROM audit_entry_{first}") for first in (1, 301, 1001)]
    assert [300, 700, 20] == counted
    assert [] == await pool.fetch("SELECT FROM pg_index WHERE NOT indisvalid")
    async with pool.acquire() as held:
        listing = await audit_entries(held, scope=None, wanted=AuditFilter())
        rows = (await fetch_page(held, listing, Page(limit=1000))).rows
    times = [row["occurred_at"] for row in rows]
    assert sorted(times, reverse=True) == times
    assert 1000 == len({row["position"] for row in rows})


async def test_turn__is_done_once_a_month(pool: Pool) -> None:
    """Again in the same month nothing happens, and an empty part only takes the new month's name."""
    await pool.execute("UPDATE audit_part SET opened_at = $1", MARCH)
    assert 0 == await turn(pool, now=APRIL)
    assert [(1, None, False)] == await shape(pool)
    await sealed(pool, 5)
    assert 0 == await turn(pool, now=APRIL)
    assert 1 == await turn(pool, now=MAY)
    assert 0 == await turn(pool, now=MAY)
    assert [(1, 5, False), (6, None, False)] == await shape(pool)


async def test_turn__gives_way_to_who_reads(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that does not let go is not waited for: the open part takes what comes, and it is tried again."""
    monkeypatch.setattr("indexer.store.parts.LOCK_TIMEOUT", "50ms")
    await pool.execute("UPDATE audit_part SET opened_at = $1", MARCH)
    await sealed(pool, 5)
    async with pool.acquire() as reader, reader.transaction():
        await reader.fetch("SELECT count(*) FROM audit_entry")
        assert 0 == await turn(pool, now=APRIL)
        await sealed(pool, 5)
    assert 1 == await turn(pool, now=APRIL)
    assert [(1, 10, False), (11, None, False)] == await shape(pool)


async def test_archive__is_the_export_and_the_tree_knows_its_entries(pool: Pool, tmp_path: Path) -> None:
    """What left is in the file as it was exported, with what a verifier needs; the rest of the log goes on."""
    await three_months(pool)
    before = await exported(pool)
    left = await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path, operator=ERIN)
    assert left.held is None
    files = sorted(tmp_path.glob("*.gz"))
    assert ["audit-000000000001-000000000300.ndjson.gz", "audit-000000000301-000000001000.ndjson.gz"] == [
        file.name for file in files
    ]
    assert before[:1000] == [entry for file in files for entry in read(file)]
    assert [hashlib.sha256(file.read_bytes()).digest() for file in files] == [
        archived.sha256 for _, archived in left.parts if archived is not None
    ]
    assert before[1000:] == await exported(pool)
    assert 2 == await seal(pool, limit=10)  # the two entries about it
    entries = await exported(pool)
    assert ["log.archived"] * 2 == [entry["action"] for entry in entries[-2:]]
    assert ("erin", "operator") == (entries[-1]["actor"]["name"], entries[-1]["source"])
    assert {
        "first_position": 301,
        "last_position": 1000,
        "month": "2026-04",
        "file": files[1].name,
        "sha256": hashlib.sha256(files[1].read_bytes()).hexdigest(),
    } == entries[-1]["detail"]
    grown = await tree(pool)
    leaves = [leaf_of(entry) for entry in [*before[:1000], *entries]]
    assert leaves == [grown.hash_of((0, number)) for number in range(len(leaves))]


async def test_archive__what_left_is_not_missing(pool: Pool, tmp_path: Path) -> None:
    """Who compares the log with its tree begins where the log begins, and still finds what is wrong behind that."""
    await three_months(pool)
    await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)

    async def damages() -> list[int]:
        laps = check_everything(partial(connection, pool), verifier=None)
        return [damage.position async for _, _, found in laps for damage in found]

    assert [] == await damages()
    await pool.execute("UPDATE audit_entry SET tag = 'forged' WHERE position = 1007")
    assert [1007] == await damages()


async def test_check__finds_an_entry_that_stands_where_a_part_had_left(pool: Pool, tmp_path: Path) -> None:
    """What left the log is compared no more: an entry put there by SQL would be listed as if it had been sealed."""
    await three_months(pool)
    await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path, operator=ERIN)
    await pool.execute("CREATE TABLE forged PARTITION OF audit_entry FOR VALUES FROM (500) TO (501)")
    await pool.execute(
        "INSERT INTO audit_entry (position, id, occurred_at, recorded_at, action, source) "
        "VALUES (500, 9, now(), now(), 'tag.created', 'walk')"
    )
    damages = [
        damage
        async for _, _, found in check_everything(partial(connection, pool), verifier=None)
        for damage in found
    ]
    assert [VerifyFault.INSERTED] == [damage.fault for damage in damages]
    assert damages[0].what.startswith("entry 500 stands outside of the log, which has 1001 to ")


async def test_archive__refuses_what_was_altered(pool: Pool, tmp_path: Path) -> None:
    """An entry changed behind our back is named, and stays where it is; no file is left behind."""
    await three_months(pool)
    await pool.execute("UPDATE audit_entry SET tag = 'forged' WHERE position = 700")
    with pytest.raises(TreeDamaged, match="entry 700 is not what was sealed"):
        await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)
    assert ["audit-000000000001-000000000300.ndjson.gz"] == [file.name for file in tmp_path.glob("*.gz")]
    assert [(1, 300, True), (301, 1000, False), (1001, None, False)] == await shape(pool)
    await pool.execute("DELETE FROM audit_entry WHERE position = 700")
    with pytest.raises(TreeDamaged, match="lacks entries"):
        await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)


async def test_archive__interrupted_before_the_drop_is_done_again(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without its part dropped is written again, the same to the byte."""
    await three_months(pool)

    async def killed(*_: object, **__: object) -> bool:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(retention, "_drop", killed)
        with pytest.raises(RuntimeError):
            await expire_parts(pool, now=MAY, before=date(2026, 4, 1), directory=tmp_path)
    (file,) = tmp_path.glob("*.gz")
    first = file.read_bytes()
    left = await expire_parts(pool, now=MAY, before=date(2026, 4, 1), directory=tmp_path)
    assert 1 == len(left.parts)
    assert first == file.read_bytes()


async def test_archive__never_replaces_another(pool: Pool, tmp_path: Path) -> None:
    """A file of that name with other entries may be all that is left of them: it is kept, and nothing is dropped."""
    await three_months(pool)
    file = tmp_path / "audit-000000000001-000000000300.ndjson.gz"
    file.write_bytes(b"of a log that was put back")
    with pytest.raises(StoreError, match="holds something else"):
        await expire_parts(pool, now=MAY, before=date(2026, 4, 1), directory=tmp_path)
    assert (b"of a log that was put back", [file]) == (file.read_bytes(), list(tmp_path.iterdir()))
    assert [(1, 300, False), (301, 1000, False), (1001, None, False)] == await shape(pool)


async def test_archive__is_for_its_owner_and_group(pool: Pool, tmp_path: Path) -> None:
    """Archives name people; whatever the umask, not everybody on the machine reads them."""
    await three_months(pool)
    before = os.umask(0)
    try:
        await expire_parts(pool, now=MAY, before=date(2026, 4, 1), directory=tmp_path)
    finally:
        os.umask(before)
    assert {0o640} == {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}


async def test_archive__by_one_at_a_time(pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one archives another leaves it alone, since both would write the same file; afterwards it may."""
    await three_months(pool)
    writing, goes_on = asyncio.Event(), asyncio.Event()
    write = write_archive

    async def slow(*arguments: Any, **how: Any) -> Any:
        writing.set()
        await goes_on.wait()
        return await write(*arguments, **how)

    monkeypatch.setattr(retention, "write_archive", slow)
    one = asyncio.create_task(expire_parts(pool, now=MAY, before=date(2026, 4, 1), directory=tmp_path))
    await writing.wait()
    with pytest.raises(RetentionBusy, match="another process"):
        async with asyncio.timeout(60):
            await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)
    policy = Policy(keep=timedelta(0), directory=tmp_path)
    await RetentionLoop(pool, policy).run_once()
    assert [] == [first for first, _, dropped in await shape(pool) if dropped]
    goes_on.set()
    assert 1 == len((await one).parts)
    assert 1 == len((await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)).parts)


async def test_archive__says_where_it_cannot_write(pool: Pool, tmp_path: Path) -> None:
    """A directory that is not there is one clear error, and nothing is dropped."""
    await three_months(pool)
    with pytest.raises(StoreError, match="cannot be written"):
        await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path / "none")
    assert 1020 == await pool.fetchval("SELECT count(*) FROM audit_entry")


async def test_archive__is_verified_from_its_files_alone(pool: Pool, tmp_path: Path) -> None:
    """After the months are gone, the proof beside each archive leads to the checkpoint; an altered line is named."""
    await three_months(pool)
    await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)
    await pool.execute("DELETE FROM audit_tile")
    for file, entries in zip(sorted(tmp_path.glob("*.gz")), (300, 700), strict=True):
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        proof = parse_part((tmp_path / file.name.replace(".ndjson.gz", ".proof")).read_bytes().splitlines())
        assert proof.note is not None
        checkpoint = Checkpoint.parse(proof.note)
        verify_note(proof.note, KEY.verifier)
        verdict = verify_export(lines, checkpoint=checkpoint, proof=proof)
        assert (entries, None) == (verdict.verified, verdict.problem)
        lines[41] = lines[41].replace(b'"team/app"', b'"team/other"')
        problem = verify_export(lines, checkpoint=checkpoint, proof=proof).problem
        assert problem is not None
        assert (VerifyFault.ALTERED, proof.part.first + 41) == (problem.fault, problem.position)


async def test_archive__waits_for_a_checkpoint(pool: Pool, tmp_path: Path) -> None:
    """A month whose end is not signed cannot be proven, and stays with that reason until it is."""
    await pool.execute("UPDATE audit_part SET opened_at = $1", MARCH)
    await sealed(pool, 30)
    assert 1 == await turn(pool, now=MAY)
    left = await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)
    assert left.held is not None
    assert left.held.held_by is not None
    assert "not yet signed: the newest checkpoint counts 0 entries" in left.held.held_by
    assert [] == list(tmp_path.iterdir())
    await sign(pool)
    assert 1 == len((await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)).parts)
    assert 2 == len(list(tmp_path.iterdir()))


async def test_leaving__waits_for_feeds(pool: Pool, tmp_path: Path) -> None:
    """What a feed has not delivered stays, with the reason; once it is delivered it leaves."""
    await three_months(pool)
    await pool.execute("INSERT INTO feed (name, kind, position) VALUES ('siem', 'http', 450)")
    left = await expire_parts(pool, now=MAY, before=date(2026, 5, 1), directory=tmp_path)
    assert [1] == [part.first for part, _ in left.parts]
    assert left.held is not None
    assert (301, "not yet delivered to: feed siem") == (left.held.part.first, left.held.held_by)
    await pool.execute("UPDATE feed SET position = 1000")
    found = await find_leaving(pool, before=date(2026, 5, 1))
    assert [(301, None)] == [(one.part.first, one.held_by) for one in found]


async def test_keeper__does_both_by_policy(pool: Pool, tmp_path: Path) -> None:
    """The loop turns the month and lets go of what is older than the policy; no person did it."""
    await pool.execute("UPDATE audit_part SET opened_at = $1", datetime.now(UTC) - timedelta(days=70))
    await sealed(pool, 30)
    forever = RetentionLoop(pool, Policy())
    assert 2 == (await forever.run_once()).items  # closed, and packed
    await pool.execute(
        "UPDATE audit_part SET closed_at = $1 WHERE first_position = 1",
        datetime.now(UTC) - timedelta(days=40),
    )
    assert 0 == (await forever.run_once()).items
    assert (
        0 == (await RetentionLoop(pool, Policy(keep=timedelta(days=41), directory=tmp_path)).run_once()).items
    )
    assert 1 == (await RetentionLoop(pool, Policy(keep=timedelta(days=39))).run_once()).items
    assert [] == list(tmp_path.iterdir())
    await seal(pool, limit=10)
    (entry,) = await exported(pool)
    assert ("log.dropped", "policy", None) == (entry["action"], entry["source"], entry["actor"])


async def index_files(pool: Pool, first: int) -> dict[str, int]:
    rows = await pool.fetch(
        "SELECT c.relname, pg_relation_filenode(c.oid) AS file FROM pg_index AS i JOIN pg_class AS c"
        " ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass($1)",
        f"audit_entry_{first}",
    )
    return {row["relname"]: row["file"] for row in rows}


async def test_keeper__packs_closed_parts_once(pool: Pool) -> None:
    """A round builds the indexes of one closed part anew, of the open one never; the log reads as before."""
    await three_months(pool)
    await pool.execute("UPDATE audit_part SET opened_at = now() WHERE last_position IS NULL")
    before = {first: await index_files(pool, first) for first in (1, 301, 1001)}
    entries = await exported(pool)
    keeper = RetentionLoop(pool, Policy())
    assert [1, 1, 0] == [(await keeper.run_once()).items for _ in range(3)]
    after = {first: await index_files(pool, first) for first in (1, 301, 1001)}
    assert before[1001] == after[1001]
    for first in (1, 301):
        assert before[first].keys() == after[first].keys()
        assert not set(before[first].values()) & set(after[first].values())
    assert entries == await exported(pool)


async def test_pack__after_one_that_was_cut_off(pool: Pool) -> None:
    """The index that a builder left behind, which no page may use, is gone afterwards."""
    await three_months(pool)
    await pool.execute("CREATE INDEX audit_left_ccnew ON audit_entry_1 (occurred_at)")
    await pool.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_left_ccnew'::regclass"
    )
    assert 1 == await retention.pack(pool, now=MAY)
    assert "audit_left_ccnew" not in await index_files(pool, 1)
    assert [] == await pool.fetch("SELECT FROM pg_index WHERE NOT indisvalid")


async def test_pack__by_one_process_at_a_time(pool: Pool) -> None:
    """Where another is packing, nothing is done."""
    await three_months(pool)
    async with connection(pool) as held, alone(held, LockKey.REINDEXING) as packer:
        assert packer
        assert 0 == await retention.pack(pool, now=MAY)
    assert 1 == await retention.pack(pool, now=MAY)
