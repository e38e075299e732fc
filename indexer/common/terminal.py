"""What commands print for people.

Registries, their clients and whoever holds a token choose names: none of them may move the cursor, set a title or
reverse a line of the terminal of whoever reads it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def printable(line: str) -> str:
    """Return a line with a replacement character for each that is not printable: controls, and those that reorder."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )


def as_json_text(text: str) -> str:
    """Return JSON with what is not printable escaped: the values are the same, and nothing acts on a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else "".join(f"\\u{unit:04x}" for unit in _utf16(character))
        for character in text
    )


def _utf16(character: str) -> list[int]:
    """Return the one or two units of a character in UTF-16, which is how JSON escapes it."""
    encoded = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(encoded[start : start + 2]) for start in range(0, len(encoded), 2)]


def write_lines(lines: Iterable[str]) -> None:
    """Write lines (without their ends) to standard output, each printable and on a line of its own."""
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)


def write_table(lines: Iterable[str]) -> None:
    """Write a table like :func:`write_lines`. On a terminal its first line, the headings, is bold, but for NO_COLOR."""
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    for place, line in enumerate(lines):
        text = printable(line)
        sys.stdout.write(f"\x1b[1m{text}\x1b[0m\n" if bold and place == 0 else f"{text}\n")
