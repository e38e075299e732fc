"""Statements and what goes into them."""

import pytest

from indexer.store.queries import sparse


@pytest.mark.parametrize("values", [[1, None], [0], [False, None], ["", None], [None, None, 0.0], []])
def test_sparse__something(values: list[object]) -> None:
    """An array with any value in it, however empty that is, goes as it is."""
    assert sparse(values) is values or values == []


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_sparse__nothing(count: int) -> None:
    """An array of nothing but nulls is empty: unnest fills it up."""
    assert [] == sparse([None] * count)
