from __future__ import annotations

import pytest

from indexer.common.spreadsheets import safe_cell


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("v1.0.0", "v1.0.0"),
        ("a=b", "a=b"),
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1+1", "'-1+1"),
        ("-", "'-"),
        ("-17", "-17"),
        ("-1.5", "-1.5"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "'=1"),
    ],
)
def test_safe_cell__is_never_a_formula(text: str, expected: str) -> None:
    """What a spreadsheet would run is marked as text; everything else stays as it is."""
    assert expected == safe_cell(text)
