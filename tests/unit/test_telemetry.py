"""Logs hold no secret, even when something unforeseen happens while one is at hand."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from indexer.telemetry import configure_logs


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("style", ["json", "console"])
def test_logs__exception(capsys: pytest.CaptureFixture[str], style: str) -> None:
    """A traceback names what failed and where, without the values of the variables there."""
    configure_logs(level="info", style=style)
    fail_with("postgresql://indexer:hunter2@db/indexer", structlog.get_logger())
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "fail_with" in said
    assert "hunter2" not in said


def fail_with(database_url: str, log: structlog.stdlib.BoundLogger) -> None:
    try:
        1 / (len(database_url) - len(database_url))
    except ZeroDivisionError:
        log.exception("api_failed")


@pytest.mark.parametrize("style", ["json", "console"])
def test_logs__telling_names(capsys: pytest.CaptureFixture[str], style: str) -> None:
    """A field with a telling name is blanked."""
    configure_logs(level="info", style=style)
    structlog.get_logger().info("started", api_token="hunter2", listen="127.0.0.1:5005")
    said = capsys.readouterr().err
    assert "127.0.0.1:5005" in said
    assert "hunter2" not in said
