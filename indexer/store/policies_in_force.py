"""The file of policies that is in force, and what every running program read from its own.

In force is what a program that read other bytes than before put there last; the hash says which plans and approvals
count. While programs read different bytes, nothing acts (``differing``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from indexer.inventory.changes import AuditAction
from indexer.policies import plans
from indexer.store.operators import Operator, record_action
from indexer.store.pool import Connection
from indexer.store.queries import load

if TYPE_CHECKING:  # parsing needs pydantic, and most of what imports this parses nothing
    from indexer.policies.rules import Policies

SQL = load("policies_in_force")

LOCK = 0x706F6C69  # "poli"
NOTHING = b""
"""The bytes of a program for which no file is set."""

READING_VALID_FOR = timedelta(seconds=30)
"""A program that has not read its file for so long has ended, or is stopped: it is not asked whether it agrees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInForce:
    """The bytes in force, since when, and their SHA-256 in hex."""

    since: datetime
    sha256: str
    content: bytes

    def policies(self) -> Policies:
        """Return what they say. They were valid when they came into force; an older program may refuse them."""
        return parsed(self.content)

    def as_plans_have_it(self) -> plans.InForce:
        """Return what ``plans.refusal`` asks for."""
        return plans.InForce(policies_sha256=self.sha256, since=self.since, blocked=self.policies().blocked)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a process read last: from which file (None: none is set), the hash, and why it is not in force."""

    process: str
    read_at: datetime
    file: str | None
    sha256: str
    error: str | None


@lru_cache(maxsize=4)
def parsed(content: bytes) -> Policies:
    """Return what a file says; nothing at all where none is set. Raises ``PoliciesRefused``."""
    from indexer.policies.document import read_policies  # noqa: PLC0415
    from indexer.policies.rules import Policies  # noqa: PLC0415

    return read_policies(content) if content else Policies(sha256=sha256_of(content))


def sha256_of(content: bytes) -> str:
    """Return the hash by which bytes of the file are known."""
    return hashlib.sha256(content).hexdigest()


async def in_force(connection: Connection) -> FileInForce | None:
    """Return what is in force; None where no file ever was."""
    row = await connection.fetchrow(SQL["in_force"])
    if row is None:
        return None
    return FileInForce(since=row["since"], sha256=row["sha256"].hex(), content=row["content"])


async def put_in_force(
    connection: Connection,
    *,
    content: bytes,
    at: datetime,
    by: Operator | None,
    unless_read_besides: str | None = None,
) -> bool:
    """Put bytes in force, in the caller's transaction, if others are; tell whether they were.

    ``unless_read_besides``: a process; not where another running one reads what is in force. The caller has found the
    bytes valid.
    """
    await connection.execute(SQL["lock"], LOCK)
    before, sha256 = await in_force(connection), sha256_of(content)
    if sha256 == (sha256_of(NOTHING) if before is None else before.sha256):
        return False
    if unless_read_besides is not None and before is not None:
        found = await readings(connection, now=at)
        if any(each.sha256 == before.sha256 and each.process != unless_read_besides for each in found):
            return False
    await connection.execute(SQL["put_in_force"], at, bytes.fromhex(sha256), content)
    detail = {
        "policies_sha256": sha256,
        "previous_policies_sha256": None if before is None else before.sha256,
        "cleanup": [f"{each.id} ({each.mode})" for each in parsed(content).cleanup],
    }
    await record_action(connection, action=AuditAction.POLICY_CHANGED, operator=by, at=at, detail=detail)
    return True


async def note_reading(
    connection: Connection, *, process: str, at: datetime, file: str | None, sha256: str, error: str | None
) -> None:
    """Record what a process read, and forget those that have ended."""
    await connection.execute(SQL["note_reading"], process, at, file, bytes.fromhex(sha256), error)
    await connection.execute(SQL["forget_ended"], at - 2 * READING_VALID_FOR)


async def forget_reading(connection: Connection, *, process: str) -> None:
    """Forget what a process read, which ends."""
    await connection.execute(SQL["forget_reading"], process)


async def readings(connection: Connection, *, now: datetime) -> list[Reading]:
    """Return what every running program read last."""
    rows = await connection.fetch(SQL["readings"], now - READING_VALID_FOR)
    return [Reading(**{**dict(row), "sha256": row["sha256"].hex()}) for row in rows]


def differing(found: Sequence[Reading], file: FileInForce | None) -> str | None:
    """Return how programs differ in what they read, or from what is in force, in a sentence; None where they agree.

    What they refuse together does not differ: then what was in force stays.
    """
    in_force = sha256_of(NOTHING) if file is None else file.sha256
    read = {each.sha256 for each in found}
    valid = {each.sha256 for each in found if each.error is None}
    if len(read) <= 1 and valid <= {in_force}:
        return None
    if len(read) == 1:
        return (
            f"other policies are in force (sha256 {in_force[:12]}) than "
            f"{', '.join(each.process for each in found)} read (sha256 {found[0].sha256[:12]}); nothing acts until "
            "they agree"
        )
    said = "; ".join(
        f"{each.process} reads {'no file' if each.file is None else each.file} (sha256 {each.sha256[:12]})"
        for each in found
    )
    return f"programs read different policies, and nothing acts until they agree: {said}"
