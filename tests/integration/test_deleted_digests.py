"""Deletions by digest of content of which nothing is on record: a manifest whose push was lost, or a blob."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson

from indexer.ingest.envelope import decode
from indexer.oci.media_types import OCI_MANIFEST
from indexer.oci.reference import RepositoryName
from indexer.store import apply, repositories
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, transaction
from tests.simulators.state import RegistryState

ONE, TWO = RepositoryName("team/one"), RepositoryName("team/two")
CONTENT = b'{"schemaVersion": 2}'


async def test_unknown__may_be_a_manifest_each_time(pool: Pool, lookups: Lookups) -> None:
    """That a digest was deleted once, when nothing was known of it, does not make it a blob."""
    state = RegistryState()
    pushed = [state.push(name, CONTENT, media_type=OCI_MANIFEST, tag="v1") for name in (ONE, TWO)]
    events: list[dict[str, object]] = []
    state.listeners.append(events.append)
    for name, digest in zip((ONE, TWO), pushed, strict=True):
        state.delete_manifest(name, digest)
    now = datetime.now(UTC)
    for each in events:
        decoded = decode(orjson.dumps({"events": [each]}), content_encoding="", received_at=now).events
        await apply.prepare(lookups, decoded)
        async with transaction(pool) as held:
            await repositories.add_repositories(held, announced={event.repository: now for event in decoded})
            await apply.apply_events(held, lookups, decoded, now=now)
    rows = await pool.fetch(
        "SELECT r.name FROM repository_manifest AS m JOIN repository AS r ON r.id = m.repository_id"
        " WHERE m.deleted_at IS NOT NULL ORDER BY r.name"
    )
    assert [row["name"] for row in rows] == [ONE, TWO]
    actions = await pool.fetch("SELECT action FROM audit_staged UNION ALL SELECT action FROM audit_entry")
    assert {row["action"] for row in actions} == {"content.deleted", "tag.deleted"}
