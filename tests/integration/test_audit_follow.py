"""Following the log: what was there, then what is new, each entry once and in order."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from indexer.audit import follow as room
from indexer.audit.follow import follow, line_of
from indexer.audit.seal import seal
from indexer.store.listing.audit import AuditFilter
from tests.fixtures.programs import COMMANDS

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from indexer.store.pool import Pool
    from tests.fixtures.installation import Installation


async def stage(pool: Pool, *tags: str) -> None:
    await pool.executemany(
        "INSERT INTO audit_staged (occurred_at, recorded_at, action, source, tag) "
        "VALUES ($1, $1, 'tag.created', 'notification', $2)",
        [(datetime.now(UTC), tag) for tag in tags],
    )
    await seal(pool, limit=1000)


async def first(count: int, pool: Pool, database_url: str, **wanted: Any) -> list[dict[str, Any]]:
    """The first entries that following shows."""
    found: list[dict[str, Any]] = []
    enough = asyncio.Event()

    async def show(part: bytes) -> None:
        found.extend(json.loads(line) for line in part.splitlines())
        if len(found) >= count:
            enough.set()

    task = asyncio.create_task(follow(pool, database_url, show=show, **wanted))
    async with asyncio.timeout(60):
        await enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def test_follow__begins_behind_a_position(pool: Pool, database_url: str) -> None:
    """What was sealed behind the position is shown first, the filter left out what it should."""
    await stage(pool, "a", "b", "c", "b")
    found = await first(2, pool, database_url, after_position=1, filters=AuditFilter(tag="b"))
    assert [(2, "b"), (4, "b")] == [(entry["position"], entry["tag"]) for entry in found]


async def test_follow__is_woken_by_the_sealer(
    pool: Pool, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New entries are shown because the sealer says so: here nobody would look again by himself."""
    monkeypatch.setattr(room, "REST_SECONDS", 3600)
    following = asyncio.create_task(first(3, pool, database_url, after_position=0))
    for tag in ("a", "b", "c"):
        await stage(pool, tag)
        await asyncio.sleep(0)
    assert [1, 2, 3] == [entry["position"] for entry in await following]


def test_line__shows_nothing_that_steers_a_terminal() -> None:
    """Clients choose their names; an escape sequence in one does not reach the terminal."""
    entry = {"position": 1, "occurred_at": "T", "action": "tag.created", "repository": "a", "tag": "b",
             "digest": None, "actor": {"name": "\x1b[2Jeve"}, "source": "notification"}  # fmt: skip
    assert "\x1b" not in line_of(entry)


def test_command__ends_well_on_ctrl_c(installation: Installation, tmp_path: Path) -> None:
    """``indexer audit follow`` prints what arrives at the server, and Ctrl-C is exit code 0."""
    output = tmp_path / "followed"
    event = {
        "id": "11111111-2222-4333-8444-555555555555", "timestamp": "2026-01-01T00:00:00Z",
        "action": "push",
        "target": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1,
                   "digest": "sha256:" + "a" * 64, "repository": "team/app", "tag": "v1"},
    }  # fmt: skip
    with (
        output.open("wb") as out,
        subprocess.Popen(
            [COMMANDS / "indexer", "audit", "follow", "--after", "0", "--json"],
            env=installation.environment(),
            stdout=out,
            stderr=subprocess.PIPE,
        ) as process,
    ):
        try:
            assert installation.post(json.dumps({"events": [event]}).encode()) == 202
            installation.until(lambda: b"tag.created" in output.read_bytes(), "the entry to be followed")
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    entries = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert (0, b"") == (process.returncode, said)
    assert list(range(1, len(entries) + 1)) == [entry["position"] for entry in entries]
