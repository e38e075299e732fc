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
from indexer.common.log_thread import _ThreadedHandler, logs_in_a_thread
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
    numbers = [int(str(each["number"])) for each in said]
    assert numbers == sorted(set(numbers))  # in their order, none twice
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


def test_logs__what_was_dropped_is_counted_at_the_end(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that found no room until the end are reported by the last line."""
    monkeypatch.setattr(log_thread, "MAX_WAITING_BYTES", 20_000)
    lines: list[str] = []
    reading = threading.Thread(target=lambda: lines.extend(pipe.reader), daemon=True)
    with logs_in_a_thread():
        say(1000)
        reading.start()
    pipe.stream.close()
    reading.join(ENOUGH_SECONDS)
    *said, last = map(json.loads, lines)
    assert ("log_lines_dropped", 1000 - len(said)) == (last["event"], last["lines"])


def test_logs__of_a_forked_process(pipe: Pipe) -> None:
    """A forked process writes its own lines, and none of those that waited in its parent."""
    lines: list[str] = []
    with logs_in_a_thread():
        say(100)  # more than the pipe takes
        child = os.fork()
        if child == 0:
            ended = 1
            try:
                structlog.get_logger().info("forked")
                (threaded,) = (h for h in logging.getLogger().handlers if isinstance(h, _ThreadedHandler))
                ended = 0 if threaded.finish() else 2
            finally:
                os._exit(ended)
        reading = threading.Thread(target=lambda: lines.extend(pipe.reader), daemon=True)
        reading.start()
        assert 0 == os.waitpid(child, 0)[1]
    pipe.stream.close()
    reading.join(ENOUGH_SECONDS)
    said = [json.loads(line) for line in lines]
    assert 1 == sum(each["event"] == "forked" for each in said)
    assert list(range(100)) == [each["number"] for each in said if each["event"] == "said"]


def test_logs__a_pipe_that_does_not_wait(pipe: Pipe) -> None:
    """Where another process made the pipe non-blocking, no line is lost or cut."""
    lines: list[str] = []
    os.set_blocking(pipe.stream.fileno(), False)
    with logs_in_a_thread():
        say(500)
        reading = threading.Thread(target=lambda: lines.extend(pipe.reader), daemon=True)
        reading.start()
    pipe.stream.close()
    reading.join(ENOUGH_SECONDS)
    assert list(range(500)) == [json.loads(line)["number"] for line in lines]


def test_logs__the_reader_is_gone(pipe: Pipe) -> None:
    """Lines that cannot be written are counted, and stop nothing."""
    before = log_thread.DROPPED._value.get()
    pipe.reader.close()
    with logs_in_a_thread():
        say(10)
    assert 10 == log_thread.DROPPED._value.get() - before


def test_logs__the_end_does_not_wait_for_ever(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody reads the block ends all the same."""
    monkeypatch.setattr(log_thread, "FLUSH_SECONDS", 0.05)
    ended = threading.Event()

    def run() -> None:
        with logs_in_a_thread():
            say(1000)
        say(1000)  # later lines wait for nobody, either
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(ENOUGH_SECONDS)
    assert pipe.reader.readline()
