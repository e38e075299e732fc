"""Connections: how they are opened, set up and returned, and how the driver's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import gaierror
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import orjson

from indexer.common.errors import (
    ConfigurationError,
    StoreBusy,
    StoreError,
    StoreFault,
    StoreRefused,
    StoreTimedOut,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    OwnConnection = asyncpg.Connection[asyncpg.Record]
    Connection = OwnConnection | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool
    OwnConnection = asyncpg.Connection
    Connection = asyncpg.Connection

UNAVAILABLE = (
    # What a restart or a crash of the server raises, measured with asyncpg 0.32.
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    # The server is there and cannot work just now: a full disk, no memory, shut down by an operator, made a standby.
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
)

MISCONFIGURED = (
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""The URL, the password or the database's name is wrong: waiting does not help."""

IN_THE_WAY = (asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError)
"""Deadlocks, serialization failures, and locks that were not released in time."""

WRONG_VALUES = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

SAME_ROLE = (
    "the role in INDEXER_DATABASE_URL must be the one that ran `indexer migrate`, or one that was granted all on its "
    "tables and sequences"
)

COMMAND_TIMEOUT_SECONDS = 60.0
"""A half-open connection is noticed only by a time-out. Migrations and erasures have none: it depends on the data."""

CONNECT_TIMEOUT_SECONDS = 10.0
CLOSED_WITHIN_SECONDS = 5.0

ABANDONED_AFTER_SECONDS = 60.0
"""After that the server ends a transaction whose client is silent. The other side of a half-open connection would keep
its locks for hours. No transaction of ours pauses between two statements for that long."""


async def _set_up(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
    )


async def _leave_as_it_is(_connection: Connection) -> None:
    """Skip the reset query at every release: no statement of ours leaves session state behind."""


async def open_pool(
    database_url: str,
    *,
    size: int,
    application: str,
    limited: bool = True,
    command_timeout_seconds: float | None = None,
) -> Pool:
    """Make a pool of at most ``size`` connections, opened when they are first needed.

    ``limited``: no statement may take longer than ``command_timeout_seconds`` (default: ``COMMAND_TIMEOUT_SECONDS``).

    Raises ``ConfigurationError`` for an invalid URL. Whether the server answers shows at the first use.
    """
    _check_url(database_url)
    longest = COMMAND_TIMEOUT_SECONDS if command_timeout_seconds is None else command_timeout_seconds
    try:
        return await asyncpg.create_pool(
            database_url,
            min_size=0,
            max_size=size,
            init=_set_up,
            connect=_connect,
            reset=_leave_as_it_is,
            command_timeout=longest if limited else None,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings=_server_settings(application),
        )
    except MISCONFIGURED as error:
        raise _misconfigured(error) from error


async def close_pool(pool: Pool) -> None:
    """Close it. ``pool.close()`` waits for connections in use without limit, and by now none should be."""
    try:
        async with asyncio.timeout(CLOSED_WITHIN_SECONDS):
            await pool.close()
    except TimeoutError:
        pool.terminate()


async def connect(database_url: str, *, application: str, limited: bool = True) -> OwnConnection:
    """Open one connection for a loop that keeps it; ``limited``: no statement may take longer than a minute.

    Raises ``StoreUnavailable`` if the server does not answer, ``ConfigurationError`` if it refuses us.
    """
    _check_url(database_url)
    async with translated():
        connection = await _connect(
            database_url,
            command_timeout=COMMAND_TIMEOUT_SECONDS if limited else None,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings=_server_settings(application),
        )
        await _set_up(connection)
    return connection


async def _connect(*url: Any, **options: Any) -> OwnConnection:
    """Connect as the driver does; add the address to a network error, since not every event loop does."""
    (database_url,) = url
    try:
        found: OwnConnection = await asyncpg.connect(database_url, **options)
    except (ConnectionError, FileNotFoundError, gaierror) as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno, f"{reason} ({_place(database_url)})") from error
    return found


def _place(database_url: str) -> str:
    """Return where a URL leads, without user and password."""
    parts = urlsplit(database_url)
    host = parts.netloc.rpartition("@")[2]
    return host or ", ".join(parse_qs(parts.query).get("host", ())) or "the local socket"


def _check_url(database_url: str) -> None:
    """Raise ``ConfigurationError`` for an invalid URL: the driver lets Python's own errors through.

    Their text is not repeated, since what they take for a port may be a part of the password.
    """
    try:
        hosts = urlsplit(database_url).netloc.rpartition("@")[2]
        for host in hosts.split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ConfigurationError(
            "INDEXER_DATABASE_URL: not a URL like postgres://user:password@host:5432/database; an IPv6 address stands "
            "in brackets, a port is a number, and a password's own / @ : are escaped as %2F %40 %3A"
        ) from None


def _server_settings(application: str) -> dict[str, str]:
    return {
        "application_name": application,
        "jit": "off",
        "timezone": "UTC",
        "datestyle": "ISO",  # with UTC, as ``instants`` reads instants that are selected as text
        "idle_in_transaction_session_timeout": f"{ABANDONED_AFTER_SECONDS * 1000:.0f}ms",
        # The server, too, checks whether we are still there; on a Unix socket it ignores this.
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }


def _misconfigured(error: BaseException) -> ConfigurationError:
    return ConfigurationError(f"INDEXER_DATABASE_URL: {describe(error)}")


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn every error of the driver into one of ours, by what a caller needs to know (``indexer.common.errors``)."""
    task = asyncio.current_task()
    requests = 0 if task is None else task.cancelling()
    try:
        yield
    except MISCONFIGURED as error:
        raise _misconfigured(error) from error
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        ours = error_of_ours(error)
        if isinstance(ours, StoreUnavailable) and task is not None and task.cancelling() > requests:
            # The connection was lost, or swallowed the cancellation. The cancelled task must not go on because of that.
            raise asyncio.CancelledError from error
        raise ours from error


def error_of_ours(error: BaseException) -> StoreError:
    """Return our error for an error of the driver."""
    if isinstance(error, (ValueError, *WRONG_VALUES)):
        # A ValueError is an argument that the driver cannot encode.
        return StoreRefused(f"the database does not take it: {describe(error)}")
    if isinstance(error, IN_THE_WAY):
        return StoreBusy(f"another transaction is in the way: {describe(error)}")
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
        return StoreTimedOut(f"the database does not answer: {describe(error)}")
    if isinstance(error, UNAVAILABLE):
        return StoreUnavailable(f"the database does not answer: {describe(error)}")
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return StoreFault(f"the database cannot do it: {describe(error)}; {SAME_ROLE}")
    return StoreFault(f"the database cannot do it: {describe(error)}")


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Take a connection and open a transaction on it."""
    async with (
        translated(),
        pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as connection,
        connection.transaction(),
    ):
        yield connection


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """Take a connection, each statement its own transaction."""
    async with translated(), pool.acquire(timeout=CONNECT_TIMEOUT_SECONDS) as held:
        yield held


def describe(error: BaseException) -> str:
    """Return an error in one line. Some of the driver's have no text, some a detail and a hint on further lines."""
    text = "; ".join(str(error).splitlines())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
