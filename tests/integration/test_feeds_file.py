"""A file sink: each entry once and in order, through crashes at any byte, rotation and replays."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from indexer.common.errors import Postponed
from indexer.feeds.file import rotated
from indexer.store import feeds
from indexer.store.pool import Pool
from tests.fixtures.feeding import MakeFeed, deliver_all, lines_of, write_log


def tags(count: int) -> list[str]:
    return [f"team/app:v{number}" for number in range(count)]


def positions(path: Path) -> list[int]:
    return [int(line["sequence"]) for line in lines_of(path)]


async def test_file__holds_each_entry_once(pool: Pool, make_feed: MakeFeed, tmp_path: Path) -> None:
    """Whole lines of CloudEvents, in order, readable by the owner's group and nobody else."""
    path = tmp_path / "audit.ndjson"
    await write_log(pool, *tags(10))
    await deliver_all(pool, make_feed(kind="file", path=path, batch=3))
    assert list(range(1, 11)) == positions(path)
    assert 0 == path.stat().st_mode & 0o007


async def test_file__goes_on_behind_its_last_whole_line(
    pool: Pool, make_feed: MakeFeed, tmp_path: Path
) -> None:
    """A process killed at any byte of a write: what was whole is not written again, what was not is cut off."""
    path = tmp_path / "audit.ndjson"
    await write_log(pool, *tags(6))
    await deliver_all(pool, feed := make_feed(kind="file", path=path))
    whole = path.read_bytes()
    await feed.close()
    for size in range(0, len(whole) + 1, 97):
        path.write_bytes(whole[:size])
        await pool.execute(
            "UPDATE feed SET position = 0, lease_until = '-infinity'"
        )  # the cursor had not moved
        await deliver_all(pool, feed)
        assert whole == path.read_bytes(), size
        await feed.close()


async def test_file__is_rotated_between_batches(pool: Pool, make_feed: MakeFeed, tmp_path: Path) -> None:
    """No file grows beyond its size, none is split within a line, together they are the log; old ones go if told."""
    path = tmp_path / "audit.ndjson"
    await write_log(pool, *tags(40))
    await deliver_all(pool, make_feed(kind="file", path=path, batch=4, rotate_bytes=6000))
    files = [*rotated(path), path]
    assert len(files) > 3
    assert list(range(1, 41)) == [position for file in files for position in positions(file)]
    assert all(file.stat().st_size <= 6000 for file in files)
    await write_log(pool, *tags(40))
    few = make_feed(name="few", kind="file", path=tmp_path / "few", rotate_bytes=1, batch=8, keep=2)
    await deliver_all(pool, few, name="few")
    assert 2 == len(rotated(tmp_path / "few"))


async def test_file__is_opened_again_when_others_rotate_it(
    pool: Pool, make_feed: MakeFeed, tmp_path: Path
) -> None:
    """Logrotate moves the file away: what follows is in the new one, nothing is lost."""
    path = tmp_path / "audit.ndjson"
    feed = make_feed(kind="file", path=path)
    await write_log(pool, *tags(3))
    await deliver_all(pool, feed)
    path.rename(tmp_path / "audit.ndjson.1")
    await write_log(pool, *tags(2))
    await deliver_all(pool, feed)
    assert ([1, 2, 3], [4, 5]) == (positions(tmp_path / "audit.ndjson.1"), positions(path))


async def test_file__a_replay_begins_a_new_file(pool: Pool, make_feed: MakeFeed, tmp_path: Path) -> None:
    """What was delivered is written again, and each file is in the log's order."""
    path = tmp_path / "audit.ndjson"
    feed = make_feed(kind="file", path=path)
    await write_log(pool, *tags(5))
    await deliver_all(pool, feed)
    async with pool.acquire() as held:
        await feeds.replay_feed(held, name="siem", after=2)
    await deliver_all(pool, feed)
    assert [[1, 2, 3, 4, 5], [3, 4, 5]] == [positions(file) for file in (*rotated(path), path)]


async def test_file__has_one_writer(pool: Pool, make_feed: MakeFeed, tmp_path: Path) -> None:
    """Another process that holds the file's lock keeps us out, until it ends."""
    path = tmp_path / "audit.ndjson"
    script = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, f"{path}.lock"]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    await write_log(pool, *tags(1))
    feed = make_feed(kind="file", path=path)
    try:
        with pytest.raises(Postponed, match="another process holds"):
            await feed.run_once()
    finally:
        other.communicate()
    await deliver_all(pool, feed)
    assert [1] == positions(path)


async def test_file__that_cannot_be_written_fails_and_recovers(
    pool: Pool, make_feed: MakeFeed, tmp_path: Path
) -> None:
    """A directory that is missing is said; once it is there nothing is missing."""
    path = tmp_path / "later" / "audit.ndjson"
    await write_log(pool, *tags(2))
    feed = make_feed(kind="file", path=path)
    with pytest.raises(Postponed, match="No such file or directory"):
        await feed.run_once()
    path.parent.mkdir()
    await deliver_all(pool, feed)
    assert [1, 2] == positions(path)


async def test_file__on_a_full_disk_fails(
    pool: Pool, make_feed: MakeFeed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that ends half-way is taken back; once there is room each entry is there once."""
    path = tmp_path / "audit.ndjson"
    await write_log(pool, *tags(4))
    feed = make_feed(kind="file", path=path, batch=2)
    await feed.run_once()
    real = os.write

    def half(file: int, data: memoryview) -> int:
        if len(data) < 400:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, data[: len(data) // 2])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(Postponed, match="No space left"):
            await feed.run_once()
    assert [1, 2] == positions(path)
    await deliver_all(pool, feed)
    assert [1, 2, 3, 4] == positions(path)
