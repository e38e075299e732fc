"""A data directory is one server's: a second one on it would drain the other's spool and sign with its key."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from indexer import app
from indexer.errors import ConfigurationError
from indexer.settings import Settings


async def test_data_directory__of_two_servers(tmp_path: Path) -> None:
    """The second is refused by the first one's process number; once that has ended the directory is free."""
    settings = Settings.read({"INDEXER_DATA_DIR": str(tmp_path / "made")})
    async with AsyncExitStack() as first:
        first.callback((await app._spool(first, settings)).close)
        async with AsyncExitStack() as second:
            with pytest.raises(ConfigurationError, match=r"is in use by process \d+; .*INDEXER_DATA_DIR"):
                await app._spool(second, settings, patience_seconds=0)
    async with AsyncExitStack() as third:
        third.callback((await app._spool(third, settings)).close)


async def test_data_directory__that_cannot_be_made(tmp_path: Path) -> None:
    """A path below a file is one line with the setting's name."""
    (tmp_path / "file").write_text("")
    settings = Settings.read({"INDEXER_DATA_DIR": str(tmp_path / "file" / "below")})
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match="INDEXER_DATA_DIR: the spool"):
            await app._spool(stack, settings)
