"""Every operation a registry tells of is in the log: who, from where, through which process, when, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from indexer.audit.seal import seal
from indexer.audit.serialize import show_entry
from indexer.common.rfc3339 import format_time
from indexer.inventory.changes import AuditAction
from indexer.store.listing.audit import AuditFilter, sealed_entries
from indexer.store.operators import Operator, record_action
from tests.fixtures import captures
from tests.fixtures.ingesting import ingest

if TYPE_CHECKING:
    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool

VERSIONS = ("2.8.2", "3.1.1")
OPERATIONS = ("cross-repo-mount", "pulls-get-head-304", "delete-by-digest", "basic-auth-actor", "tag-moved")


async def entries_of(pool: Pool) -> list[dict[str, Any]]:
    """The whole log, sealed."""
    while await seal(pool, limit=1000):
        pass
    async with pool.acquire() as held:
        rows = await sealed_entries(held, scope=None, wanted=AuditFilter(), after=0, until=10**6, limit=10**6)
    return [show_entry(row) for row in rows]


@pytest.mark.parametrize("batch", [1, 200])
@pytest.mark.parametrize("version", VERSIONS)
async def test_cause__of_tags_that_went_with_a_digest(
    pool: Pool, lookups: Lookups, version: str, batch: int
) -> None:
    """Each names the event of the digest's deletion, also where that was applied in an earlier transaction."""
    await ingest(pool, lookups, captures.load(f"delete-by-digest.{version}"), batch=batch)
    entries = await entries_of(pool)
    digests = {e["request"]["id"]: e["event_id"] for e in entries if e["action"] == "manifest.deleted"}
    tags = {e["tag"]: e for e in entries if e["action"] == "tag.deleted"}
    assert {"one", "two-a", "two-b", "t"} == set(tags)
    expected = {tag: digests[entry["request"]["id"]] for tag, entry in tags.items()}
    assert expected == {tag: entry["detail"]["caused_by"] for tag, entry in tags.items()}


async def test_cause__a_tag_deleted_by_itself_has_none(pool: Pool, lookups: Lookups) -> None:
    """Distribution 3.x deletes a tag alone when asked to."""
    await ingest(pool, lookups, captures.load("delete-by-tag.3.1.1"), batch=200)
    alone = [entry for entry in await entries_of(pool) if entry["action"] == "tag.deleted"]
    assert alone
    assert [] == [entry for entry in alone if "caused_by" in entry["detail"]]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_entry__says_who_from_where_when_and_how(
    pool: Pool, lookups: Lookups, operation: str, version: str
) -> None:
    """What the registry's event said of itself is in each of its entries, to the letter."""
    capture = captures.load(f"{operation}.{version}")
    await ingest(pool, lookups, capture, batch=200)
    told = {
        event["id"]: event for delivery in capture.deliveries for event in delivery["body"].get("events", [])
    }
    entries = await entries_of(pool)
    assert entries
    for entry in entries:
        event = told[entry["event_id"]]
        assert event["target"]["repository"] == entry["repository"]
        assert event["actor"].get("name") == (entry["actor"] or {}).get("name")
        request = entry["request"]
        assert event["request"]["addr"] == f"{request['address']}:{request['port']}"
        assert (event["request"]["id"], event["request"]["method"]) == (request["id"], request["method"])
        assert event["request"]["useragent"] == (request["user_agent"] or "")
        assert event["source"]["instanceID"] == entry["registry"]["instance_id"]
        assert "notification" == entry["source"]
        assert entry["occurred_at"] <= entry["recorded_at"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_entry__of_a_mount_names_where_from(pool: Pool, lookups: Lookups, version: str) -> None:
    """A mount tells of two repositories."""
    await ingest(pool, lookups, captures.load(f"cross-repo-mount.{version}"), batch=200)
    mounts = [entry for entry in await entries_of(pool) if entry["action"] == "blob.mounted"]
    assert mounts
    assert all(entry["detail"]["from_repository"] and entry["digest"] for entry in mounts)


@pytest.mark.parametrize("version", VERSIONS)
async def test_entry__of_a_move_names_the_digest_before(pool: Pool, lookups: Lookups, version: str) -> None:
    """The digest that a tag moved away from is the one it had been moved to before."""
    await ingest(pool, lookups, captures.load(f"tag-moved.{version}"), batch=200)
    pointed: dict[tuple[str, str], str] = {}
    moves = 0
    for entry in await entries_of(pool):
        if entry["tag"] is None or not entry["action"].startswith("tag."):
            continue
        key = (entry["repository"], entry["tag"])
        if entry["action"] == "tag.moved":
            assert pointed[key] == entry["previous_digest"] != entry["digest"]
            moves += 1
        pointed[key] = entry["digest"]
    assert moves


async def test_actions__of_operators_are_entries(pool: Pool) -> None:
    """Who ran which command on which machine, with what it did; sealed like all others."""
    at = datetime(2026, 5, 1, tzinfo=UTC)
    operator = Operator(name="ops\x00erin", host="box", command="indexer inbox retry")
    async with pool.acquire() as held, held.transaction():
        await record_action(
            held,
            action=AuditAction.OPERATOR_INBOX_RETRIED,
            operator=operator,
            at=at,
            detail={"deliveries": 3},
        )
    (entry,) = await entries_of(pool)
    assert ("operator.inbox_retried", "operator", {"deliveries": 3}) == (
        entry["action"],
        entry["source"],
        entry["detail"],
    )
    assert "ops\\u0000erin" == entry["actor"]["name"]
    assert ("box", "indexer inbox retry") == (entry["request"]["host"], entry["request"]["user_agent"])
    assert format_time(at) == entry["occurred_at"]
