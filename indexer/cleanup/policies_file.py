"""``INDEXER_POLICIES_FILE``: read when a program or verb starts, and again every few seconds.

Bytes that are valid and new to this program come into force. A program that finds others in force than it reads puts
its own there only where no other running program reads those: two programs with different files do not overwrite each
other for ever, and ``policies_in_force.differing`` says that they differ.

A file that cannot be read or is wrong changes nothing: what was in force stays, and the reading says what is wrong.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from indexer.background.loop import IterationResult
from indexer.common.errors import ConfigurationError, StoreError
from indexer.policies.problems import PoliciesRefused
from indexer.policies.rules import Policies
from indexer.policies.yaml_tree import MAX_BYTES
from indexer.store import policies_in_force
from indexer.store.operators import Operator
from indexer.store.policies_in_force import NOTHING, sha256_of
from indexer.store.pool import Connection, Pool, transaction

log = structlog.get_logger()

REST_SECONDS = 4.0
"""A change is in force within 10 seconds, with one reading that fails in between."""

FAREWELL_SECONDS = 2.0

VARIABLE = "INDEXER_POLICIES_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What a file holds, and what is wrong with it. ``content`` None: it cannot be read."""

    file: str | None
    content: bytes | None
    error: str | None = None

    @property
    def sha256(self) -> str:
        """The hash of the bytes, right or wrong; of the error where there are none."""
        return sha256_of(self.content if self.content is not None else (self.error or "").encode())


def read_file(path: Path | None) -> FileContent:
    """Return what the file says; no file: nothing, which is right."""
    if path is None:
        return FileContent(file=None, content=NOTHING)
    try:
        with path.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as error:
        return FileContent(
            file=str(path), content=None, error=f"{VARIABLE}: {path} cannot be read: {error.strerror}"
        )
    if not content:
        return FileContent(
            file=str(path),
            content=content,
            error=f"{path}:1: the file is empty: write version: 1 into the first line, or unset {VARIABLE}",
        )
    try:
        policies_in_force.parsed(content)
    except PoliciesRefused as refused:
        named = PoliciesRefused(refused.problems, name=str(path))
        return FileContent(file=str(path), content=content, error=str(named))
    return FileContent(file=str(path), content=content)


class PoliciesLoop:
    """The loop of a program that reads the file, and puts what is new there in force."""

    name = "policies"

    def __init__(self, pool: Pool, path: Path | None, *, process: str) -> None:
        self._pool = pool
        self._path = path
        self._process = process
        self._last: FileContent | None = None
        self._settled = False
        """What it reads was in force once. Without a file it leaves alone what others put in force after that."""

    async def run_once(self) -> IterationResult:
        """Read the file once."""
        found, now = read_file(self._path), datetime.now(UTC)
        changed = self._last is not None and found.sha256 != self._last.sha256
        if found.error is not None and (self._last is None or self._last.error != found.error):
            log.error("policies_refused", file=found.file, error=found.error)
        async with transaction(self._pool) as held:
            put = False
            if (
                found.error is None
                and found.content is not None
                and not (self._path is None and self._settled)
            ):
                put = await policies_in_force.put_in_force(
                    held,
                    content=found.content,
                    at=now,
                    by=None,
                    unless_read_besides=None if changed else self._process,
                )
            in_force = await policies_in_force.in_force(held)
            self._settled |= found.sha256 == (sha256_of(NOTHING) if in_force is None else in_force.sha256)
            await policies_in_force.note_reading(
                held,
                process=self._process,
                at=now,
                file=found.file,
                sha256=found.sha256,
                error=found.error,
            )
        if put:
            log.info("policies_in_force", file=found.file, sha256=found.sha256)
        self._last = found
        return IterationResult(items=int(put), rest_seconds=REST_SECONDS)

    async def forget(self) -> None:
        """Take back what was read: the program ends, and is not asked any more whether it agrees."""
        with suppress(StoreError, TimeoutError):  # the database may be away: then it is forgotten by its age
            async with asyncio.timeout(FAREWELL_SECONDS), transaction(self._pool) as held:
                await policies_in_force.forget_reading(held, process=self._process)


async def policies_to_explain(connection: Connection, path: Path | None) -> Policies:
    """Return what a file says, or, without one, what is in force; raise ``ConfigurationError`` as a verb does.

    Nothing comes into force.
    """
    if path is not None:
        found = read_file(path)
        if found.error is not None or found.content is None:
            raise ConfigurationError(found.error or f"{path} cannot be read")
        return policies_in_force.parsed(found.content)
    return (await _in_force(connection)).policies()


async def take_in_force(
    connection: Connection, path: Path | None, *, operator: Operator
) -> policies_in_force.FileInForce:
    """Put what a verb's file says in force, and return what is in force then.

    Without a file of its own a verb takes what the running programs have in force. Raises ``ConfigurationError`` for a
    file that is wrong, and where nothing is in force.
    """
    if path is not None:
        found = read_file(path)
        if found.error is not None or found.content is None:
            raise ConfigurationError(found.error or f"{path} cannot be read")
        async with connection.transaction():
            await policies_in_force.put_in_force(
                connection, content=found.content, at=datetime.now(UTC), by=operator
            )
    return await _in_force(connection)


async def _in_force(connection: Connection) -> policies_in_force.FileInForce:
    in_force = await policies_in_force.in_force(connection)
    if in_force is None or not in_force.content:
        raise ConfigurationError(
            f"no policies are in force: set {VARIABLE} to the file of policies (docs/reference/policies.md)"
        )
    return in_force
