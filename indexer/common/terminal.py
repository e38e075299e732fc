"""What commands print for people.

Registries, their clients and whoever holds a token choose names: none of them may move the cursor, set a title or
reverse a line of the terminal of whoever reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable


def printable(line: str) -> str:
    """Return a line with a replacement character for each that is not printable: controls, and those that reorder."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line
    )


def write_lines(lines: Iterable[str]) -> None:
    """Write lines (without their ends) to standard output, each printable and on a line of its own."""
    sys.stdout.writelines(f"{printable(line)}\n" for line in lines)
