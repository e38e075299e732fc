"""How commands of both programs end. ``indexer audit verify`` has a table of its own."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
"""Failed, incomplete, damaged, or not equal."""
WOULD_CHANGE: Final = 2
"""A plan would change something."""
BRAKE: Final = 3
"""The brake holds something back."""
USAGE: Final = 64
"""A wrong option, argument or setting (EX_USAGE of sysexits.h): starting again does not help."""
INTERRUPTED: Final = 130
"""Ctrl-C."""
