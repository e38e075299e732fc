"""Whom the command line asks: a running server, or the API in this process over a database.

Both are asked by one HTTP request at a time over one connection, so that answers and refusals are the same.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from indexer.common.errors import ConfigurationError, ServerError

if TYPE_CHECKING:
    from indexer.settings import Settings

ANSWERS_WITHIN_SECONDS = 60
"""The server gives up a question after some seconds, and a page has at most 8 MiB."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Source:
    """One connection to an API. ``base``: what stands before the paths of the API. ``name``: for errors."""

    def __init__(
        self, connection: HTTPConnection, *, name: str, base: str = "", token: str | None = None
    ) -> None:
        self._connection = connection
        self._name = name
        self._base = base
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    @property
    def name(self) -> str:
        """Whom it asks, in words."""
        return self._name

    @property
    def sends_token(self) -> bool:
        """Whether questions carry a token."""
        return bool(self._headers)

    def get(self, target: str, *, accept: str) -> Answer:
        """Ask for a path with its query; raise ``ServerError`` where there is no answer."""
        headers = {**self._headers, "Accept": accept}
        try:
            self._connection.request("GET", self._base + target, headers=headers)
            response = self._connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
        except TimeoutError as error:
            self._connection.close()
            raise ServerError(
                f"{self._name} does not answer within {ANSWERS_WITHIN_SECONDS} seconds"
            ) from error
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise ServerError(f"{self._name} does not answer: {error or type(error).__name__}") from error


def open_server(url: str, *, token: str | None) -> Source:
    """Return the API of a running server; nothing is sent yet."""
    parts = urlsplit(url)
    assert parts.hostname is not None  # noqa: S101 - base_url has checked it
    try:
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"--url {url}: {error}") from None
    if parts.scheme == "https":
        from http.client import HTTPSConnection  # noqa: PLC0415 - loading TLS takes a third of a start

        connection: HTTPConnection = HTTPSConnection(parts.hostname, port, timeout=ANSWERS_WITHIN_SECONDS)
    else:
        connection = HTTPConnection(parts.hostname, port, timeout=ANSWERS_WITHIN_SECONDS)
    return Source(connection, name=f"the server at {url}", base=parts.path.rstrip("/"), token=token)


class _Paired(HTTPConnection):
    """A connection over a socket that is there already."""

    def __init__(self, paired: socket.socket) -> None:
        super().__init__("localhost", timeout=ANSWERS_WITHIN_SECONDS)
        paired.settimeout(ANSWERS_WITHIN_SECONDS)
        self.sock = paired

    def connect(self) -> None:
        """Refuse: the other end is gone, and there is no address to ask again."""
        raise ConnectionError("it has ended")


async def with_database(
    database_url: str, work: Callable[[Source], int], *, log: Callable[[], object]
) -> int:
    """Run ``work`` in a thread, with the API over a database; ``log`` sets up the log of the API.

    Raises ``StoreError`` where the database does not answer, or its schema is not this program's.
    """
    import asyncio  # noqa: PLC0415

    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import close_pool, connect, open_pool, translated  # noqa: PLC0415

    connection = await connect(database_url, application="indexer")
    try:
        async with translated():
            await check(connection)
    finally:
        await connection.close()
    # Only now: loading the API takes longer than to learn that there is no database.
    log()
    from aiohttp import web  # noqa: PLC0415

    from indexer.api.routes import ApiSettings, add_api  # noqa: PLC0415

    pool = await open_pool(database_url, size=2, application="indexer ask")
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(anonymous_read=True, connections=1))
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1)
    ours, theirs = socket.socketpair()
    try:
        await runner.setup()
        assert runner.server is not None  # noqa: S101 - it is set up
        ours.settimeout(0)
        await asyncio.get_running_loop().connect_accepted_socket(runner.server, ours)
        return await asyncio.to_thread(work, Source(_Paired(theirs), name="the database"))
    finally:
        with suppress(OSError):
            theirs.shutdown(socket.SHUT_RDWR)  # wakes the thread where it waits for an answer: Ctrl-C
        theirs.close()
        await runner.cleanup()
        await close_pool(pool)


def token_of(settings: Settings) -> str | None:
    """Return the token to send to a server: ``INDEXER_TOKEN``, else the first of ``INDEXER_API_TOKENS``."""
    if settings.indexer_token is not None:
        return settings.indexer_token.get_secret_value()
    return next((token.get_secret_value() for token in settings.indexer_api_tokens), None)
