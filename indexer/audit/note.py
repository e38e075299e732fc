"""Signed notes and checkpoints: C2SP's signed-note and tlog-checkpoint, with Ed25519. Pure.

A checkpoint is a note of three lines: the log's origin, its size, its root in base64. Whatever reads
transparency logs reads it (Go's ``sumdb/note`` among others); the key's forms are that package's too.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from indexer.audit.merkle import HASH_BYTES

ED25519 = b"\x01"
_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+\Z")
_PRIVATE = "PRIVATE+KEY+"
_ID_BYTES = 4
_SIGNATURE = "— "


class NoteRefused(ValueError):  # noqa: N818 - a state, read as "note refused"
    """Not a note, not a checkpoint, not a key, or not signed by the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierKey:
    """The public key of a log, and the name that signatures by it carry."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_ID_BYTES]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``name+id+key``; raises ``NoteRefused``."""
        name, _, rest = text.strip().partition("+")
        identity, _, encoded = rest.partition("+")
        key = _decode(encoded)
        if not is_name(name) or key[:1] != ED25519 or len(key) != 1 + HASH_BYTES:
            raise NoteRefused("not an Ed25519 verifier key: it looks like name+01234567+ARp…")
        parsed = cls(name=name, public=key[1:])
        if parsed.id.hex() != identity:
            raise NoteRefused(f"the verifier key of {name} is damaged: its id does not fit")
        return parsed

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(ED25519 + self.public).decode()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerKey:
    """The private key of a log."""

    name: str
    private: Ed25519PrivateKey

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a new key."""
        return cls(name=name, private=Ed25519PrivateKey.generate())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``PRIVATE+KEY+name+id+seed``; raises ``NoteRefused``, and never repeats what it was given."""
        name, _, rest = text.strip().removeprefix(_PRIVATE).partition("+")
        identity, _, encoded = rest.partition("+")
        seed = _decode(encoded)
        if (
            not text.startswith(_PRIVATE)
            or not is_name(name)
            or seed[:1] != ED25519
            or len(seed) != 1 + HASH_BYTES
        ):
            raise NoteRefused("not an Ed25519 signer key: it looks like PRIVATE+KEY+name+01234567+AY…")
        parsed = cls(name=name, private=Ed25519PrivateKey.from_private_bytes(seed[1:]))
        if parsed.verifier.id.hex() != identity:
            raise NoteRefused(f"the signer key of {name} is damaged: its id does not fit")
        return parsed

    @property
    def verifier(self) -> VerifierKey:
        """Its public half."""
        return VerifierKey(
            name=self.name, public=self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        )

    def secret_text(self) -> str:
        """Return the form :meth:`parse` reads."""
        seed = self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        return f"{_PRIVATE}{self.name}+{self.verifier.id.hex()}+{b64encode(ED25519 + seed).decode()}"

    def sign(self, text: str) -> str:
        """Return a text, which ends in a newline, as a signed note."""
        signature = b64encode(self.verifier.id + self.private.sign(text.encode())).decode()
        return f"{text}\n{_SIGNATURE}{self.name} {signature}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log commits to: so many entries, with this root."""

    origin: str
    size: int
    root: bytes

    @classmethod
    def parse(cls, note: str) -> Self:
        """Parse a note's text as a checkpoint; raises ``NoteRefused``. Says nothing about signatures."""
        lines = split_note(note)[0].split("\n")
        if len(lines) < 4 or not lines[0] or not re.fullmatch(r"0|[1-9]\d{0,18}", lines[1]):  # noqa: PLR2004 - three lines, each ended
            raise NoteRefused("not a checkpoint: origin, size and root, a line each")
        root = _decode(lines[2])
        if len(root) != HASH_BYTES:
            raise NoteRefused("not a checkpoint: the root is no SHA-256 hash in base64")
        return cls(origin=lines[0], size=int(lines[1]), root=root)

    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"


def split_note(note: str) -> tuple[str, list[str]]:
    """Return a note's text, with its last newline, and its signature lines; raises ``NoteRefused``."""
    text, separator, signatures = note.rpartition("\n\n")
    lines = signatures.split("\n")
    if not separator or lines.pop() != "" or not lines:
        raise NoteRefused("not a signed note: a text, an empty line, and signature lines")
    if not all(line.startswith(_SIGNATURE) and line.count(" ") == 2 for line in lines):  # noqa: PLR2004 - dash, name, signature
        raise NoteRefused("not a signed note: a signature line is `— name signature`")
    return text + "\n", lines


def verify_note(note: str, key: VerifierKey) -> str:
    """Return the text of a note that the key signed; raises ``NoteRefused``."""
    text, lines = split_note(note)
    for line in lines:
        _, name, encoded = line.split(" ")
        signature = _decode(encoded)
        if name != key.name or signature[:_ID_BYTES] != key.id:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature[_ID_BYTES:], text.encode())
        except InvalidSignature:
            raise NoteRefused(f"the signature by {name} is wrong: the note was altered") from None
        return text
    raise NoteRefused(f"the note is not signed by {key.name}+{key.id.hex()}")


def is_name(text: str) -> bool:
    """Tell whether a text may name a key: no white space, no plus."""
    return _NAME.match(text) is not None


def _decode(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteRefused("not base64") from None
