"""Verification of an export without a database: whatever was done to it is found and named."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.audit.leaf import canonical, commit, leaf_of
from indexer.audit.merkle import consistency_ranges, fold, nodes_of
from indexer.audit.note import Checkpoint
from indexer.audit.proofs import (
    EntryRange,
    PartProof,
    ProofRefused,
    check_consistency,
    encode_hash,
    encode_leaves,
    encode_part,
    parse_part,
)
from indexer.audit.tiles import Tiles, grow
from indexer.audit.verify import NotProvable, VerifyFault, VerifyResult, verify_export
from tests.fixtures.merkle import root_of

SIZE = 300
SALT = bytes.fromhex("0a" * 16)


def entry(position: int) -> dict[str, Any]:
    """An entry as it is exported for a verifier."""
    return {
        "position": position, "id": position + 7, "occurred_at": "2026-01-01T00:00:00.000000Z", "tag": f"v{position}",
        "repository": "team/app", "actor": {"name": "alice"}, "registry": None, "detail": {},
        "request": {"id": None, "address": "192.0.2.1", "host": "reg", "user_agent": None},
        "commitments": {"actor": commit(SALT, "alice"), "client": commit(SALT, "192.0.2.1", "")},
        "salts": {"actor": SALT.hex(), "client": SALT.hex()},
    }  # fmt: skip


ENTRIES = [entry(position) for position in range(1, SIZE + 1)]
LEAVES = [leaf_of(one) for one in ENTRIES]
TILES = Tiles(held=grow(0, {}, LEAVES))
CHECKPOINT = Checkpoint(origin="log", size=SIZE, root=root_of(LEAVES))


def proof_of(first: int, last: int) -> PartProof:
    """A proof that went through its written form."""
    part = EntryRange(first=first, last=last, size=SIZE)
    text = encode_part(
        part,
        before=[TILES.hash_of(node) for node in nodes_of(*part.before)],
        behind=[TILES.hash_of(node) for node in nodes_of(*part.behind)],
        note=None,
    ) + encode_leaves(b"".join(LEAVES[first - 1 : last]))
    return parse_part(text.splitlines())


def line_of(value: Any) -> bytes:
    """What the exporter writes; also of what it could not hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def verified(entries: list[dict[str, Any]], proof: PartProof | None) -> VerifyResult:
    return verify_export([line_of(one) for one in entries], checkpoint=CHECKPOINT, proof=proof)


def test_log__as_it_was_sealed_is_verified() -> None:
    """A whole log verifies, with a proof and without; so do entries of which somebody was erased."""
    assert (SIZE, None) == (verified(ENTRIES, None).verified, verified(ENTRIES, None).problem)
    erased = copy.deepcopy(ENTRIES[:20])
    erased[3] |= {"actor": None, "salts": {"client": SALT.hex()}}
    verdict = verified(erased, proof_of(1, 20))
    assert (20, 1, None) == (verdict.verified, verdict.erased, verdict.problem)


@given(st.data())
def test_part__verifies_against_the_whole(data: st.DataObject) -> None:
    """Any run of entries verifies by its proof, and no other run by the same."""
    first = data.draw(st.integers(1, SIZE))
    last = data.draw(st.integers(first, SIZE))
    proof = proof_of(first, last)
    assert (last - first + 1, None) == (
        verified(ENTRIES[first - 1 : last], proof).verified,
        verified(ENTRIES[first - 1 : last], proof).problem,
    )
    shorter = verified(ENTRIES[first - 1 : last - 1], proof).problem
    assert shorter is not None
    assert (VerifyFault.MISSING, last) == (shorter.fault, shorter.position)


CANONICAL = (
    b'{"commitments":{"actor":"%s","client":"%s"},"detail":{},"id":8,"occurred_at":"2026-01-01T00:00:00.000000Z",'
    b'"position":1,"repository":"team/app","request":{"host":"reg"},"tag":"v1"}'
)


def test_leaf__is_written_as_it_was_when_the_first_log_was_sealed() -> None:
    """Byte for byte: what is personal, null, or added for verifiers is not in it, and salt and values are in order."""
    actor = hashlib.sha256(SALT + b"alice").hexdigest()
    client = hashlib.sha256(SALT + b"192.0.2.1\x00").hexdigest()
    text = CANONICAL % (actor.encode(), client.encode())
    assert text == canonical(entry(1))
    assert hashlib.sha256(b"\x00" + text).digest() == leaf_of(entry(1))


