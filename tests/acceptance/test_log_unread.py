"""A server whose log nobody reads goes on: it answers, takes deliveries, and ends when it is told to."""

from __future__ import annotations

import fcntl
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.fixtures import programs

if TYPE_CHECKING:
    from tests.fixtures.installation import Installation

pytestmark = pytest.mark.slow

SMALLEST_PIPE = 4096
DELIVERIES = 80
"""Each leaves a line of some 150 bytes."""


def test_log__nobody_reads_it(installation: Installation) -> None:
    """More lines than the pipe of a log driver that is stuck can take keep nothing waiting."""
    installation.end(installation.server)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
    with os.fdopen(reading, "rb") as log:
        with os.fdopen(writing, "wb") as error:
            installation.server = programs.start(
                ["indexer", "serve"],
                env=installation.environment(INDEXER_LOG_LEVEL="debug"),
                stdout=subprocess.DEVNULL,
                stderr=error,
            )
        installation.started.append(installation.server)
        installation.until_ready()
        for number in range(DELIVERIES):
            assert 202 == installation.post(b"no JSON %d" % number)
            installation.until_applied()
        assert 200 == installation.ask("/readyz").status_code
        assert 0 == installation.end(installation.server)
        said = log.read()
    assert len(said) <= SMALLEST_PIPE
    assert b'"event": "listening"' in said
