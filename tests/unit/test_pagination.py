"""Sealed cursors, without a list behind them."""

from __future__ import annotations

from indexer.api.pagination import Cursors, ListQuery, key_of
from indexer.store.listing.keyset import Column, Order, Position

SIZE = (Order(Column(name="size", sql="size_bytes", type="bigint")),)


def test_cursor__may_begin_like_one_of_an_earlier_version() -> None:
    """Sealed bytes are any bytes: a cursor that begins as those of earlier versions did is read like every other."""
    cursors = Cursors(key=key_of(b"a secret"), question=lambda: b"")
    one_of_65_536 = Position((119_562,))  # found by trying
    cursor = cursors.cursor_of(one_of_65_536, "tags", SIZE)
    assert cursor is not None
    assert cursor.startswith("WyI")
    page = cursors.page_of(ListQuery(after=cursor), "tags", SIZE)
    assert page.position == one_of_65_536
