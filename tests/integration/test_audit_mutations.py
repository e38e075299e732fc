"""What was done to the log behind our back, by SQL, is found: in an export, by whoever verifies it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from indexer.audit.export import export
from indexer.audit.note import Checkpoint
from indexer.audit.proofs import Part, parse_part
from indexer.audit.prove import root_at, write_part
from indexer.audit.verify import Verdict, verify_export
from indexer.store.pool import connection
from tests.fixtures.mutations import MUTATIONS, SIZE
from tests.fixtures.sealing import sealed

if TYPE_CHECKING:
    from indexer.store.pool import Pool


async def verified(pool: Pool, checkpoint: Checkpoint) -> Verdict:
    """Export everything with its proof, as the command does, and verify what was written."""
    entries, proof = bytearray(), bytearray()

    async def write_entries(data: bytes) -> None:
        entries.extend(data)

    async def write_proof(data: bytes) -> None:
        proof.extend(data)

    await export(pool, format="ndjson", after_position=0, out=write_entries, until=SIZE, proof=True)
    await write_part(partial(connection, pool), Part(first=1, last=SIZE, size=SIZE), write_proof)
    return verify_export(
        bytes(entries).splitlines(), checkpoint=checkpoint, proof=parse_part(bytes(proof).splitlines())
    )


@pytest.mark.parametrize("name", MUTATIONS)
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
