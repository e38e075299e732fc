"""Checkpoints of the audit log, and proofs of inclusion and consistency."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from indexer.api.auth import AUDIT
from indexer.api.lists import counted, items_of
from indexer.api.models import Listed, Shown
from indexer.api.operations import ApiCall, operation
from indexer.api.pagination import ListQuery
from indexer.api.parameters import Query, WholeNumber
from indexer.api.responses import NDJSON, TEXT, Document, Items, Out, Stream
from indexer.audit.proofs import encode_hash, show_consistency
from indexer.audit.prove import part_to_prove, prove_consistency, prove_inclusion, write_part
from indexer.common.errors import CallerError
from indexer.common.rfc3339 import format_time
from indexer.store.checkpoints import newest_checkpoint
from indexer.store.listing.checkpoints import checkpoints
from indexer.store.listing.freshness import freshness
from indexer.store.listing.page_query import fetch_page

SCOPE = "checkpoints"
SIZE = "Number of entries of the log to prove against; not given: that of the newest checkpoint."


class NewestQuery(Query):
    """No parameters."""


class CheckpointsQuery(ListQuery):
    """Checkpoints, newest first."""


class InclusionQuery(Query):
    """An entry, and the log that it must be part of."""

    position: WholeNumber = Field(description="Position of the entry.")
    size: WholeNumber | None = Field(default=None, description=SIZE)


class ConsistencyQuery(Query):
    """Two sizes of the log, as in RFC 9162."""

    first: WholeNumber = Field(description="Number of entries of the earlier log.")
    second: WholeNumber = Field(description="Number of entries of the later log.")


class PartQuery(Query):
    """A part of the log."""

    after_position: WholeNumber = Field(default=0, description="The part begins after this position.")
    until: WholeNumber | None = Field(default=None, description="Up to this position, inclusive.")
    size: WholeNumber | None = Field(default=None, description=SIZE)


class CheckpointShown(Shown):
    """A checkpoint: size and root of the log, signed."""

    size: int = Field(description="Number of entries: positions 1 to this.")
    signed_at: datetime
    key: str = Field(description="The public key that verifies it: `name+id+key`.")
    note: str = Field(description="The signed note (C2SP tlog-checkpoint): origin, size, root, signature.")


class InclusionShown(Shown):
    """Proof that an entry is in the log (RFC 9162 section 2.1.3). Hashes are SHA-256 in base64."""

    position: int
    leaf_index: int = Field(description="`position` - 1.")
    size: int
    leaf_hash: str
    hashes: list[str] = Field(description="From the leaf up.")
    root: str


class ConsistencyShown(Shown):
    """Proof that the log of `second` entries begins with that of `first` (RFC 9162 section 2.1.4)."""

    first: int
    second: int
    hashes: list[str]


@operation("/audit/checkpoint", query=NewestQuery, result=CheckpointShown, media_types=(TEXT,), missing=True)
async def get_checkpoint(call: ApiCall[NewestQuery]) -> Stream:
    """Show the newest checkpoint as a signed note; 404 while none is signed.

    In the form of C2SP's tlog-checkpoint, so programs that monitor transparency logs can read it.
    """
    call.principal.require(AUDIT)
    async with call.readers.reading() as held:
        newest = await newest_checkpoint(held)
    if newest is None:
        raise CallerError("no checkpoint was signed yet", status=404, code="not_found")
    note = newest.note.encode()

    async def write(out: Out) -> None:
        await out(note)

    return Stream(media_type=f"{TEXT}; charset=utf-8", write=write, filename="checkpoint")


@operation("/audit/checkpoints", query=CheckpointsQuery, result=Listed[CheckpointShown], item=CheckpointShown)
async def list_checkpoints(call: ApiCall[CheckpointsQuery]) -> Items:
    """List the checkpoints, the newest first."""
    call.principal.require(AUDIT)
    query = call.query
    async with call.readers.reading() as held:
        fresh = await freshness(held)
        listing = checkpoints()
        found = await fetch_page(held, listing, call.cursors.page_of(query, SCOPE, listing.orders))
        count = await counted(held, call, listing)
    shown = [
        {
            "size": row["size"],
            "signed_at": format_time(row["signed_at"]),
            "key": row["verifier"],
            "note": row["note"],
        }
        for row in found.rows
    ]
    return items_of(call, SCOPE, listing, found, items=shown, freshness=fresh, count=count)


@operation("/audit/proof/inclusion", query=InclusionQuery, result=InclusionShown, missing=True)
async def get_inclusion(call: ApiCall[InclusionQuery]) -> Document:
    """Prove that an entry is in the log; `leaf_hash` is the same as in the export with `proof=true`."""
    call.principal.require(AUDIT)
    query = call.query
    async with call.readers.reading() as held:
        proof = await prove_inclusion(held, position=query.position, size=query.size)
    return Document(
        body={
            "position": query.position,
            "leaf_index": query.position - 1,
            "size": proof.size,
            "leaf_hash": encode_hash(proof.leaf),
            "hashes": [encode_hash(one) for one in proof.path],
            "root": encode_hash(proof.root),
        }
    )


@operation("/audit/proof/consistency", query=ConsistencyQuery, result=ConsistencyShown, missing=True)
async def get_consistency(call: ApiCall[ConsistencyQuery]) -> Document:
    """Prove that a larger log begins with a smaller one, so that nothing in that was changed since."""
    call.principal.require(AUDIT)
    query = call.query
    async with call.readers.reading() as held:
        path = await prove_consistency(held, first=query.first, second=query.second)
    return Document(body=show_consistency(first=query.first, second=query.second, path=path))


@operation("/audit/proof/part", query=PartQuery, result=ConsistencyShown, media_types=(NDJSON,), missing=True)
async def get_part(call: ApiCall[PartQuery]) -> Stream:
    """Prove a part of the log, for `indexer audit verify --proof`, as NDJSON.

    The first line has `first`, `last` and `size`, the hashes of the complete subtrees before and after the part, from
    left to right, and the checkpoint of that size. Every other line has leaf hashes, concatenated. All are in base64.
    The entries themselves may have been dropped.
    """
    call.principal.require(AUDIT)
    query = call.query
    async with call.readers.reading() as held:
        part = await part_to_prove(held, after=query.after_position, until=query.until, size=query.size)

    async def write(out: Out) -> None:
        await write_part(call.readers.reading, part, out)

    return Stream(media_type=NDJSON, write=write, filename=f"audit-{part.first}-{part.last}.proof")
