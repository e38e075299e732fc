"""An export against a checkpoint, without any database: the first entry that is altered, missing or inserted. Pure.

With a proof each entry is compared with its own leaf hash, which the proof leads from to the checkpoint's root: so the
entry that differs is named. Without one only a whole log can be verified, from its first entry to the last that the
checkpoint counts; what differs is named where the export's own ``leaf_hash`` shows it.

A line counts as an entry only if it is byte for byte what the exporter writes for what it says. So nothing can be shown
to a reader that was not compared: no member twice, of which parsers take the last and people the first, and nothing
beside the members that are hashed or committed to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from indexer.audit.leaf import PERSONAL, SALT_BYTES, broken_commitment, leaf_of
from indexer.audit.merkle import Frontier
from indexer.audit.note import Checkpoint
from indexer.audit.proofs import EntryRange, PartProof, ProofRefused, check_part, encode_hash

RENUMBERED = 1000
"""How far entries may have been moved up to be still recognised."""

_SALT = re.compile(f"[0-9a-f]{{{2 * SALT_BYTES}}}")

CSV = b"position,"
"""How an export as CSV begins."""


class NotProvable(ValueError):  # noqa: N818 - a state, read as "not provable"
    """An honest export that lacks what it would be proven by: neither right nor wrong can be said of it."""


class VerifyFault(StrEnum):
    """What is wrong."""

    ALTERED = "altered"
    MISSING = "missing"
    INSERTED = "inserted"
    PROOF = "proof"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProblem:
    """The first thing that is wrong; ``position`` of the entry, None where no entry can be named."""

    fault: VerifyFault
    position: int | None
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult:
    """What verification came to: which entries are as they were signed, or what is wrong with the first that is not.

    ``verified`` entries, of which ``erased`` lack something of who and from where.
    """

    first: int
    last: int
    size: int
    verified: int
    erased: int
    problem: VerifyProblem | None


def verify_export(
    lines: Iterable[bytes], *, checkpoint: Checkpoint, proof: PartProof | None = None
) -> VerifyResult:
    """Verify the lines of an export; the checkpoint's signature is the caller's to check.

    Raises ``NotProvable`` where the export was made without what a proof needs.
    """
    if proof is not None:
        try:
            check_part(proof, checkpoint)
        except ProofRefused as error:
            problem = VerifyProblem(fault=VerifyFault.PROOF, position=None, what=str(error))
            return _verdict(proof.part, None, problem)
    part = (
        proof.part if proof is not None else EntryRange(first=1, last=checkpoint.size, size=checkpoint.size)
    )
    reading = _Reading(part=part, root=checkpoint.root, proof=proof)
    return _verdict(part, reading, reading.read(lines))


@dataclass(slots=True, kw_only=True)
class _Reading:
    """How far the reading has come."""

    part: EntryRange
    root: bytes
    proof: PartProof | None
    tree: Frontier = field(default_factory=Frontier)
    verified: int = 0
    erased: int = 0

    def read(self, lines: Iterable[bytes]) -> VerifyProblem | None:
        entries = _entries(lines, self.part)
        for found in entries:
            if isinstance(found, VerifyProblem):
                return found
            problem = _place(found, self._wanted, self.part) or self._content(found, entries)
            if problem is not None:
                return problem
        return self._end()

    @property
    def _wanted(self) -> int:
        return self.part.first + self.verified

    def _content(
        self, entry: Mapping[str, Any], following: Iterator[dict[str, Any] | VerifyProblem]
    ) -> VerifyProblem | None:
        wanted, leaf = self._wanted, _leaf(entry)
        if leaf is None:
            return _altered(wanted, "it cannot be written in the form that is hashed")
        if self.proof is not None and leaf != self.proof.leaf(wanted):
            return _what_differs(entry, wanted, next(following, None), self.proof)
        if entry.get("leaf_hash") not in (None, encode_hash(leaf)):
            return _altered(wanted, "it does not have the leaf hash that the export gives it")
        subject = broken_commitment(entry)
        if subject is not None:
            return _altered(wanted, f"its {subject} is not the one it was sealed with")
        self.tree.add(leaf)
        self.verified += 1
        self.erased += len(entry.get("commitments") or {}) != len(entry.get("salts") or {})
        return None

    def _end(self) -> VerifyProblem | None:
        if self._wanted <= self.part.last:
            what = f"the export ends before entry {self._wanted} of {self.part.last}"
            return VerifyProblem(fault=VerifyFault.MISSING, position=self._wanted, what=what)
        if self.proof is None and self.tree.root() != self.root:
            what = "the entries do not lead to the checkpoint's root; which one differs only a proof can tell"
            return VerifyProblem(fault=VerifyFault.ALTERED, position=None, what=what)
        return None


def _verdict(part: EntryRange, reading: _Reading | None, problem: VerifyProblem | None) -> VerifyResult:
    return VerifyResult(
        first=part.first,
        last=part.last,
        size=part.size,
        verified=0 if reading is None else reading.verified,
        erased=0 if reading is None else reading.erased,
        problem=problem,
    )


def _entries(lines: Iterable[bytes], part: EntryRange) -> Iterator[dict[str, Any] | VerifyProblem]:
    for number, line in enumerate(lines, start=1):
        position = part.first + number - 1
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            entry = None
        if number == 1:
            _refuse_unprovable(line, entry)
        if not isinstance(entry, dict) or not isinstance(entry.get("position"), int) or _misshapen(entry):
            yield _altered(position, f"line {number} of the export is no entry")
            return
        if line.removesuffix(b"\n") != _as_exported(entry):
            what = (
                f"line {number} is not as the export writes it: a member stands twice, or it was written anew"
            )
            yield _altered(position, what)
            return
        if (beside := _not_compared(entry)) is not None:
            yield _altered(position, f"its {beside} is not as the export writes it")
            return
        yield entry


def _refuse_unprovable(line: bytes, entry: object) -> None:
    """Raise ``NotProvable`` where the first line says that this export was never meant to be proven."""
    if line.startswith(CSV):
        raise NotProvable("this export is CSV, and only NDJSON can be proven: export it again with --proof")
    if not isinstance(entry, dict) or not isinstance(entry.get("position"), int):
        return
    if not entry.keys() & {"commitments", "salts"}:
        raise NotProvable(
            "this export was made without --proof and cannot be proven: it lacks the commitments and salts of its "
            "entries. That says nothing against it"
        )


def _misshapen(entry: Mapping[str, Any]) -> bool:
    """Tell whether a member that must be an object is something else."""
    objects = ("actor", "request", "registry", "commitments", "salts")
    return any(not isinstance(entry.get(name), dict | None) for name in objects)


def _as_exported(entry: Mapping[str, Any]) -> bytes | None:
    """Return the line that the exporter writes for an entry; None: none, it never had such an entry."""
    try:
        return orjson.dumps(entry)
    except TypeError:  # nested too deeply
        return None


def _not_compared(entry: Mapping[str, Any]) -> str | None:
    """Return what of an entry could differ without its leaf or its commitments showing it; None: nothing.

    The leaf leaves out who and from where, and the salts: of these each has one form only.
    """
    actor = entry.get("actor")
    if actor is not None and not (actor.keys() == {"name"} and isinstance(actor["name"], str)):
        return "actor"
    request = entry.get("request") or {}
    texts = [request[name] for name in PERSONAL if request.get(name) is not None]
    if not all(
        isinstance(text, str) and text for text in texts
    ):  # one that is not known is null, never empty
        return "client"
    # Of another length a salt could end with what the value begins with: the hash would be the same.
    if not all(_is_salt(salt) for salt in (entry.get("salts") or {}).values()):
        return "salts"
    if not (entry.get("salts") or {}).keys() <= (entry.get("commitments") or {}).keys():
        return "salts"
    return None


def _is_salt(text: object) -> bool:
    return isinstance(text, str) and _SALT.fullmatch(text) is not None


def _place(entry: Mapping[str, Any], wanted: int, part: EntryRange) -> VerifyProblem | None:
    position = entry["position"]
    if wanted > part.last:
        return VerifyProblem(
            fault=VerifyFault.INSERTED,
            position=position,
            what=f"the proven part ends with entry {part.last}, the export goes on with {position}",
        )
    if position > wanted:
        return VerifyProblem(
            fault=VerifyFault.MISSING,
            position=wanted,
            what=f"entry {wanted} is missing: {position} is in its place",
        )
    if position < wanted:
        return VerifyProblem(
            fault=VerifyFault.INSERTED, position=position, what=f"entry {position} stands where {wanted} must"
        )
    return None


def _what_differs(
    entry: Mapping[str, Any],
    position: int,
    following: Mapping[str, Any] | VerifyProblem | None,
    proof: PartProof,
) -> VerifyProblem:
    """Say what became of an entry; others may have been renumbered to hide that one was taken out or put in."""
    following = following if isinstance(following, dict) else {}
    for moved in range(position + 1, min(position + RENUMBERED, proof.part.last) + 1):
        if _leaf({**entry, "position": moved}) == proof.leaf(moved):
            return VerifyProblem(
                fault=VerifyFault.MISSING,
                position=position,
                what=f"entry {position} is missing: entry {moved} was renumbered into its place",
            )
    if _leaf({**following, "position": position}) == proof.leaf(position):
        return VerifyProblem(
            fault=VerifyFault.INSERTED,
            position=position,
            what=f"entry {position} was inserted: the one it pushed aside follows as {following['position']}",
        )
    return _altered(position, "it is not the entry that was sealed")


def _leaf(entry: Mapping[str, Any]) -> bytes | None:
    try:
        return leaf_of(entry)
    except TypeError:  # nested too deeply: nothing that was ever sealed
        return None


def _altered(position: int, what: str) -> VerifyProblem:
    return VerifyProblem(
        fault=VerifyFault.ALTERED, position=position, what=f"entry {position} was altered: {what}"
    )
