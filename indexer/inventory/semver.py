"""A sort key for tags that are versions: byte order of the key is version order (Semantic Versioning 2.0.0, §11).

Container tags are looser than the specification. A leading ``v`` and one to four numbers are a version ("v1.2",
"24.04"); build metadata is written with ``_``, since a tag may not contain ``+``. Anything else is not a version and
has the empty key.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_VERSION = re.compile(
    r"[vV]?(?P<numbers>\d{1,18}(?:\.\d{1,18}){0,3})(?:-(?P<pre>[0-9A-Za-z.-]+))?(?:[+_][0-9A-Za-z._-]*)?\Z",
    re.ASCII,
)
_FULL = re.compile(
    r"v?(?:0|[1-9]\d{0,17})(?:\.(?:0|[1-9]\d{0,17})){2}(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?(?:[+_][0-9A-Za-z._-]+)?\Z",
    re.ASCII,
)
_NUMBERS = 4
_RELEASE = b"\xff"
_MAX_PRERELEASE = 128


def semver_key(tag: str) -> bytes:
    """Return the key of ``tag``, or ``b""`` if it is not a version.

    Shape: four 8-byte numbers, then ``0xff`` for a release, or for a prerelease its identifiers, each ended by
    ``0x00``: numeric ones as ``0x01`` + 8 bytes, others as ``0x02`` + text. So numeric identifiers sort below
    textual ones, a longer list above its own prefix, and every prerelease below the release (§11.3, §11.4).
    """
    match = _VERSION.match(tag)
    if match is None:
        return b""
    numbers = [int(part) for part in match["numbers"].split(".")]
    if len(numbers) == 1 and tag[:1] not in "vV" and len(match["numbers"]) > len("20261231"):
        return b""  # a commit number or a timestamp, not a version
    numbers += [0] * (_NUMBERS - len(numbers))
    key = b"".join(number.to_bytes(8, "big") for number in numbers)
    if match["pre"] is None:
        return key + _RELEASE
    return key + b"".join(_identifier(part) for part in match["pre"][:_MAX_PRERELEASE].split("."))


class Version(NamedTuple):
    """A full version. ``key`` orders as :func:`semver_key` does: build metadata makes no difference (§10)."""

    major: int
    minor: int
    patch: int
    prerelease: bool
    key: bytes


def parse_version(tag: str) -> Version | None:
    """Return the full version that a tag is, a ``v`` before it and ``_`` for ``+`` allowed; else None."""
    if not looks_immutable(tag):
        return None
    key = semver_key(tag)
    numbers = [int.from_bytes(key[at : at + 8], "big") for at in (0, 8, 16)]
    return Version(numbers[0], numbers[1], numbers[2], not key.endswith(_RELEASE), key)


def looks_immutable(tag: str) -> bool:
    """Tell whether ``tag`` is a full version (§2, §9, §10), a ``v`` before it allowed: it is expected never to move.

    ``1.2`` and ``v1`` are not: by custom they follow the newest release.
    """
    return _FULL.match(tag) is not None


def _identifier(part: str) -> bytes:
    if part.isdigit() and len(part) <= 18:  # noqa: PLR2004 - fits eight bytes
        return b"\x01" + int(part).to_bytes(8, "big") + b"\x00"
    return b"\x02" + part.encode("ascii") + b"\x00"
