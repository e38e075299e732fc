"""Text for the cells of a spreadsheet: no cell of a CSV file is run as a formula when somebody opens it."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001 - the wide forms count, too
_NUMBER = frozenset("0123456789.")


def safe_cell(text: str) -> str:
    """Return ``text`` for one cell of a CSV file: what a spreadsheet would run as a formula gets a ``'`` before it.

    A tag, an actor's name or a user agent is chosen by clients; ``=HYPERLINK(…)`` is one of the names they may choose.
    The rule is OWASP's (CSV injection): text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line's end. A
    plain negative number stays a number. Quoting is the CSV writer's.
    """
    if not text.startswith(_FORMULA):
        return text
    if text[0] == "-" and len(text) > 1 and _NUMBER.issuperset(text[1:]):
        return text
    return f"'{text}"
