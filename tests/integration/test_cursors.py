"""Cursors of lists that a token narrows: they lead on, tell nothing that is not granted, and fit no other question."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api import lists
from indexer.api.pagination import Cursors
from indexer.store.listing import audit, changes, history, scopes, tags
from indexer.store.listing.keyset import Position
from tests.fixtures.rows import TagRow, digest, put_repository
from tests.fixtures.tokens import grant, mint
from tests.fixtures.trusting import OPERATOR, Trusting, pull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from indexer.store.listing.keyset import Order

BASE = datetime(2026, 1, 1, tzinfo=UTC)
OURS = ("team/a", "team/b")
WHOLE = {"since": "2020-01-01T00:00:00Z", "until": "2030-01-01T00:00:00Z"}


def token() -> str:
    """A token of these repositories, made when it is used: it lives for minutes."""
    return mint(*(pull(name) for name in OURS), grant("audit", "*", kind="registry"))


LISTS: list[tuple[str, dict[str, str]]] = [
    ("/api/v1/tags", {}),
    ("/api/v1/tags", {"sort": "published_at"}),
    ("/api/v1/tags", {"name": "own"}),
    ("/api/v1/tags", {"sort": "-size"}),
    ("/api/v1/tags", {"sort": "last_pulled_at"}),
    ("/api/v1/tags", {"name": "nothing"}),
    ("/api/v1/tags", {"name_regex": "own.*3"}),
    ("/api/v1/tags", {"broken": "false"}),
    ("/api/v1/tags", {"prefix": "team/", "size_min": "1"}),
    ("/api/v1/history", {}),
    ("/api/v1/history", {"at": "2029-01-01T00:00:00Z"}),
    ("/api/v1/history", {"tag": "own-1"}),
    ("/api/v1/history/moved", {}),
    ("/api/v1/changes", WHOLE),
    ("/api/v1/drift", {}),
    ("/api/v1/repositories", {}),
    ("/api/v1/repositories/team/a/tags", {"name": "own"}),
    ("/api/v1/repositories/team/a/manifests", {}),
]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk ends after three entries, and no list is short enough to be walked in another way."""
    for room in (tags, history, changes, audit):
        monkeypatch.setattr(room, "STEP", 3)
    monkeypatch.setattr(tags, "SEARCHED_TO_THE_END", 0)
    monkeypatch.setattr(scopes, "SPREAD_AT_MOST", 1)


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Everything that cursors were made of."""
    kept: list[object] = []
    sealed = Cursors.cursor_of

    def recorded(self: Cursors, position: Position | None, scope: str, orders: Sequence[Order]) -> str | None:
        if position is not None:
            kept.extend(zip((order.column.name for order in orders), position.values, strict=True))
        return sealed(self, position, scope, orders)

    monkeypatch.setattr(Cursors, "cursor_of", recorded)
    return kept


async def three_repositories(trusting: Trusting) -> int:
    """Two that are granted, and one whose tags lie between, before and after theirs; return its id."""
    hidden = 0
    for shift, (name, prefix) in enumerate(
        (("team/a", "own"), ("hush/z", "hush"), ("team/b", "own"), ("hush/y", "hush"))
    ):
        rows = [
            TagRow(
                name=f"{prefix}-{number}",
                published_at=BASE + timedelta(minutes=4 * number + shift),
                pushed_by=prefix,
            )
            for number in range(8)
        ]
        number = await put_repository(trusting.pool, name, rows)
        hidden = number if name == "hush/z" else hidden
    return hidden


async def walked(trusting: Trusting, path: str, query: dict[str, str], **more: str) -> list[dict[str, Any]]:
    """FeedLease all pages of a list, and back again."""
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    for _ in range(200):
        page = await trusting.json(path, token=token(), **query, **more, **after)
        found += page["items"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    else:
        pytest.fail("a list without an end")
    return found


async def test_cursor__holds_nothing_that_is_not_granted(
    trusting: Trusting, places: list[tuple[str, object]]
) -> None:
    """Every place is one of the token's own entries, however often a walk ends between them; none of them is lost."""
    hidden = await three_repositories(trusting)
    for path, query in LISTS:
        one_by_one = await walked(trusting, path, query, limit="1")
        for name, value in places:
            assert "hush" not in str(value), (path, query)
            assert name != "repository" or value not in (hidden, hidden + 2), (path, query)
        assert "hush" not in str(one_by_one), (path, query)
        assert one_by_one == await walked(trusting, path, query, limit="1000"), (path, query)
        if (path, query) == ("/api/v1/tags", {}):
            assert 16 == len(one_by_one)
    assert len(places) > 100


async def test_cursor__is_good_for_one_question_only(trusting: Trusting) -> None:
    """Another filter, another list, other grants: refused, and so is what somebody made up."""
    await three_repositories(trusting)
    page = await trusting.json("/api/v1/tags", token=token(), limit="1", name="own")
    after = page["next"]
    everything: tuple[tuple[str, str, dict[str, str]], ...] = (
        (token(), "/api/v1/tags", {"name": "ow"}),
        (token(), "/api/v1/tags", {}),
        (token(), "/api/v1/tags", {"name": "own", "sort": "published_at"}),
        (token(), "/api/v1/history", {"name": "own"}),
        (mint(pull("team/a")), "/api/v1/tags", {"name": "own"}),
        (OPERATOR, "/api/v1/tags", {"name": "own"}),
    )
    for asked_with, path, query in everything:
        assert 400 == (await trusting.ask(path, token=asked_with, limit="1", after=after, **query)).status
    assert (
        200 == (await trusting.ask("/api/v1/tags", token=token(), limit="7", name="own", after=after)).status
    )


async def test_cursor__of_an_earlier_version(trusting: Trusting) -> None:
    """Readable cursors are refused with a word of why."""
    old = "WyJldmVyeXdoZXJlOi1wdWJsaXNoZWRfYXQsLXJlcG9zaXRvcnksLW5hbWUiLDAsMTc5NTkzNDc2NTAwMDAwMCwzLCJodXNoLTEwMDAwIl0"
    response = await trusting.ask("/api/v1/tags", token=token(), after=old)
    body = await response.json(content_type=None)
    assert (400, "invalid_cursor") == (response.status, body["code"])
    assert "earlier version" in body["detail"]


async def test_estimate__tells_nothing_of_others(trusting: Trusting) -> None:
    """What nobody of ours holds counts none, whether others hold it or nobody does; more than the bound is cut."""
    await three_repositories(trusting)
    assert 16 == (await trusting.json("/api/v1/tags", token=token(), count="estimate"))["count"]
    for query in (
        {"digest": digest("manifest of hush-1")},
        {"digest": digest("nobody's")},
        {"pushed_by": "hush"},
        {"pushed_by": "nobody"},
        {"name_regex": "hush.*"},
    ):
        for path in ("/api/v1/tags", "/api/v1/repositories/team/a/tags"):
            assert 0 == (await trusting.json(path, token=token(), count="estimate", **query))["count"]


async def test_estimate__ends_at_its_bound(trusting: Trusting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting for an estimate stops."""
    await three_repositories(trusting)
    monkeypatch.setattr(lists, "COUNTED_AT_MOST", 5)
    for query in ({}, {"name_regex": "own.*"}):
        assert 5 == (await trusting.json("/api/v1/tags", token=token(), count="estimate", **query))["count"]
