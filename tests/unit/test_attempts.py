"""How often signing in may fail."""

from __future__ import annotations

from indexer.api.attempts import MOST_KEPT, WINDOW_SECONDS, Attempts, Bounds


def tries(attempts: Attempts, count: int, *, address: str = "a", user: str = "u", now: float = 100.0) -> int:
    """How many of so many attempts may be made."""
    return sum(attempts.begin(address=address, user=user, now=now) for _ in range(count))


def test_bounds__hold_for_each_of_the_three() -> None:
    """By address, by user and together; another address or user is not affected by the first two."""
    bounds = Bounds(address=3, user=4, together=9)
    attempts = Attempts(bounds)
    assert tries(attempts, 5) == 3
    assert tries(attempts, 5, address="b") == 1
    assert tries(attempts, 5, address="c", user="v") == 3
    assert tries(attempts, 5, address="d", user="w") == 2


def test_bounds__end_after_the_window() -> None:
    """A minute later everything may be tried again."""
    attempts = Attempts(Bounds(address=2, user=2, together=2))
    assert tries(attempts, 3) == 2
    assert tries(attempts, 3, now=100.0 + WINDOW_SECONDS - 0.1) == 0
    assert tries(attempts, 3, now=100.0 + WINDOW_SECONDS) == 2


def test_success__takes_the_attempt_back_and_no_other() -> None:
    """Failures before and after it still count."""
    attempts = Attempts(Bounds(address=3, user=9, together=9))
    for now in (1.0, 2.0, 3.0):
        assert attempts.begin(address="a", user="u", now=now)
    attempts.succeeded(address="a", user="u", began=2.0)
    assert tries(attempts, 3, now=4.0) == 1


def test_memory__is_bounded() -> None:
    """Millions of addresses leave no more than a fixed number of records."""
    attempts = Attempts(Bounds(address=1, user=1, together=10**9))
    for number in range(MOST_KEPT):
        attempts.begin(address=str(number), user=str(number), now=100.0)
    assert len(attempts._failed) == MOST_KEPT
