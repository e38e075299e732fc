"""Logs hold no secret, even when something unforeseen happens while one is at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import structlog
from aiohttp import web

from indexer.common.telemetry import configure_logs


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


async def stream_to_a_client_that_leaves() -> None:
    """Answer without end, until the client has gone and writing says so; return once the server is done with it."""
    done = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b"x" * 65536)
        finally:
            asyncio.get_running_loop().call_later(0.05, done.set)  # the server has said by then what it says

    app = web.Application()
    app.router.add_get("/", endless)
    runner = web.AppRunner(app, access_log=None)  # a TestServer would cancel the handler instead
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with asyncio.timeout(60):
        host, port = runner.addresses[0]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await reader.readexactly(65536)
        writer.transport.abort()
        await done.wait()
        await runner.cleanup()


async def test_logs__a_client_that_goes_away_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A dashboard that reconnects fills no log; what fails for another reason is still said."""
    configure_logs(level="info", style="json")
    await stream_to_a_client_that_leaves()
    assert capsys.readouterr().err == ""
    logging.getLogger("aiohttp.server").error("Error handling request", exc_info=RuntimeError("ours"))
    assert "RuntimeError" in capsys.readouterr().err
