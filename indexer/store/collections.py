"""What is on record of digests that the registry's own collection of garbage would delete."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from indexer.oci.digest import Digest, digest_from_bytes, digest_to_bytes
from indexer.store.pool import Connection
from indexer.store.queries import load

SQL = load("collections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """A digest that a tag needs: ``manifest`` is what the tag points to."""

    digest: Digest
    repository: str
    tag: str
    manifest: Digest


async def sizes_of(connection: Connection, *, digests: Sequence[Digest]) -> dict[Digest, int]:
    """Return the sizes in bytes of those digests whose size is known."""
    rows = await connection.fetch(SQL["sizes_of"], [digest_to_bytes(each) for each in digests])
    return {digest_from_bytes(row["digest"]): row["size_bytes"] for row in rows}


async def parents_of(
    connection: Connection, *, manifests: Sequence[tuple[str, Digest]]
) -> list[tuple[str, Digest, Digest]]:
    """Return repository, child and index for each of these manifests that is a child of an index on record."""
    rows = await connection.fetch(SQL["parents_of"], *_columns(manifests))
    return [
        (row["repository"], digest_from_bytes(row["digest"]), digest_from_bytes(row["parent"]))
        for row in rows
    ]


async def subjects_of(
    connection: Connection, *, manifests: Sequence[tuple[str, Digest]]
) -> list[tuple[str, Digest, Digest]]:
    """Return repository, referrer and subject for each of these manifests whose subject is on record beside it."""
    rows = await connection.fetch(SQL["subjects_of"], *_columns(manifests))
    return [
        (row["repository"], digest_from_bytes(row["digest"]), digest_from_bytes(row["subject"]))
        for row in rows
    ]


async def tags_that_need(connection: Connection, *, digests: Sequence[Digest]) -> list[Needed]:
    """Return which tags need which of these digests."""
    rows = await connection.fetch(SQL["tags_that_need"], [digest_to_bytes(each) for each in digests])
    return [
        Needed(
            digest=digest_from_bytes(row["digest"]),
            repository=row["repository"],
            tag=row["tag"],
            manifest=digest_from_bytes(row["manifest"]),
        )
        for row in rows
    ]


def _columns(manifests: Sequence[tuple[str, Digest]]) -> tuple[list[str], list[bytes]]:
    return [name for name, _ in manifests], [digest_to_bytes(digest) for _, digest in manifests]
