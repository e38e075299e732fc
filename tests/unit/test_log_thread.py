"""Logs of a daemon are written by a thread: who reads them slowly, or not at all, stops nothing else."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import NamedTuple, TextIO

import pytest
import structlog

from indexer.common import log_thread
from indexer.common.log_thread import logs_in_a_thread
from indexer.common.telemetry import configure_logs

ENOUGH_SECONDS = 20
SMALLEST_PIPE = 4096


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Pipe(NamedTuple):
    """Standard error as logs have it, and the end that is read."""

    stream: TextIO
    reader: TextIO


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """A pipe that takes a page, in place of standard error."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    with os.fdopen(writing, "w") as stream, os.fdopen(reading) as reader:
        monkeypatch.setattr("sys.stderr", stream)
        configure_logs(level="info", style="json")
        yield Pipe(stream, reader)


def say(count: int) -> None:
    for number in range(count):
        structlog.get_logger().info("said", number=number)


def test_logs__nobody_reads(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs goes on; what there is no room for is counted, and said once somebody reads again."""
    monkeypatch.setattr(log_thread, "MAX_WAITING_BYTES", 20_000)
    done = threading.Event()
    lines: list[dict[str, object]] = []

    def run() -> None:
        with logs_in_a_thread():
            say(1000)
            done.set()
            while not (lines and lines[-1]["event"] == "log_lines_dropped"):
                lines.append(json.loads(pipe.reader.readline()))

    running = threading.Thread(target=run, daemon=True)
    running.start()
    assert done.wait(ENOUGH_SECONDS)
    running.join(ENOUGH_SECONDS)
    assert not running.is_alive()
    *said, last = lines
    assert [each["number"] for each in said] == list(range(len(said)))
    assert 100 < len(said) < 1000
    assert last["lines"] == 1000 - len(said)


def test_logs__all_are_written_at_the_end(pipe: Pipe) -> None:
    """The block ends when everything is written, in its order; then logs are written as before."""
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(pipe.reader), daemon=True)
    reading.start()
    with logs_in_a_thread():
        say(500)
    structlog.get_logger().info("afterwards")
    pipe.stream.close()
    reading.join(ENOUGH_SECONDS)
    said = [json.loads(line) for line in lines]
    assert [each.get("number") for each in said] == [*range(500), None]


def test_logs__the_end_does_not_wait_for_ever(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads the block ends all the same."""
    monkeypatch.setattr(log_thread, "FLUSH_SECONDS", 0.05)
    ended = threading.Event()

    def run() -> None:
        with logs_in_a_thread():
            say(1000)
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(ENOUGH_SECONDS)
    assert pipe.reader.readline()
