"""A quantile of what was counted in buckets is never too short, and at most a tenth too long."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.inventory.latency import LAST, bucket_of, quantile


@given(
    st.lists(st.floats(0.01, 1_000_000), min_size=1, max_size=50),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_quantile__exact_to_a_tenth(lengths: list[float], share: float) -> None:
    """Held against the lengths themselves."""
    exact = sorted(lengths)[math.ceil(len(lengths) * share) - 1]
    told = quantile(Counter(map(bucket_of, lengths)), share)
    assert told is not None
    assert exact * 0.9 - 0.001 <= told <= exact * 1.1 + 0.001


@pytest.mark.parametrize(("seconds", "expected"), [(-3.0, 0), (0.0, 0), (0.01, 0), (1e12, LAST)])
def test_bucket__at_the_ends(seconds: float, expected: int) -> None:
    """Clocks that differ and times without end have a bucket too."""
    assert expected == bucket_of(seconds)


def test_quantile__of_nothing() -> None:
    """Where nothing was counted there is none."""
    assert quantile({}, 0.5) is None