@pytest.mark.parametrize("place", [None, "request", "registry"])
def test_leaf__a_member_that_is_null_is_none(place: str | None) -> None:
    """What later versions add, and old entries lack, leaves old leaves as they are; what has a value does not."""
    before = entry(1) | {"registry": {"instance": "a"}}
    later = copy.deepcopy(before)
    inner = later if place is None else later[place]
    inner["new"] = None
    assert leaf_of(before) == leaf_of(later)
    inner["new"] = ""
    assert leaf_of(before) != leaf_of(later)


def put(value: Any, *names: str) -> Any:
    def change(one: dict[str, Any]) -> None:
        inner = one
        for name in names[:-1]:
            inner = inner[name]
        inner[names[-1]] = value

    return change


ALTERATIONS = {
    "tag": put("v0", "tag"),
    "time": put("2026-01-01T00:00:00.000001Z", "occurred_at"),
    "a member taken out": put(None, "repository"),
    "a member put in": put("x", "new"),
    "host": put("other", "request", "host"),
    "actor": put("bob", "actor", "name"),
    "no actor": put(None, "actor"),
    "address": put("192.0.2.2", "request", "address"),
    "user agent": put("curl", "request", "user_agent"),
    "salt": put("11" * 16, "salts", "actor"),
    "no salt": put({}, "salts"),
    "salt that is none": put(["x"], "salts", "actor"),
    "commitment": put(commit(SALT, "bob"), "commitments", "actor"),
    "no commitments": put({}, "commitments"),
    "actor of another shape": put("alice", "actor"),
    "number too large": put(2**80, "detail"),
    "a name that is a number": put(7, "actor", "name"),
    "more about the actor": put("admin", "actor", "role"),
    "no name": put({}, "actor"),
    "no name, said so": put(None, "actor", "name"),
    "user agent that is empty": put("", "request", "user_agent"),
    "salt in capitals": put(SALT.hex().upper(), "salts", "actor"),
    "salt with a blank": put("0a " + "0a" * 15, "salts", "actor"),
    "one salt more": put(SALT.hex(), "salts", "other"),
    "leaf hash": put(encode_hash(bytes(32)), "leaf_hash"),
    "nested too deeply": put(json.loads("[" * 500 + "]" * 500), "detail"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_entry__altered_is_named(name: str) -> None:
    """Whatever of an entry was changed, personal or not, it is the one that is named."""
    entries = copy.deepcopy(ENTRIES[100:200])
    ALTERATIONS[name](entries[40])
    problem = verified(entries, proof_of(101, 200)).problem
    assert problem is not None
    assert (VerifyFault.ALTERED, 141) == (problem.fault, problem.position)


def test_salt__of_another_length_opens_no_commitment() -> None:
    """A salt that takes the first letter of the name along makes the same hash of another name."""
    entries = copy.deepcopy(ENTRIES[:10])
    put("lice", "actor", "name")(entries[4])
    put(SALT.hex() + "61", "salts", "actor")(entries[4])
    assert commit(SALT + b"a", "lice") == entries[4]["commitments"]["actor"]
    problem = verified(entries, proof_of(1, 10)).problem
    assert problem is not None
    assert (VerifyFault.ALTERED, 5) == (problem.fault, problem.position)


WRITTEN_ANEW = {
    "a member twice": lambda line: b'{"tag":"forged",' + line[1:],
    "a member twice, within": lambda line: line.replace(b'"actor":{', b'"actor":{"name":"mallory",'),
    "spaces": lambda line: line.replace(b":", b": ", 1),
    "a letter as a number": lambda line: line.replace(b"team", rb"\u0074eam"),
    "a carriage return": lambda line: line + b"\r",
    "two lines in one": lambda line: line + line,
}


@pytest.mark.parametrize("name", WRITTEN_ANEW)
def test_line__is_what_the_exporter_writes_or_altered(name: str) -> None:
    """What parses as the sealed entry and reads as another is no entry of the log."""
    lines = [line_of(one) + b"\n" for one in ENTRIES[:10]]
    whole = verify_export(lines, checkpoint=CHECKPOINT, proof=proof_of(1, 10))
    assert (10, None) == (whole.verified, whole.problem)
    lines[3] = WRITTEN_ANEW[name](lines[3].rstrip()) + b"\n"
    problem = verify_export(lines, checkpoint=CHECKPOINT, proof=proof_of(1, 10)).problem
    assert problem is not None
    assert (VerifyFault.ALTERED, 4) == (problem.fault, problem.position)


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_export__that_was_made_without_a_proof_is_not_called_altered(form: str) -> None:
    """It lacks what it would be proven by: neither right nor wrong can be said of it."""
    plain = [
        {name: value for name, value in one.items() if name not in ("commitments", "salts")}
        for one in ENTRIES[:10]
    ]
    lines = [line_of(one) for one in plain] if form == "ndjson" else [b"position,id,action\r\n", b"1,8,x\r\n"]
    with pytest.raises(NotProvable, match="--proof"):
        verify_export(lines, checkpoint=CHECKPOINT, proof=proof_of(1, 10))
    problem = verified([*ENTRIES[:3], plain[3]], proof_of(1, 10)).problem
    assert problem is not None
    assert (VerifyFault.ALTERED, 4) == (problem.fault, problem.position)


def renumbered(entries: list[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    return [{**one, "position": first + number} for number, one in enumerate(entries)]


@pytest.mark.parametrize("hidden", [False, True])
def test_entry__taken_out_is_named(hidden: bool) -> None:
    """An entry that is missing is named, also where those behind it were renumbered."""
    entries = ENTRIES[:50] + ENTRIES[51:]
    problem = verified(renumbered(entries, 1) if hidden else entries, proof_of(1, SIZE)).problem
    assert problem is not None
    assert (VerifyFault.MISSING, 51) == (problem.fault, problem.position)


@pytest.mark.parametrize("hidden", [False, True])
def test_entry__put_in_is_named(hidden: bool) -> None:
    """An entry too many is named, also where those behind it were renumbered."""
    forged = {**entry(51), "tag": "forged"}
    entries = [*ENTRIES[:50], forged, *ENTRIES[50:]]
    problem = verified(renumbered(entries, 1) if hidden else entries, proof_of(1, SIZE)).problem
    assert problem is not None
    # Two entries of one position: the forged one comes first, and is the one that does not fit.
    assert (VerifyFault.INSERTED, 51) == (problem.fault, problem.position)


def test_entry__that_stands_twice_is_named() -> None:
    """An entry of the log in a place that is not its own is one too many."""
    problem = verified([*ENTRIES[:50], ENTRIES[10], *ENTRIES[50:]], proof_of(1, SIZE)).problem
    assert problem is not None
    assert (VerifyFault.INSERTED, 11) == (problem.fault, problem.position)


def test_entry__behind_the_end_is_named() -> None:
    """What was appended behind the proven part is not covered by its proof."""
    problem = verified(ENTRIES[:11], proof_of(1, 10)).problem
    assert problem is not None
    assert (VerifyFault.INSERTED, 11) == (problem.fault, problem.position)


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"position": "1"}', b'{"position": 1, "salts": 3}'])
def test_line__that_is_no_entry_is_named(line: bytes) -> None:
    """Junk in an export is an altered entry, not a crash."""
    problem = verify_export([line], checkpoint=CHECKPOINT, proof=proof_of(1, 1)).problem
    assert problem is not None
    assert (VerifyFault.ALTERED, 1) == (problem.fault, problem.position)


def test_whole_log__altered_without_a_proof_is_found() -> None:
    """Without a proof the root does not fit; the leaf hashes of the export name the entry where they were left."""
    entries = [{**one, "leaf_hash": encode_hash(leaf)} for one, leaf in zip(ENTRIES, LEAVES, strict=True)]
    entries[9] = {**entries[9], "tag": "forged"}
    found = [verified(entries, None).problem]
    entries[9]["leaf_hash"] = encode_hash(leaf_of(entries[9]))
    found.append(verified(entries, None).problem)
    assert [(VerifyFault.ALTERED, 10), (VerifyFault.ALTERED, None)] == [
        (p.fault, p.position) for p in found if p
    ]


def test_proof__of_another_log_proves_nothing() -> None:
    """A proof that does not lead to the checkpoint is refused before any entry is looked at."""
    proof = proof_of(3, 40)
    leaves = proof.leaves[:-1] + bytes([proof.leaves[-1] ^ 1])
    for wrong in (
        PartProof(part=proof.part, before=proof.before, behind=proof.behind, leaves=leaves),
        PartProof(part=proof.part, before=proof.before, behind=proof.behind[::-1], leaves=proof.leaves),
        PartProof(part=proof.part, before=proof.before, behind=proof.behind[1:], leaves=proof.leaves),
        PartProof(
            part=EntryRange(first=3, last=40, size=SIZE - 1), before=proof.before, behind=proof.behind,
            leaves=proof.leaves
        ),
    ):  # fmt: skip
        problem = verified(ENTRIES[2:40], wrong).problem
        assert problem is not None
        assert (VerifyFault.PROOF, None) == (problem.fault, problem.position)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nothing",
        b"[]",
        b'{"first": 1, "last": 0, "size": 3}',
        b'{"first": 1, "last": 1, "size": 1, "before": [], "behind": []}',
        b'{"first": 1, "last": 1, "size": 1, "before": [], "behind": []}\n{"leaves": 3}',
        b'{"first": 1, "last": 1, "size": 1, "before": ["AAAA"], "behind": []}\n{"leaves": "'
        + b"A" * 43
        + b'="}',
    ],
)
def test_proof__that_is_none_is_refused(text: bytes) -> None:
    """What is no proof is said to be none."""
    with pytest.raises(ProofRefused):
        parse_part(text.splitlines())


@pytest.mark.parametrize(("first", "last", "size"), [(0, 2, 3), (2, 1, 3), (2, 4, 3), (-1, 0, 3)])
def test_proof__of_entries_that_a_log_cannot_have_is_refused(first: int, last: int, size: int) -> None:
    """Whatever hashes it holds."""
    header = {"first": first, "last": last, "size": size, "before": [], "behind": []}
    leaves = encode_leaves(bytes(32 * max(last - first + 1, 0)))
    with pytest.raises(ProofRefused, match="there are no entries"):
        parse_part([orjson.dumps(header), *leaves.splitlines()])


def test_proof__of_another_size_that_leads_to_the_root_is_refused() -> None:
    """All that is behind the part, folded to one hash, makes the same root of a log that ends with one entry more."""
    proof = proof_of(1, 256)
    behind = fold(proof.behind)
    shorter = PartProof(
        part=EntryRange(first=1, last=256, size=257), before=[], behind=[behind], leaves=proof.leaves
    )
    assert shorter.root() == CHECKPOINT.root
    problem = verified(ENTRIES[:256], shorter).problem
    assert problem is not None
    assert (VerifyFault.PROOF, None) == (problem.fault, problem.position)


def test_consistency__holds_between_checkpoints_of_one_log() -> None:
    """A log that grew is consistent with what it was; one that was rewritten is not."""
    old = Checkpoint(origin="log", size=77, root=root_of(LEAVES[:77]))
    hashes = [encode_hash(one) for one in TILES.ranges(consistency_ranges(77, SIZE))]
    proof = orjson.dumps({"first": 77, "second": SIZE, "hashes": hashes})
    check_consistency(proof, first=old, second=CHECKPOINT)
    rewritten = Checkpoint(origin="log", size=77, root=root_of(LEAVES[1:78]))
    elsewhere = Checkpoint(origin="another", size=77, root=old.root)
    for first, second in ((rewritten, CHECKPOINT), (elsewhere, CHECKPOINT), (CHECKPOINT, old)):
        with pytest.raises(ProofRefused):
            check_consistency(proof, first=first, second=second)
    for text in (b"{}", orjson.dumps({"first": 76, "second": SIZE, "hashes": hashes})):
        with pytest.raises(ProofRefused, match="not a proof that a log of 77 entries grew to 300"):
            check_consistency(text, first=old, second=CHECKPOINT)
    with pytest.raises(ProofRefused, match="the earlier checkpoint is of 300 entries"):
        check_consistency(proof, first=CHECKPOINT, second=old)


def test_consistency__of_two_checkpoints_of_one_size() -> None:
    """A log that shows two people two roots of one size is found out, and there is nothing to prove of one root."""
    proof = orjson.dumps({"first": SIZE, "second": SIZE, "hashes": []})
    check_consistency(proof, first=CHECKPOINT, second=CHECKPOINT)
    split_view = Checkpoint(origin="log", size=SIZE, root=root_of(reversed(LEAVES)))
    with pytest.raises(ProofRefused, match="does not begin with the one"):
        check_consistency(proof, first=CHECKPOINT, second=split_view)
