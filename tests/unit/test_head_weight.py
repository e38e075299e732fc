"""How much of a head is ``Authorization``, in whatever pieces it arrives."""

from __future__ import annotations

import random

import pytest

from indexer.httpserver.head import HeadWeight

LINES = (
    b"GET / HTTP/1.1\r\n",
    b"Host: x\r\n",
    b"Authorization: Bearer abc\r\n",
    b"AUTHORIZATION:x\n",
    b"authorization:\r\n",
    b"Author: a\r\n",
    b"X-Authorization: a\r\n",
    b" authorization: folded\r\n",
    b"X: authorization: y\r\n",
    b"\r\n",
    b"\n",
)


def expected(head: bytes) -> tuple[int, int]:
    """Go through the lines one by one; the last may have no end."""
    lines = head.splitlines(keepends=True)
    of_token = sum(len(line) for line in lines if line.lower().startswith(b"authorization:"))
    return of_token, len(head) - of_token


def weighed(pieces: list[bytes]) -> HeadWeight:
    weight = HeadWeight()
    for piece in pieces:
        weight.add(piece)
    return weight


@pytest.mark.parametrize("seed", range(40))
def test_weight__in_pieces(seed: int) -> None:
    """In any pieces, all is counted once; what an early piece does not tell is at most the field's own name."""
    chance = random.Random(seed)
    head = b"".join(chance.choices(LINES, k=chance.randrange(30))) + chance.choice(
        [b"", b"Authorization: B", b"X"]
    )
    whole = weighed([head])
    assert expected(head) == (whole.authorization, whole.others)
    cuts = sorted(chance.choices(range(len(head) + 1), k=chance.randrange(8)))
    pieces = [head[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(head)], strict=True)]
    parts = weighed(pieces)
    assert parts.total == len(head)
    assert 0 <= whole.authorization - parts.authorization <= len(b"authorization:") * len(pieces)


def test_weight__of_line_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines within a piece are not gone through: 64 Ki line ends took 60 ms, before anybody had asked for a token."""
    counted = 0
    count = HeadWeight._count

    def counting(self: HeadWeight, piece: bytes, begin: int, end: int) -> None:
        nonlocal counted
        counted += 1
        count(self, piece, begin, end)

    monkeypatch.setattr(HeadWeight, "_count", counting)
    weight = weighed([b"\n" * 65536, b"\r\n" * 32768, b"a: b\r\n" * 10_000])
    assert weight.others == 65536 + 65536 + 60_000
    assert counted == 6
