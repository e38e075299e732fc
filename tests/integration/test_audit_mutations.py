"""What was done to the log behind our back, by SQL, is found: by whoever verifies an export, and by ourselves."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from indexer.audit.checkpoint import Checkpointer, CheckpointSettings
from indexer.audit.export import export
from indexer.audit.leaf import leaf_of
from indexer.audit.note import Checkpoint, SignerKey
from indexer.audit.proofs import EntryRange, parse_part
from indexer.audit.prove import root_at, write_part
from indexer.audit.self_check import SelfCheck
from indexer.audit.tiles import grow, split
from indexer.audit.verify import VerifyResult, verify_export
from indexer.store.pool import connection
from indexer.store.self_check import CheckState, check_state
from indexer.store.tiles import put_tiles
from tests.fixtures.installation import Installation
from tests.fixtures.mutations import MUTATIONS, SIZE
from tests.fixtures.sealing import exported, sealed, tree

if TYPE_CHECKING:
    from pathlib import Path

    from indexer.store.pool import Pool
    from tests.fixtures.asking import Api


async def verified(pool: Pool, checkpoint: Checkpoint) -> VerifyResult:
    """Export everything with its proof, as the command does, and verify what was written."""
    entries, proof = bytearray(), bytearray()

    async def write_entries(data: bytes) -> None:
        entries.extend(data)

    async def write_proof(data: bytes) -> None:
        proof.extend(data)

    await export(pool, format="ndjson", after_position=0, out=write_entries, until=SIZE, proof=True)
    await write_part(partial(connection, pool), EntryRange(first=1, last=SIZE, size=SIZE), write_proof)
    return verify_export(
        bytes(entries).splitlines(), checkpoint=checkpoint, proof=parse_part(bytes(proof).splitlines())
    )


def every_second(first: int) -> list[Any]:
    """Name the mutations: the everyday run tries each in one of two ways, the long run in both."""
    return [
        name if number % 2 == first else pytest.param(name, marks=pytest.mark.full)
        for number, name in enumerate(MUTATIONS)
    ]


@pytest.mark.parametrize("name", every_second(0))
async def test_export__shows_what_was_changed_behind_our_back(pool: Pool, name: str) -> None:
    """Whatever SQL does to entries, or to the words they refer to, verification names the first that differs."""
    mutation = MUTATIONS[name]
    await sealed(pool, SIZE)
    async with connection(pool) as held:
        checkpoint = Checkpoint(origin="log", size=SIZE, root=await root_at(held, size=SIZE))
    assert (await verified(pool, checkpoint)).problem is None
    await pool.execute(mutation.sql)
    problem = (await verified(pool, checkpoint)).problem
    assert problem is not None
    assert (mutation.fault, mutation.shown) == (problem.fault, problem.position)


# --- the check within ------------------------------------------------------------------------------------


async def check_pass(pool: Pool, key: SignerKey) -> CheckState:
    """One pass of the loop, from the beginning to the end."""
    loop = SelfCheck(pool, rate=10**6, verifier=str(key.verifier), pass_length=timedelta(0))
    while (await loop.run_once()).items:
        pass
    async with connection(pool) as held:
        return await check_state(held)


async def signed_log(pool: Pool, entries: int) -> SignerKey:
    """A log of so many entries, and the key that signed it."""
    key = SignerKey.generate("log")
    await sealed(pool, entries)
    await Checkpointer(pool, key, CheckpointSettings(interval=timedelta(0), entries=1, file=None)).run_once()
    return key


@pytest.mark.parametrize("name", every_second(1))
async def test_check__finds_what_was_changed_behind_our_back(pool: Pool, name: str) -> None:
    """Whatever SQL does, the loop finds it within a lap and names the first entry that it made wrong."""
    mutation = MUTATIONS[name]
    key = await signed_log(pool, SIZE)
    good = await check_pass(pool, key)
    assert (0, SIZE) == (good.damaged, good.current.position)
    await pool.execute(mutation.sql)
    found = await check_pass(pool, key)
    positions = [
        row["position"] for row in await pool.fetch("SELECT position FROM audit_damage WHERE position > 0")
    ]
    assert mutation.shown == min(positions)
    assert found.damaged >= len(positions)


FLIP = "UPDATE audit_tile SET hashes = set_byte(hashes, 70, 255 - get_byte(hashes, 70)) WHERE level = "
TREE = {
    "a leaf": (f"{FLIP} 0 AND index = 0", 3),
    "a leaf of the open tile": (f"{FLIP} 0 AND index = 4", 0),
    "a hash above": (f"{FLIP} 1", 0),
    "a tile": ("DELETE FROM audit_tile WHERE level = 0 AND index = 2", 513),
    "a checkpoint": ("UPDATE audit_checkpoint SET size = size - 1", 0),
    "an entry behind the end": (
        (
            "INSERT INTO audit_entry (position, id, occurred_at, recorded_at, action, source) "
            "VALUES (5000, 9, now(), now(), 'tag.created', 'walk')"
        ),
        0,
    ),
}


@pytest.mark.parametrize("name", TREE)
async def test_check__finds_what_was_done_to_the_tree(pool: Pool, name: str) -> None:
    """Hashes, tiles and checkpoints that were changed are found like entries."""
    key = await signed_log(pool, 1100)
    sql, shown = TREE[name]
    await pool.execute(sql)
    first = (await check_pass(pool, key)).first
    assert first is not None
    assert shown == first.position


async def test_check__finds_an_entry_changed_together_with_its_leaf(pool: Pool) -> None:
    """Who changes an entry and its leaf must change the tree up to the root; and then the signature does not fit."""
    key = await signed_log(pool, 1100)
    await pool.execute("UPDATE audit_entry SET tag = 'forged' WHERE position = 300")
    [row] = [row for row in await exported(pool) if row["position"] == 300]
    tiles = (await tree(pool)).held
    leaves = [leaf for index in range(5) for leaf in split(tiles[0, index])]
    leaves[299] = leaf_of(row)
    async with connection(pool) as held:
        await put_tiles(held, tiles={(0, 1): b"".join(leaves[256:512])})
    assert [257] == [found.position for found in [(await check_pass(pool, key)).first] if found]
    async with connection(pool) as held:
        await put_tiles(held, tiles=grow(0, {}, leaves))
    first = (await check_pass(pool, key)).first
    assert first is not None
    assert (0, "proof") == (first.position, first.fault)


async def test_check__another_key_is_found(pool: Pool) -> None:
    """A log that was rewritten and signed by somebody else's key is not ours."""
    await signed_log(pool, 5)
    first = (await check_pass(pool, SignerKey.generate("log"))).first
    assert first is not None
    assert (0, "proof") == (first.position, first.fault)


