"""Texts that PostgreSQL can store and index, whatever a client wrote."""

from __future__ import annotations

from collections.abc import Mapping

LONGEST = 255
_NUL_WRITTEN = "\\u0000"


def storable(text: str, *, longest: int = LONGEST) -> tuple[str, str]:
    r"""Return a storable form of ``text`` and what was done to it ('' if nothing).

    PostgreSQL refuses NUL, which becomes the six characters ``\u0000``, and lone surrogates, which are replaced. A text
    of more than ``longest`` characters is cut.
    """
    if len(text) <= longest and text.isascii() and "\x00" not in text:
        return text, ""  # nearly always
    clean, done = text, ""
    if "\x00" in clean:
        clean, done = clean.replace("\x00", _NUL_WRITTEN), "NUL escaped"
    if not clean.isascii() and any("\ud800" <= character <= "\udfff" for character in clean):
        clean, done = clean.encode("utf-8", "replace").decode("utf-8"), "lone surrogate replaced"
    if len(clean) > longest:
        clean, done = clean[:longest], f"cut from {len(text)} characters"
    return clean, done


def storable_map(texts: Mapping[str, str]) -> dict[str, str]:
    """Return annotations or labels in a storable form, uncut: a manifest has at most 4 MiB, a config 8."""
    return {_uncut(key): _uncut(value) for key, value in sorted(texts.items())}


def _uncut(text: str) -> str:
    return storable(text, longest=len(text) * len(_NUL_WRITTEN))[0]
