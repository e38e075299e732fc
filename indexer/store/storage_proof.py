"""What must lie in the registry's storage, by what its events announced last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from indexer.oci.digest import Digest, digest_from_bytes
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("storage_proof")

TAGS_SEARCHED: Final = 10_000
"""The newest tags among which those are that an event announced; a reconcile may have found the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """A manifest that an event announced, and when a tag came to point to it."""

    digest: Digest
    at: datetime


async def newest_announced(connection: Connection, *, limit: int) -> list[Announced]:
    """Return the manifests of the newest tags that events announced, the newest first."""
    rows = await connection.fetch(SQL["newest_announced"], TAGS_SEARCHED, limit)
    return [Announced(digest=digest_from_bytes(row["digest"]), at=row["published_at"]) for row in rows]
