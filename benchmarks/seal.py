"""What sealing costs: positions, leaves, commitments and tiles beside positions alone; and what verifying costs.

Sides, turn by turn, each on a fresh copy of one database whose staged entries are those of so many pushes as the
ingest worker wrote them:

- ours: the sealer as `indexer serve` runs it;
- positions alone: the statements that move entries and number them, without reading or hashing them.

Before each turn the ingest worker makes these entries; its rate is what sealing is held against. Then the whole log
is exported with its proof and verified from the files.

    python3 dev.py bench seal [--events N] [--tags N] [--rounds N] [--verify N]
"""

from __future__ import annotations

import tempfile
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import uvloop

from benchmarks._database import server
from benchmarks._events import pushes
from benchmarks._inventory import fill, shared_out
from benchmarks._report import Report, Target, announce, command_line, say
from benchmarks.apply import drain, put_inbox
from indexer.audit.checkpoint import Checkpointer, CheckpointSettings
from indexer.audit.commitments import Salts
from indexer.audit.export import export
from indexer.audit.note import Checkpoint, SignerKey
from indexer.audit.proofs import EntryRange, parse_part
from indexer.audit.prove import write_part
from indexer.audit.seal import BATCH, seal
from indexer.audit.verify import verify_export
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.pool import connect, connection, open_pool, transaction

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from indexer.store.pool import Pool

COLUMNS = (
    "id, occurred_at, recorded_at, not_before, content_id, previous_id, event_key, request_key, repository_id, "
    "actor_id, client_id, instance_id, client_port, action, source, tag, detail"
)
POSITIONS_ALONE = f"""
WITH taken AS (
    DELETE FROM audit_staged WHERE id IN (SELECT id FROM audit_staged ORDER BY id LIMIT $2) RETURNING *
), sealed AS (
    INSERT INTO audit_entry (position, {COLUMNS})
    SELECT $1 + row_number() OVER (ORDER BY id), {COLUMNS} FROM taken ORDER BY id RETURNING 1
)
SELECT count(*) FROM sealed
"""


async def ours(pool: Pool) -> float:
    """Seal everything; return entries a second."""
    salts, total = Salts(), 0
    began = time.perf_counter()
    while done := await seal(pool, limit=BATCH, salts=salts):
        total += done
    return total / (time.perf_counter() - began)


async def positions_alone(pool: Pool) -> float:
    """Give everything its position; return entries a second."""
    total = 0
    began = time.perf_counter()
    while True:
        async with transaction(pool) as held:
            position = await held.fetchval("SELECT position FROM audit_log_head FOR UPDATE SKIP LOCKED")
            done = await held.fetchval(POSITIONS_ALONE, position, BATCH)
            await held.execute("UPDATE audit_log_head SET position = $1", position + done)
        if not done:
            return total / (time.perf_counter() - began)
        total += done


def to(file: BinaryIO) -> Callable[[bytes], Awaitable[object]]:
    """Return what writes to a file."""

    async def write(data: bytes) -> None:
        file.write(data)

    return write


async def verify(pool: Pool, report: Report, entries: int) -> None:
    """Copy the staged entries until there are so many, seal, export and verify them."""
    while (staged := await pool.fetchval("SELECT count(*) FROM audit_staged")) < entries:
        names = COLUMNS.removeprefix("id, ")
        await pool.execute(
            f"INSERT INTO audit_staged ({names}) SELECT {names} FROM audit_staged LIMIT $1", entries - staged
        )
    report.add(f"sealing {entries:,} entries", await ours(pool), "entries/s")
    key = SignerKey.generate("bench")
    settings = CheckpointSettings(interval=timedelta(0), entries=1, file=None)
    await Checkpointer(pool, key, settings).run_once()
    async with connection(pool) as held:
        signed = await newest_checkpoint(held)
    assert signed is not None
    checkpoint = Checkpoint.parse(signed.note)
    with tempfile.TemporaryDirectory() as place:
        log, proof = Path(place, "log"), Path(place, "proof")
        with log.open("wb") as out:  # noqa: ASYNC230 - nothing else runs here
            began = time.perf_counter()
            await export(pool, format="ndjson", after_position=0, out=to(out), proof=True)
            report.add("export with proof", signed.size / (time.perf_counter() - began), "entries/s")
        with proof.open("wb") as out:  # noqa: ASYNC230 - as above
            whole = EntryRange(first=1, last=signed.size, size=signed.size)
            await write_part(partial(connection, pool), whole, to(out))
        began = time.perf_counter()
        with log.open("rb") as lines:  # noqa: ASYNC230 - as above
            verdict = verify_export(
                lines, checkpoint=checkpoint, proof=parse_part(proof.read_bytes().splitlines())
            )
        took = time.perf_counter() - began
        assert verdict.problem is None
        report.add(f"verifying {verdict.verified:,} entries", took, "s")
        report.add("export with proof, size", log.stat().st_size / signed.size, "bytes/entry")
        report.add("proof, size", proof.stat().st_size / signed.size, "bytes/entry")


async def run(arguments: argparse.Namespace) -> None:
    report = Report("seal")
    quick = arguments.quick
    tags = arguments.tags or (500 if quick else 20_000)
    count = arguments.events or (400 if quick else 10_000)
    sized = shared_out(tags, 10 if quick else 100)
    repositories = [(repository.name, repository.tags) for repository in sized]
    async with server() as place:
        url = await place.template()
        first = await connect(url, application="bench")
        await fill(first, sized)
        await first.close()
        announce(report, tags=tags, events=count, batch=BATCH)
        for turn in range(arguments.rounds or (1 if quick else 5)):
            sides = {"ours": ours, "positions alone": positions_alone}
            for name in sorted(sides, reverse=turn % 2 == 1):
                async with (
                    place.copy("bench_seal") as url,
                    entries_of(url, count, repositories, report) as pool,
                ):
                    report.add(f"sealing, {name}", await sides[name](pool), "entries/s")
            say(f"round {turn + 1}: " + ", ".join(f"{n} {v[-1]:,.0f}" for n, v in report.figures.items()))
        async with place.copy("bench_seal") as url, entries_of(url, count, repositories, report) as pool:
            await verify(pool, report, arguments.verify or (1_000 if quick else 1_000_000))
    report.show()
    report.ratio("sealing, ours", "sealing, positions alone")
    cost = report.median("ingest, entries") / report.median("sealing, ours")
    judged = Target(at_most=0.33).judge(cost)
    print(f"sealing takes {cost:.2f} of the time that making the entries takes, {judged}")
    report.keep(arguments)


@asynccontextmanager
async def entries_of(
    url: str, count: int, repositories: list[tuple[str, int]], report: Report
) -> AsyncIterator[Pool]:
    """Let the worker apply pushes; lend a pool on the database with the entries they left to be sealed."""
    await put_inbox(url, pushes(count, repositories))
    began = time.perf_counter()
    await drain(url, workers=1)
    took = time.perf_counter() - began
    pool = await open_pool(url, size=2, application="bench")
    try:
        entries = await pool.fetchval("SELECT count(*) FROM audit_staged")
        report.add("ingest, entries", entries / took, "entries/s")
        yield pool
    finally:
        await pool.close()


def main() -> None:
    parser = command_line("Sealing beside positions alone, and verifying.")
    parser.add_argument("--events", type=int, help="pushes a turn (10,000)")
    parser.add_argument("--tags", type=int, help="tags in the inventory (20,000)")
    parser.add_argument("--verify", type=int, help="entries to verify (1,000,000)")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
