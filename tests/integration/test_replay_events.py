"""Recorded deliveries, applied through the inbox: what told evidence alone makes of the inventory."""

from __future__ import annotations

import pytest

from indexer.audit.seal import seal
from indexer.store import repositories
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool
from tests.fixtures import captures
from tests.fixtures.captures import Capture
from tests.fixtures.ingesting import check_counters, check_history, ingest, recorded_tags


@pytest.mark.parametrize("name", captures.everyday_first())
async def test_replay__told_evidence_alone(pool: Pool, lookups: Lookups, name: str) -> None:
    """A recording, applied at once, obeys every rule; applied again in reverse, it changes nothing."""
    capture = captures.load(name)
    await ingest(pool, lookups, capture, batch=200)
    await check_tags(pool, capture)
    await check_manifests(pool, capture)
    await check_history(pool)
    await check_counters(pool, settled=False)
    before = await picture(pool)
    await ingest(pool, lookups, Capture(name, capture.deliveries[::-1], capture.truth), batch=7)
    assert await picture(pool) == before
    await check_audit(pool, capture)


@pytest.mark.parametrize("name", captures.everyday_first(words=("random",)))
async def test_replay__one_event_a_transaction(
    pool: Pool, lookups: Lookups, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken one delivery at a time, a recording makes the same tags, counters and history; repositories grow large."""
    monkeypatch.setattr(repositories, "SORTED_WHOLE", 2)
    capture = captures.load(name)
    await ingest(pool, lookups, capture, batch=1)
    await check_tags(pool, capture)
    await check_history(pool)
    await check_counters(pool, settled=False)


async def check_tags(pool: Pool, capture: Capture) -> None:
    """Where the events tell the truth, the inventory is the truth; where not, it differs only where they lie."""
    recorded = await recorded_tags(pool)
    lies = {(d["repository"], d["tag"]) for d in capture.truth["naive_fold_differences"]["tags"]}
    assert {k: v for k, v in capture.tags.items() if k not in lies} == {
        k: v for k, v in recorded.items() if k not in lies
    }
    assert await pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def check_manifests(pool: Pool, capture: Capture) -> None:
    """Where the events tell the truth, the repositories hold exactly the manifests that storage holds."""
    rows = await pool.fetch(
        "SELECT r.name AS repository, encode(substr(m.digest, 2), 'hex') AS hash FROM repository_manifest AS h"
        " JOIN repository AS r ON r.id = h.repository_id JOIN manifest AS m ON m.id = h.manifest_id"
        " WHERE h.deleted_at IS NULL"
    )
    recorded = {(row["repository"], f"sha256:{row['hash']}") for row in rows}
    lies = {
        (d["repository"], digest)
        for d in capture.truth["naive_fold_differences"]["manifests"]
        for digest in d["only_in_fold"] + d["only_in_truth"]
    }
    assert capture.manifests - lies == recorded - lies


async def check_audit(pool: Pool, capture: Capture) -> None:
    """Each push, mount and delete stands in the log, at most once per noun, and positions have no gap."""
    while await seal(pool, limit=50):
        pass
    wanted = {
        event["id"]
        for delivery in capture.deliveries
        if delivery["body"]
        for event in delivery["body"].get("events", [])
        if event["action"] != "pull"
    }
    rows = await pool.fetch("SELECT position, event_key, action FROM audit_entry ORDER BY position")
    assert wanted <= {str(row["event_key"]) for row in rows}
    statement_files = [(row["event_key"], row["action"].split(".")[0]) for row in rows]
    assert len(statement_files) == len(set(statement_files))
    assert [row["position"] for row in rows] == list(range(1, len(rows) + 1))


async def picture(pool: Pool) -> list[object]:
    """Everything a redelivery must not change."""
    return [
        [tuple(row) for row in await pool.fetch(f"SELECT * FROM {table} ORDER BY 1, 2, 3")]
        for table in (
            "tag",
            "tag_history",
            "tag_tombstone",
            "audit_staged",
            "repository_manifest",
            "tag_pull",
            "tag_check",
            "unmatched_check",
        )
    ]
