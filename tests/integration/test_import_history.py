"""An older history, imported: it becomes history, and never overrules what is known."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from indexer.audit.export import export
from indexer.audit.seal import seal
from indexer.history_import.importer import Imported, Importer, find_rules
from indexer.history_import.reading import read_lines
from indexer.ingest.worker import IngestWorker
from indexer.store.drift import RunMode, RunOutcome
from indexer.store.lookups import Lookups
from indexer.store.operators import Operator
from indexer.store.pool import Pool, open_pool
from reconciler.drift.report import RunSettings
from reconciler.drift.run import ReconcileRun
from tests.fixtures import captures, programs
from tests.fixtures.ingesting import check_counters, check_history, ingest, recorded_tags
from tests.fixtures.postgres import PostgresServer, own_database
from tests.simulators.direct import DirectRegistry
from tests.simulators.state import RegistryState

OPERATOR = Operator(name="alice", host="host", command="indexer audit import")
TABLES = {
    "tag_history": "name, valid_from, valid_to, from_source, to_source, event_key",
    "tag": "name, published_at, published_source, last_event_at, evidence",
    "tag_tombstone": "name, deleted_at, last_event_at",
    "tag_pull": "name, last_pulled_at, pull_count",
}


async def import_all(
    pool: Pool, lookups: Lookups, content: bytes, *, keep: timedelta | None = None
) -> Imported:
    rules = await find_rules(pool, keep=keep, event_retention=timedelta(days=30), now=datetime.now(UTC))
    importer = Importer(
        pool, rules=rules, operator=OPERATOR, files=["old"], on_left_out=lambda _place, _reason: None
    )
    await importer.take(read_lines(io.BytesIO(content), name="old"), name="old")
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass
    return importer.done


def lines_of(capture: captures.Capture) -> bytes:
    return b"".join(json.dumps(d["body"]).encode() + b"\n" for d in capture.deliveries if d["body"])


async def picture(pool: Pool) -> dict[str, list[tuple[Any, ...]]]:
    return {
        table: [tuple(row) for row in await pool.fetch(f"SELECT {columns} FROM {table} ORDER BY {columns}")]
        for table, columns in TABLES.items()
    }


async def imported_events(pool: Pool) -> list[tuple[Any, ...]]:
    rows = await pool.fetch(
        "SELECT event_key, action, occurred_at, tag FROM audit_entry WHERE source = 'notification'"
        " ORDER BY event_key, action"
    )
    return [tuple(row) for row in rows]


@pytest.fixture
def other_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    with own_database(postgres_server, template=schema_template) as url:
        yield url


@pytest.fixture
async def other(other_url: str) -> AsyncIterator[tuple[Pool, Lookups]]:
    """A second, empty database, with its words."""
    pool = await open_pool(other_url, size=4, application="tests")
    words = await open_pool(other_url, size=2, application="tests words")
    yield pool, Lookups(words)
    await pool.close()
    await words.close()


@pytest.mark.parametrize("name", captures.everyday_first())
async def test_import__is_the_history_that_live_ingest_makes(
    pool: Pool, lookups: Lookups, other: tuple[Pool, Lookups], name: str
) -> None:
    """Captured envelopes imported into an empty database make the history of live ingest; again, nothing."""
    capture = captures.load(name)
    await ingest(pool, lookups, capture, batch=200)
    first = await import_all(*other, lines_of(capture))
    assert first.left_out == {}
    assert await picture(pool) == await picture(other[0])
    await check_history(other[0])
    await check_counters(other[0], settled=False)
    assert await other[0].fetchval("SELECT sum(events) FROM registry_instance") in (0, None)
    before = await picture(other[0])
    staged = await other[0].fetchval("SELECT count(*) FROM audit_staged")
    again = await import_all(*other, lines_of(capture))
    assert again.events.total() == 0
    assert before == await picture(other[0])
    assert staged == await other[0].fetchval("SELECT count(*) FROM audit_staged")


@pytest.mark.parametrize("name", captures.everyday_first(captures.names()[::4]))
async def test_import__of_an_export(
    pool: Pool, lookups: Lookups, other: tuple[Pool, Lookups], name: str
) -> None:
    """The export of one log, imported into another, gives the same history, and the same entries of notifications."""
    capture = captures.load(name)
    await ingest(pool, lookups, capture, batch=200)
    await pool.execute(
        "INSERT INTO audit_staged (occurred_at, recorded_at, action, source)"
        " VALUES (now(), now(), 'operator.reconciled', 'operator')"
    )
    parts: list[bytes] = []

    async def keep(part: bytes) -> None:
        parts.append(part)

    while await seal(pool, limit=500):
        pass
    await export(pool, format="ndjson", after_position=0, out=keep)
    done = await import_all(*other, b"".join(parts))
    assert done.left_out.total() >= 1  # the operator's
    while await seal(other[0], limit=500):
        pass
    history = "tag_history"
    assert (await picture(pool))[history] == (await picture(other[0]))[history]
    pushes = [row for row in await imported_events(pool) if row[1] != "manifest.pulled"]
    assert pushes == [row for row in await imported_events(other[0]) if row[1] != "manifest.pulled"]


@pytest.mark.parametrize("name", captures.everyday_first(captures.names()[1::4]))
async def test_import__beside_a_live_registry(pool: Pool, lookups: Lookups, name: str) -> None:
    """What is on record from a walk stays as it is; the next walk leaves the inventory equal to the registry."""
    capture = captures.load(name)
    registry = DirectRegistry(RegistryState.from_truth(capture.truth))
    settings = RunSettings(mode=RunMode.ONCE, concurrency=8, brake_share=1.0, reread_after=timedelta(0))
    assert (await ReconcileRun(pool, lookups, registry, settings).run()).outcome == RunOutcome.COMPLETE
    before = await recorded_tags(pool)
    await import_all(pool, lookups, lines_of(capture))
    assert before == await recorded_tags(pool)
    await check_history_of_walked(pool)
    await check_counters(pool, settled=False)
    assert (await ReconcileRun(pool, lookups, registry, settings).run()).outcome == RunOutcome.COMPLETE
    readable = {key: digest for key, digest in capture.tags.items() if key not in capture.broken}
    assert readable == {k: d for k, d in (await recorded_tags(pool)).items() if k not in capture.broken}
    await check_history_of_walked(pool)


async def check_history_of_walked(pool: Pool) -> None:
    assert (
        await pool.fetch(
            "SELECT a.name FROM tag_history AS a JOIN tag_history AS b ON a.repository_id = b.repository_id"
            " AND a.name = b.name AND a.valid_from < b.valid_from AND a.valid_to > b.valid_from"
        )
        == []
    )


async def test_import__what_is_left_out_is_told_and_the_rest_is_not_lost(
    pool: Pool, lookups: Lookups
) -> None:
    """A bad line, one without a time and one older than the policy are left out; what stands between them is not."""
    event = {
        "id": "11111111-1111-4111-8111-111111111111",
        "timestamp": (datetime.now(UTC) - timedelta(days=90)).isoformat(),
        "action": "push",
        "target": {"repository": "a/b", "tag": "1", "digest": "sha256:" + "1" * 64},
    }
    old = event | {"id": "old", "timestamp": "2001-01-01T00:00:00Z"}
    undated = event | {"id": "undated", "timestamp": "then"}
    content = b"\n".join(
        [b"{", json.dumps(old).encode(), json.dumps({"events": [event, undated]}).encode(), b"[]"]
    )
    done = await import_all(pool, lookups, content, keep=timedelta(days=400))
    assert {"cannot be imported": 3, "older than INDEXER_AUDIT_KEEP": 1} == done.left_out
    assert {("a/b", "1"): event["target"]["digest"]} == await recorded_tags(pool)  # type: ignore[index]
    assert (
        await pool.fetchval("SELECT count(*) FROM audit_staged WHERE action = 'operator.history_imported'")
        == 1
    )


async def test_import__one_envelope_over_many_lines(pool: Pool, lookups: Lookups) -> None:
    """A single envelope, printed to be read, is one."""
    capture = captures.load("tag-moved.3.1.1")
    body = next(d["body"] for d in capture.deliveries if d["body"])
    done = await import_all(pool, lookups, json.dumps(body, indent=2).encode())
    assert done.events.total() == len(body["events"])


def test_import__the_command(migrated_url: str, tmp_path: Path) -> None:
    """A dry run writes nothing; the import says what became of each line; a missing file is exit code 64."""
    capture = captures.load("tag-moved.3.1.1")
    file = tmp_path / "old.ndjson"
    file.write_bytes(lines_of(capture) + b"no event\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return programs.run(
            ["indexer", "audit", "import", *arguments],
            env={**os.environ, "INDEXER_DATABASE_URL": migrated_url},
            cwd=tmp_path,
        )

    for arguments in (["--dry-run"], [], ["--dry-run"]):
        ran = run(str(file), "--json", *arguments)
        assert ran.returncode == 1, ran.stderr
        assert ran.stdout, ran.stderr
        said = json.loads(ran.stdout)
        assert sum(said["events"].values()) == len(capture.event_ids)
        assert said["left_out"] == {"cannot be imported": 1}
        assert f"left out: {file}:" in ran.stderr
    assert run(str(tmp_path / "none")).returncode == 64
    assert run().returncode == 64
