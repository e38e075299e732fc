"""Erasure: the person is gone from every table, and the log proves what it proved before."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import pytest

from indexer.audit import erase as erasing
from indexer.audit.commitments import Salts
from indexer.audit.erase import Erased, erase, plan_erasure
from indexer.audit.leaf import broken_commitment, leaf_of
from indexer.audit.seal import seal
from indexer.audit.self_check import check_everything
from indexer.common.errors import CallerError, StoreError
from indexer.ingest.worker import IngestWorker
from indexer.store import inbox
from indexer.store.inbox import Delivery
from indexer.store.operators import Operator
from indexer.store.pool import connection, open_pool
from tests.fixtures.installation import Installation
from tests.fixtures.merkle import root_of
from tests.fixtures.sealing import BEGIN, exported, sealed, stage, tree

if TYPE_CHECKING:
    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool

DAY_AFTER = BEGIN.date() + timedelta(days=1)
OPERATOR = Operator(name="op", host="here", command="indexer audit erase")


async def roots(pool: Pool, size: int) -> tuple[bytes, bytes]:
    """The root of the first entries as they are exported, and of the tree."""
    entries = (await exported(pool))[:size]
    assert [] == [entry for entry in entries if broken_commitment(entry) is not None]
    return root_of(map(leaf_of, entries)), (await tree(pool)).root(size)


async def damages(pool: Pool) -> list[Any]:
    found = []
    async for _, _, damaged in check_everything(partial(connection, pool), verifier=None):
        found += damaged
    return found


async def everything(pool: Pool) -> str:
    """All that the database holds, as text."""
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [
        await pool.fetch(f'SELECT to_jsonb(t)::text FROM "{table["tablename"]}" AS t') for table in tables
    ]
    return "\n".join(row[0] for table in rows for row in table)


async def test_person__is_gone_and_the_log_verifies(pool: Pool) -> None:
    """Of one person neither name, address nor program is left; of the others at the same address everything is."""
    await sealed(pool, 60)
    before = await exported(pool)
    _, root = await roots(pool, 60)
    plan = await plan_erasure(pool, actor="bob", before=None)
    assert plan == await erase(pool, actor="bob", before=None, operator=OPERATOR)
    assert Erased(entries=len([e for e in before if (e["actor"] or {}).get("name") == "bob"]), days=3) == plan
    assert (root, root) == await roots(pool, 60)
    assert [] == await damages(pool)
    text = await everything(pool)
    assert [False, False] == ["bob" in text, "192.0.2.2" in text]
    for old, new in zip(before, await exported(pool), strict=False):
        mine = (old["actor"] or {}).get("name") == "bob"
        nobody = {"address": None, "user_agent": None}
        erased = {**old, "actor": None, "salts": {}, "request": {**(old["request"] or {}), **nobody}}
        assert new == (erased if mine else old)


async def test_person__behind_a_shared_address_leaves_the_others_theirs(pool: Pool) -> None:
    """Who shares an address with somebody erased keeps it; and nothing ties the erased entries to it."""
    await sealed(pool, 60)
    await erase(pool, actor="alice", before=None, operator=OPERATOR)
    entries = await exported(pool)
    carol = [entry for entry in entries if (entry["actor"] or {}).get("name") == "carol"]
    assert {"192.0.2.1"} == {entry["request"]["address"] for entry in carol}
    known = {entry["commitments"]["client"] for entry in carol}
    gone = {
        entry["commitments"]["client"] for entry in entries if entry["commitments"] and not entry["salts"]
    }
    assert gone
    assert known.isdisjoint(gone)
    assert [] == await damages(pool)


async def test_age__takes_everybody_before_a_day(pool: Pool) -> None:
    """What is older than a day holds nobody any more, anonymous clients included; what is younger holds everybody."""
    await sealed(pool, 100)
    before = await exported(pool)
    _, root = await roots(pool, 100)
    day = (BEGIN + timedelta(days=2)).date()
    await erase(pool, actor=None, before=day, operator=OPERATOR)
    assert (root, root) == await roots(pool, 100)
    after = await exported(pool)
    assert before[48:] == after[48:100]
    for entry in after[:48]:
        assert entry["actor"] is None
        assert entry["salts"] == {}
        assert entry["request"] is None or entry["request"]["address"] is None
    assert Erased(entries=0, days=0) == await plan_erasure(pool, actor=None, before=day)
    assert [] == await damages(pool)


async def test_person__who_comes_again_is_somebody_new(pool: Pool, lookups: Lookups) -> None:
    """What an erased person does later is recorded, by processes that knew the old name and address too."""
    worker, salts = IngestWorker(pool, lookups), Salts()

    async def push(tag: str) -> None:
        event = {
            "id": f"11111111-2222-4333-8444-{tag:0>12}", "timestamp": datetime.now(UTC).isoformat(), "action": "push",
            "target": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                       "digest": "sha256:" + "a" * 64, "repository": "team/app", "tag": f"v{tag}"},
            "request": {"addr": "203.0.113.5:99", "useragent": "docker/secret", "host": "reg", "method": "PUT"},
            "actor": {"name": "dora"},
        }  # fmt: skip
        body = json.dumps({"events": [event]}).encode()
        async with pool.acquire() as held:
            await inbox.put_deliveries(
                held, deliveries=[Delivery(received_at=datetime.now(UTC), content_type="", body=body)]
            )
        assert (await worker.run_once()).items
        await seal(pool, limit=100, salts=salts)

    await push("1")
    await erase(pool, actor="dora", before=None, operator=OPERATOR)
    await pool.execute("DELETE FROM inbox")
    text = await everything(pool)
    assert [False] * 3 == [word in text for word in ("dora", "203.0.113.5", "docker/secret")]
    await push("2")
    entries = await exported(pool)
    old, new = ([entry for entry in entries if entry["tag"] == tag] for tag in ("v1", "v2"))
    assert {(None, None)} == {(e["actor"], e["request"]["address"]) for e in old}
    assert {("dora", "203.0.113.5")} == {(e["actor"]["name"], e["request"]["address"]) for e in new}
    assert [] == await damages(pool)
    assert "dora" == await pool.fetchval(
        "SELECT a.name FROM tag AS t JOIN actor AS a ON a.id = t.pushed_by WHERE t.name = 'v2'"
    )


async def test_person__whose_entries_wait(pool: Pool) -> None:
    """Entries that were not sealed yet are erased too, and sealed without who did it."""
    await sealed(pool, 10)
    await stage(pool, 10)
    await erase(pool, actor="bob", before=None, operator=OPERATOR)
    await seal(pool, limit=100)
    assert "bob" not in await everything(pool)
    assert 21 == len(await exported(pool))
    assert [] == await damages(pool)


async def test_erasure__beside_sealing_and_checking(pool: Pool) -> None:
    """At no instant of an erasure does an entry lack what its salt opens; entries sealed meanwhile are erased too."""
    await sealed(pool, 400)
    await stage(pool, 300)
    erasing = asyncio.create_task(erase(pool, actor="bob", before=None, operator=OPERATOR))
    found = []
    while not erasing.done():
        await seal(pool, limit=30)
        found += await damages(pool)
    await erasing
    while await seal(pool, limit=1000):
        pass
    assert [] == found + await damages(pool)
    assert "bob" not in await everything(pool)


async def test_erasure__is_an_entry_that_names_nobody(pool: Pool) -> None:
    """The log says that and by whom people were erased, and not whom."""
    await sealed(pool, 30)
    await erase(pool, actor="bob", before=None, operator=OPERATOR)
    await erase(pool, actor=None, before=date(2026, 3, 2), operator=OPERATOR)
    await seal(pool, limit=10)
    one, all_of_them = (await exported(pool))[30:]
    assert ["operator.people_erased"] * 2 == [one["action"], all_of_them["action"]]
    assert {"of": "one", "before": None, "entries": 6, "days": 2} == one["detail"]
    assert {"of": "everybody", "before": "2026-03-02", "entries": 15, "days": 1} == all_of_them["detail"]
    assert "op" == one["actor"]["name"]


async def test_erasure__waits_for_nobody_of_another_database(pool: Pool, database_url: str) -> None:
    """A transaction that stays open in another database of the server holds up nothing."""
    await stage(pool, 5)
    await seal(pool, limit=1000)
    elsewhere = await open_pool(
        urlsplit(database_url)._replace(path="/postgres").geturl(), size=1, application="elsewhere"
    )
    async with elsewhere.acquire() as other, other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        async with asyncio.timeout(60):
            await erase(pool, actor=None, before=DAY_AFTER, operator=OPERATOR)
    await elsewhere.close()


async def test_erasure__says_whom_it_waits_for_and_goes_on_when_done_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that does not end is named, then waited for no longer; done again, nothing is left behind."""
    monkeypatch.setattr(erasing, "SAID_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(erasing, "DEADLINE_SECONDS", 0.2)
    await stage(pool, 5)
    await seal(pool, limit=1000)
    said: list[str] = []
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_current_xact_id()")
        pid = await other.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(StoreError, match=f"process {pid} .* erase again"):
            await erase(
                pool,
                actor=None,
                before=BEGIN.date() + timedelta(days=1),
                operator=OPERATOR,
                on_wait=said.append,
            )
    assert f"process {pid} of the server" in said[0]
    addresses = "SELECT count(*) FROM client WHERE address <> ''"
    assert await pool.fetchval(addresses)
    await erase(pool, actor=None, before=DAY_AFTER, operator=OPERATOR)
    assert not await pool.fetchval(addresses)


async def test_nobody__of_that_name(pool: Pool) -> None:
    """A name that is not on record is said to be none, and nothing is erased."""
    await sealed(pool, 5)
    for refused in (
        plan_erasure(pool, actor="eve", before=None),
        erase(pool, actor="eve", before=None, operator=OPERATOR),
    ):
        with pytest.raises(CallerError):
            await refused
    assert 0 == await pool.fetchval("SELECT erasures FROM audit_log_head")


async def test_command__erases_and_shows_before(bare_installation: Installation) -> None:
    """``erase`` wants one of two, shows what it would do, does it, and says how much."""
    machine = bare_installation
    assert 0 == machine.run("indexer", "migrate").exit_code
    opened = await open_pool(machine.database_url, size=2, application="tests")
    await sealed(opened, 30)
    for options in ((), ("--actor", "bob", "--older-than", "1d"), ("--older-than", "1")):
        assert 64 == machine.run("indexer", "audit", "erase", *options).exit_code
    assert 1 == machine.run("indexer", "audit", "erase", "--actor", "eve").exit_code
    planned = machine.run("indexer", "audit", "erase", "--actor", "bob", "--dry-run", "--json").json
    assert {"erased": False, "entries": 6, "days": 2, "before": None} == planned
    done = machine.run("indexer", "audit", "erase", "--actor", "bob")
    assert (0, "erased: people in 6 entries, on 2 days\n") == (done.exit_code, done.output)
    assert "bob" not in await everything(opened)
    old = machine.run("indexer", "audit", "erase", "--older-than", "1d", "--json")
    assert orjson.loads(old.output)["entries"] > 0
    await opened.close()
