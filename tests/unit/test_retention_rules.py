"""When a part of the log is closed, and which may leave it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from indexer.audit.retention_rules import LARGEST, LogPart, closes, cut_of, leaving

NOW = datetime(2026, 5, 17, tzinfo=UTC)


def part(month: int, first: int, last: int | None = None, **more: object) -> LogPart:
    """A part of a month of 2026, closed with the month."""
    closed = None if last is None else datetime(2026, month + 1, 1, 0, 0, 7, tzinfo=UTC)
    values: dict[str, object] = {"opened_at": datetime(2026, month, 1, tzinfo=UTC), "closed_at": closed}
    return LogPart(first=first, last=last, **(values | more))  # type: ignore[arg-type]  # a test's shorthand


@pytest.mark.parametrize(
    ("month", "head", "expected"),
    [
        (5, 500, False),  # its month goes on
        (4, 500, True),
        (4, 100, False),  # nothing in it
        (5, 100 + LARGEST - 1, False),
        (5, 100 + LARGEST, True),
    ],
)
def test_closes__with_its_month_or_when_large(month: int, head: int, expected: bool) -> None:
    """A part ends with its month, or before it is too large to be closed at once; an empty one stays."""
    assert expected == closes(part(month, 101), head=head, now=NOW)


def test_closes__by_the_month_of_utc() -> None:
    """What the clock shows elsewhere does not matter."""
    tokyo = datetime.fromisoformat("2026-05-01T08:00:00+09:00")  # still April in UTC
    assert not closes(part(4, 1), head=9, now=tokyo)


PARTS = [part(1, 1, 100), part(2, 101, 200), part(3, 201, 300), part(4, 301)]


def firsts(**how: object) -> list[tuple[int, bool]]:
    """Where what leaves begins, and whether it may."""
    asked: dict[str, object] = {"before": None, "cut": None, "waiting": []}
    found = leaving(PARTS, **(asked | how))  # type: ignore[arg-type]  # as above
    return [(one.part.first, one.held_by is None) for one in found]


def test_leaving__by_month_and_by_age() -> None:
    """Whole months before one, or what was closed before an instant; never what is open."""
    assert [(1, True), (101, True)] == firsts(before=date(2026, 3, 1))
    assert [] == firsts(before=date(2026, 1, 1))
    assert [(1, True), (101, True), (201, True)] == firsts(before=date(2027, 1, 1))
    cut = cut_of(timedelta(days=60), NOW)  # 18 March
    assert [(1, True), (101, True)] == firsts(cut=cut)
    assert cut_of(None, NOW) is None
    assert [] == firsts()


def test_leaving__what_a_reader_has_not_read_stays_and_what_follows_it() -> None:
    """The log loses its beginning only, and nothing that is still to be delivered."""
    far = date(2026, 4, 1)
    assert [(1, True), (101, False)] == firsts(before=far, waiting=[("feed a", 150), ("feed b", 900)])
    assert [(1, False)] == firsts(before=far, waiting=[("feed a", 99)])
    assert [(1, True), (101, True), (201, True)] == firsts(before=far, waiting=[("feed a", 300)])
    held = leaving(PARTS, before=far, cut=None, waiting=[("feed a", 5), ("feed b", 50)])
    assert "not yet delivered to: feed a, feed b" == held[0].held_by


def test_leaving__what_has_left_is_passed_over() -> None:
    """A part is let go once."""
    parts = [part(1, 1, 100, dropped_at=NOW), *PARTS[1:]]
    found = leaving(parts, before=date(2026, 3, 1), cut=None, waiting=[])
    assert [101] == [one.part.first for one in found]
