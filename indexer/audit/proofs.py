"""Proofs as they travel: of a part of the log against a checkpoint, and of one checkpoint against another. Pure.

A proof of a part is NDJSON. The first line says which entries of how large a log, and holds the hashes of what stands
before and behind them; each line after it holds leaf hashes, in order. With the entries' own leaf hashes in it a
verifier can name the entry that differs, and the whole leads to the checkpoint's root or proves nothing.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from indexer.audit.merkle import HASH_BYTES, Frontier, Range, is_consistent, nodes_of
from indexer.audit.note import Checkpoint
from indexer.audit.tiles import split

LEAVES_PER_LINE = 256


class ProofRefused(ValueError):  # noqa: N818 - a state, read as "proof refused"
    """Not a proof, or not one that leads to the checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRange:
    """Entries by position, from the first to the last, inclusive, of a log of ``size`` entries."""

    first: int
    last: int
    size: int

    @property
    def before(self) -> Range:
        """The leaves in front of it."""
        return (0, self.first - 1)

    @property
    def behind(self) -> Range:
        """The leaves behind it."""
        return (self.last, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartProof:
    """A proof of a part: hashes of complete subtrees before and behind it, its own leaves one behind the other."""

    part: EntryRange
    before: Sequence[bytes]
    behind: Sequence[bytes]
    leaves: bytes
    note: str | None = None

    def leaf(self, position: int) -> bytes:
        """Return the leaf hash of an entry of the part."""
        start = (position - self.part.first) * HASH_BYTES
        return self.leaves[start : start + HASH_BYTES]

    def root(self) -> bytes:
        """Return the root that the proof leads to; raises ``ProofRefused`` where it lacks hashes."""
        tree = Frontier()
        for span, hashes in ((self.part.before, self.before), (self.part.behind, self.behind)):
            nodes = list(nodes_of(*span))
            if len(nodes) != len(hashes):
                raise ProofRefused(f"the proof holds {len(hashes)} hashes of {span} instead of {len(nodes)}")
            for (level, _), digest in zip(nodes, hashes, strict=True):
                tree.add(digest, level)
            if span == self.part.before:
                for leaf in split(self.leaves):
                    tree.add(leaf)
        return tree.root()


def encode_part(
    part: EntryRange, *, before: Sequence[bytes], behind: Sequence[bytes], note: str | None
) -> bytes:
    """Return the first line of a proof of a part."""
    header = {
        "first": part.first,
        "last": part.last,
        "size": part.size,
        "before": [encode_hash(one) for one in before],
        "behind": [encode_hash(one) for one in behind],
        "checkpoint": note,
    }
    return orjson.dumps(header) + b"\n"


def encode_leaves(leaves: bytes) -> bytes:
    """Return the lines of leaf hashes."""
    step = LEAVES_PER_LINE * HASH_BYTES
    parts = (leaves[start : start + step] for start in range(0, len(leaves), step))
    return b"".join(orjson.dumps({"leaves": encode_hash(part)}) + b"\n" for part in parts)


def parse_part(lines: Iterable[bytes]) -> PartProof:
    """Parse a proof of a part; raises ``ProofRefused``. Says nothing about whether it holds."""
    rows = _objects(lines)
    header = next(rows, None)
    if header is None or not all(isinstance(header.get(name), int) for name in ("first", "last", "size")):
        raise ProofRefused("not a proof of a part of a log: its first line says first, last and size")
    part = EntryRange(first=header["first"], last=header["last"], size=header["size"])
    if not 0 < part.first <= part.last <= part.size:
        raise ProofRefused(f"there are no entries {part.first} to {part.last} in a log of {part.size}")
    leaves = bytearray()
    for row in rows:
        leaves += _decode(row.get("leaves"))
    wanted = part.last - part.first + 1
    if len(leaves) != wanted * HASH_BYTES:
        raise ProofRefused(f"the proof holds {len(leaves) // HASH_BYTES} leaf hashes instead of {wanted}")
    note = header.get("checkpoint")
    return PartProof(
        part=part,
        before=_hashes(header.get("before")),
        behind=_hashes(header.get("behind")),
        leaves=bytes(leaves),
        note=note if isinstance(note, str) else None,
    )


def check_part(proof: PartProof, checkpoint: Checkpoint) -> None:
    """Check that a proof leads to a checkpoint's root; raises ``ProofRefused``."""
    if proof.part.size != checkpoint.size:
        raise ProofRefused(
            f"the proof is for a log of {proof.part.size} entries, the checkpoint is of {checkpoint.size}"
        )
    if proof.root() != checkpoint.root:
        raise ProofRefused(
            "the proof does not lead to the checkpoint's root: one of the two is not of this log"
        )


def check_consistency(text: bytes, *, first: Checkpoint, second: Checkpoint) -> None:
    """Check a proof that a log of one checkpoint grew into that of another; raises ``ProofRefused``."""
    if first.origin != second.origin:
        raise ProofRefused(f"the checkpoints are of two logs: {first.origin} and {second.origin}")
    if first.size > second.size:
        raise ProofRefused(f"the earlier checkpoint is of {first.size} entries, the later of {second.size}")
    proof = next(_objects([text]), None) or {}
    if (proof.get("first"), proof.get("second")) != (first.size, second.size):
        raise ProofRefused(f"not a proof that a log of {first.size} entries grew to {second.size}")
    path = _hashes(proof.get("hashes"))
    if not is_consistent(
        first=first.size, second=second.size, first_root=first.root, second_root=second.root, path=path
    ):
        raise ProofRefused(
            f"the log of {second.size} entries does not begin with the one of {first.size} that was signed before"
        )


def encode_consistency(*, first: int, second: int, path: Sequence[bytes]) -> bytes:
    """Return a proof that a log of ``first`` entries grew into one of ``second``."""
    return orjson.dumps(show_consistency(first=first, second=second, path=path)) + b"\n"


def show_consistency(*, first: int, second: int, path: Sequence[bytes]) -> dict[str, Any]:
    """Return a proof of consistency as it is shown."""
    return {"first": first, "second": second, "hashes": [encode_hash(one) for one in path]}


def encode_hash(digest: bytes) -> str:
    """Return a hash as proofs write it."""
    return b64encode(digest).decode()


def _objects(lines: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, start=1):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ProofRefused(f"line {number} of the proof is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ProofRefused(f"line {number} of the proof is no object")
        yield value


def _hashes(values: object) -> list[bytes]:
    hashes = [_decode(value) for value in values] if isinstance(values, list) else [b""]
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofRefused("the proof's hashes must be a list of SHA-256 hashes in base64")
    return hashes


def _decode(value: object) -> bytes:
    try:
        return b64decode(value if isinstance(value, str) else "-", validate=True)
    except (binascii.Error, ValueError):
        raise ProofRefused("the proof's hashes must be base64") from None
