"""A long export says how far it is."""

from __future__ import annotations

import asyncio
import os
import pty
from typing import TYPE_CHECKING

from indexer.audit import export as room
from indexer.audit.export import export
from tests.fixtures.programs import COMMANDS
from tests.fixtures.sealing import sealed

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from indexer.store.pool import Pool

INDEXER = COMMANDS / "indexer"


async def nowhere(_part: bytes) -> None:
    pass


async def test_export__tells_how_far_it_is(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each window the position reached, and the last there will be."""
    monkeypatch.setattr(room, "WINDOW", 10)
    await sealed(pool, 25)
    told: list[tuple[int, int]] = []
    await export(
        pool,
        format="ndjson",
        after_position=3,
        out=nowhere,
        reached=lambda position, last: told.append((position, last)),
    )
    assert told == [(13, 25), (23, 25), (25, 25)]


async def test_bar__on_a_terminal_only(pool: Pool, database_url: str, tmp_path: Path) -> None:
    """Standard error shows a bar where it is a terminal; the file holds entries and nothing else."""
    await sealed(pool, 25)
    ours, theirs = pty.openpty()
    output = tmp_path / "log.ndjson"
    try:
        done = await asyncio.create_subprocess_exec(
            str(INDEXER),
            "audit",
            "export",
            "--output",
            str(output),
            env=os.environ | {"INDEXER_DATABASE_URL": database_url, "TERM": "xterm", "COLUMNS": "80"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        assert 0 == await done.wait()
        shown = os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "exporting" in shown
    assert "exported up to position 25" in shown
    assert 25 == len(output.read_bytes().splitlines())