async def test_check__forgets_what_was_mended(pool: Pool) -> None:
    """An entry that is again what it was is no damage any more."""
    key = await signed_log(pool, 20)
    await pool.execute("UPDATE audit_entry SET tag = 'x' || tag WHERE position IN (3, 9)")
    assert 2 == (await check_pass(pool, key)).damaged
    await pool.execute("UPDATE audit_entry SET tag = substr(tag, 2) WHERE position = 3")
    found = await check_pass(pool, key)
    assert (1, 9) == (found.damaged, found.first.position if found.first else None)


async def test_check__keeps_a_thousand_damages_at_most(pool: Pool) -> None:
    """A log that was wiped out does not fill the database with what is to be said of it."""
    key = await signed_log(pool, 1100)
    await pool.execute("DELETE FROM audit_entry")
    assert 1000 == (await check_pass(pool, key)).damaged


async def test_check__is_not_turned_off_by_an_instant_in_the_future(pool: Pool) -> None:
    """A lap that is said to have ended in a thousand years is no reason to wait for that."""
    key = await signed_log(pool, 20)
    await pool.execute("UPDATE audit_self_check SET pass_ended_at = '2999-01-01'")
    assert 20 == (await SelfCheck(pool, rate=10**6, verifier=str(key.verifier)).run_once()).items
    await pool.execute("UPDATE audit_checkpoint SET signed_at = '2999-01-01'")
    await sealed(pool, 1)
    hourly = CheckpointSettings(interval=timedelta(hours=1), entries=100, file=None)
    assert 1 == (await Checkpointer(pool, key, hourly).run_once()).items


async def test_check__goes_on_where_it_was_killed(pool: Pool) -> None:
    """A lap is done window by window, by whichever process; each window is remembered."""
    key = await signed_log(pool, 2500)
    done = []
    for _ in range(4):
        loop = SelfCheck(pool, rate=500, verifier=str(key.verifier))
        done.append(await loop.run_once())
    assert [(1024, 2.048), (1024, 2.048), (452, 0.904), (0, 5.0)] == [(d.items, d.rest_seconds) for d in done]


async def test_check__does_not_miss_what_left_the_log(pool: Pool) -> None:
    """Parts that were dropped are not looked for; what is behind them is."""
    key = await signed_log(pool, 700)
    await pool.execute(
        "DELETE FROM audit_entry WHERE position <= 300; "
        "UPDATE audit_part SET last_position = 300, closed_at = now(), dropped_at = now(); "
        "INSERT INTO audit_part (first_position) VALUES (301)"
    )
    assert 0 == (await check_pass(pool, key)).damaged
    await pool.execute("DELETE FROM audit_entry WHERE position = 301")
    first = (await check_pass(pool, key)).first
    assert first is not None
    assert (301, "missing") == (first.position, first.fault)


async def test_check__is_shown(api: Api) -> None:
    """The status names the first entry that does not fit."""
    key = await signed_log(api.pool, 20)
    await check_pass(api.pool, key)
    good = (await api.json("/api/v1/status"))["audit_proof"]
    assert (20, 20, 0, None) == (
        good["signed_position"], good["checked_position"], good["damaged"], good["first_damage"]
    )  # fmt: skip
    await api.pool.execute("DELETE FROM audit_entry WHERE position = 7")
    await check_pass(api.pool, key)
    damage = (await api.json("/api/v1/status"))["audit_proof"]["first_damage"]
    assert (7, "missing") == (damage["position"], damage["fault"])


async def test_command__compares_the_database_with_itself(
    pool: Pool, database_url: str, tmp_path: Path
) -> None:
    """``verify --database`` says at once what the loop would find within a lap."""
    key = await signed_log(pool, 1100)
    (tmp_path / "key").write_text(str(key.verifier))
    machine = Installation(database_url=database_url, directory=tmp_path)
    verify = ("indexer", "audit", "verify", "--database", "--json")
    good = machine.run(*verify, "--key", str(tmp_path / "key"))
    assert (0, 1100) == (good.exit_code, good.json["entries"])
    await pool.execute("UPDATE audit_entry SET tag = 'forged' WHERE position = 700")
    bad = machine.run(*verify)
    assert bad.output, bad.error
    assert (1, 700, "altered") == (
        bad.exit_code,
        bad.json["problem"]["position"],
        bad.json["problem"]["fault"],
    )
    assert 2 == machine.run(*verify, "--proof", str(tmp_path / "key")).exit_code
