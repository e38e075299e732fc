from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from indexer.api.responses import Shape, accepts_gzip
from indexer.api.tables import columns_of, to_csv
from indexer.api.v1.audit import AuditEntry
from indexer.api.v1.history import HistoryAt
from indexer.api.v1.tags import Tag


def test_columns__follow_the_items_of_a_list() -> None:
    """Each member is a column, of an object each of its own; a member is called as it is shown."""
    named = [name.partition(".")[0] for name in columns_of(Tag)]
    assert list(Tag.model_fields) == list(dict.fromkeys(named))
    assert {"expires.at", "expires.policy", "expires.rule"} <= set(columns_of(Tag))
    assert columns_of(HistoryAt)[:2] == ("digest", "from")
    columns = columns_of(AuditEntry)
    assert {"actor.name", "request.user_agent", "occurred_between", "detail"} <= set(columns)
    assert "actor" not in columns
    assert Shape(item=AuditEntry, fields=("actor", "position")).columns == ["actor.name", "position"]


def test_to_csv__is_read_back_by_any_reader() -> None:
    """Quotes, commas and line ends stay within their cell; nothing is run as a formula."""
    items: list[dict[str, Any]] = [
        {"a": 'x"y', "b": {"c": "1,2"}, "d": True, "e": ["p", "q"], "f": {"k": [1]}},
        {"a": "=1+1", "b": None, "d": None, "e": [], "f": -5},
        {"a": "two\nlines"},
    ]
    text = to_csv(items, ["a", "b.c", "d", "e", "f"]).decode()
    assert text.endswith("\r\n")
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["a", "b.c", "d", "e", "f"],
        ['x"y', "1,2", "true", "p q", '{"k":[1]}'],
        ["'=1+1", "", "", "", "-5"],
        ["two\nlines", "", "", "", ""],
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0", False),
        ("*", True),
        ("*, gzip;q=0", False),
        ("br, identity", False),
        ("xgzip", False),
    ],
)
def test_accepts_gzip__as_the_client_says(header: str, expected: bool) -> None:
    """Named or by the star, and not refused by a weight of 0."""
    assert expected == accepts_gzip(header)
