"""Sealed cursors, without a list behind them."""

from __future__ import annotations

from indexer.api.pagination import Cursors, ListQuery, key_of
from indexer.store.listing.keyset import Column, Order, Position

SIZE = (Order(Column(name="size", sql="size_bytes", type="bigint")),)


def test_cursor__may_begin_like_one_of_an_earlier_version() -> None:
    """Sealed bytes are any bytes: a cursor that begins as those of earlier versions did is read like every other."""
    cursors = Cursors(key=key_of(b"a secret"), question=lambda: b"")
    cursor = cursors.cursor_of(
        Position((119_562,)), "tags", SIZE
    )  # found by trying: one of 65,536 is like it
    assert cursor is not None
    assert cursor.startswith("WyI")
    page = cursors.page_of(ListQuery(after=cursor), "tags", SIZE)
    assert page.position == Position((119_562,))
