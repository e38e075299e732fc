"""A data directory is one server's: a second one on it would drain the other's spool and sign with its key."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from indexer import app
from indexer.common.errors import ConfigurationError
from indexer.feeds.sinks import read_feeds
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


@pytest.mark.parametrize("there", [False, True])
async def test_feed__of_a_directory_that_is_not_there(tmp_path: Path, there: bool) -> None:
    """A file feed whose directory is missing is refused at the start, with the feed's name, not at its first entry."""
    path = tmp_path / "logs" / "audit.ndjson"
    if there:
        path.parent.mkdir()
    config = tmp_path / "feeds.toml"
    config.write_text(f'[[feed]]\nname = "siem"\nkind = "file"\npath = "{path}"\n')
    file, sinks = read_feeds(config)
    async with AsyncExitStack() as stack:
        making = app._feeds(stack, "postgresql://me@127.0.0.1:1/none", file, sinks)
        if there:
            assert 1 == len(await making)
        else:
            with pytest.raises(ConfigurationError, match=r"feed 'siem': path: .*logs does not exist"):
                await making
