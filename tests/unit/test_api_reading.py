"""Reading a question: parameters, paths, patterns, cursors."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from indexer.api import pagination
from indexer.api.pagination import CursorKeys, Cursors, ListQuery, key_of, question_of
from indexer.api.parameters import allowed_values, parse_query
from indexer.api.paths import HISTORY, MANIFEST, MANIFESTS, REPOSITORY, TAG, TAGS, read_path, read_paths
from indexer.api.patterns import whole_name_matcher
from indexer.api.sorting import parse_sort
from indexer.api.v1.audit import AuditQuery
from indexer.api.v1.tags import TagsQuery
from indexer.common.errors import CallerError, StoreUnavailable
from indexer.store.listing import repositories
from indexer.store.listing.keyset import Position, orders_of
from indexer.store.listing.tags import COLUMNS
from indexer.store.reading import Readers

DIGEST = "sha256:" + "a" * 64


def test_parse_query__values_of_every_type() -> None:
    """Text becomes numbers, flags, instants, platforms and words; what is not given has its default."""
    query = parse_query(
        TagsQuery,
        MultiDict(
            limit="7",
            broken="false",
            size_min="0",
            published_after="2026-01-01T00:00:00Z",
            platform="Linux/ARM64/v8",
            kind="sbom",
            digest=DIGEST,
        ),
    )
    assert (query.limit, query.broken, query.size_min, query.kind) == (7, False, 0, ("sbom",))
    assert query.published_after == datetime(2026, 1, 1, tzinfo=UTC)
    assert (query.platform, query.sort, query.verified) == (("linux/arm64",), "name", None)


@pytest.mark.parametrize(
    "value", ["", " 1", "1 ", "+1", "-1", "01", "1.0", "1e2", "0x1", "\uff11", "null", "1001", "0"]
)
def test_parse_query__a_limit_is_a_plain_number(value: str) -> None:
    """A limit is digits within its bounds, and nothing that only looks like a number."""
    with pytest.raises(CallerError) as refused:
        parse_query(ListQuery, MultiDict(limit=value))
    assert (refused.value.parameter, refused.value.allowed) == ("limit", "1 to 1000")


def test_parse_query__several_values_are_a_comma_list() -> None:
    """One parameter takes several words; a size has a unit; a day is its first instant; each may have another name."""
    query = parse_query(
        TagsQuery, MultiDict(kind="sbom,image", size_max="2MiB", since="2026-01-02", sort="-size_bytes,name")
    )
    assert (query.kind, query.size_max) == (("sbom", "image"), 2 * 1024**2)
    assert query.published_after == datetime(2026, 1, 2, tzinfo=UTC)
    assert parse_sort(query.sort, COLUMNS) == [("size", True), ("name", False)]
    assert parse_sort("-size,name", repositories.COLUMNS) == [("size_bytes", True), ("name", False)]


@pytest.mark.parametrize(
    "value", ["1MB", "1 MiB", "1mib", "1.5GiB", "-1", "01", "", "1e3", str(2**63), "9999999999GiB"]
)
def test_parse_query__a_size_is_bytes_or_has_a_unit_of_1024(value: str) -> None:
    """A size is a plain number of bytes or has one of three units; it never silently becomes another."""
    with pytest.raises(CallerError) as refused:
        parse_query(TagsQuery, MultiDict(size_min=value))
    assert (refused.value.parameter, "MiB" in (refused.value.allowed or "")) == ("size_min", True)


def test_parse_query__a_parameter_by_two_of_its_names_is_given_twice() -> None:
    """Two names of one parameter are one parameter: which of the values counts is not guessed."""
    with pytest.raises(CallerError) as refused:
        parse_query(AuditQuery, MultiDict(after_time="2026-01-01", occurred_after="2026-01-02"))
    assert (refused.value.code, refused.value.parameter) == ("repeated_parameter", "occurred_after")


def test_parse_query__a_wrong_value_is_refused_by_the_name_that_was_given() -> None:
    """Whoever writes since reads of since, and not of the name he does not know."""
    with pytest.raises(CallerError) as refused:
        parse_query(AuditQuery, MultiDict(since="soon"))
    assert refused.value.parameter == "since"


@pytest.mark.parametrize("value", ["1", "yes", "True", "TRUE", "on", ""])
def test_parse_query__a_flag_is_true_or_false(value: str) -> None:
    """A flag is the word true or false."""
    with pytest.raises(CallerError) as refused:
        parse_query(TagsQuery, MultiDict(broken=value))
    assert refused.value.allowed == "true, false"


def test_allowed_values__are_said_for_every_parameter() -> None:
    """Every parameter of tags and audit says in words what it accepts, but for the opaque cursors."""
    for model in (TagsQuery, AuditQuery):
        for name in model.model_fields:
            assert name in ("after", "before") or allowed_values(model, name), name


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a", (REPOSITORY, {"repository": "a"})),
        ("team/app", (REPOSITORY, {"repository": "team/app"})),
        ("team/app/tags", (TAGS, {"repository": "team/app"})),
        ("team/app/tags/v1", (TAG, {"repository": "team/app", "tag": "v1"})),
        ("team/app/tags/v1/history", (HISTORY, {"repository": "team/app", "tag": "v1"})),
        ("team/app/manifests", (MANIFESTS, {"repository": "team/app"})),
        (f"team/app/manifests/{DIGEST}", (MANIFEST, {"repository": "team/app", "digest": DIGEST})),
        (f"a/manifests/{DIGEST.replace(':', '%3A')}", (MANIFEST, {"repository": "a", "digest": DIGEST})),
        ("team%2Fapp/tags", (TAGS, {"repository": "team/app"})),
        ("tags", (REPOSITORY, {"repository": "tags"})),
        ("tags/tags", (TAGS, {"repository": "tags"})),
        ("tags/tags/tags", (TAG, {"repository": "tags", "tag": "tags"})),
        ("a%2Ftags", (REPOSITORY, {"repository": "a/tags"})),
        ("a%2Ftags/tags", (TAGS, {"repository": "a/tags"})),
        ("a%2Ftags%2Fb", (REPOSITORY, {"repository": "a/tags/b"})),
        ("a/tags/history", (TAG, {"repository": "a", "tag": "history"})),
        ("a/tags/tags/history", (HISTORY, {"repository": "a", "tag": "tags"})),
        ("a/manifests/b", (REPOSITORY, {"repository": "a/manifests/b"})),
        ("a/tags/history/history", (HISTORY, {"repository": "a", "tag": "history"})),
    ],
)
def test_read_path__from_the_right(raw: str, expected: tuple[str, dict[str, str]]) -> None:
    """A path is read from the right; only unescaped slashes divide."""
    assert expected == read_path(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("team/app", [(REPOSITORY, "team/app")]),
        ("x/tags", [(TAGS, "x"), (REPOSITORY, "x/tags")]),
        ("x%2Ftags", [(REPOSITORY, "x/tags")]),
        ("x/manifests", [(MANIFESTS, "x"), (REPOSITORY, "x/manifests")]),
        ("x/tags/tags", [(TAG, "x"), (TAGS, "x/tags"), (REPOSITORY, "x/tags/tags")]),
        ("x/tags/tags/history", [(HISTORY, "x"), (TAG, "x/tags"), (REPOSITORY, "x/tags/tags/history")]),
        (f"x/manifests/{DIGEST}", [(MANIFEST, "x")]),
        ("x/tags/V1", [(TAG, "x")]),
    ],
)
def test_read_paths__all_that_a_path_may_mean(raw: str, expected: list[tuple[str, str]]) -> None:
    """The shortest name of a repository comes first; a longer one is there where it can be one."""
    assert expected == [(path, parameters["repository"]) for path, parameters in read_paths(raw)]


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "A",
        "a b",
        "%00",
        "%ff",
        "a/tags/",
        "a/tags/a%2Fb",
        "a/manifests/x:y",
        "é",
    ],
)
def test_read_path__refuses_names_that_nothing_can_have(raw: str) -> None:
    """What no registry could hold is a plain 400."""
    with pytest.raises(CallerError) as refused:
        read_path(raw)
    assert (refused.value.status, refused.value.code) == (400, "invalid_name")


PARTS = st.sampled_from(["a", "tags", "manifests", "history", DIGEST, "%2F", "%2f", "/", "v1", "_", "A", "."])


@given(
    st.text(max_size=60)
    | st.lists(PARTS, max_size=9).map("/".join)
    | st.lists(PARTS, max_size=9).map("".join)
)
def test_read_path__what_is_read_is_read_again(raw: str) -> None:
    """Any text is refused, or names what it still names when its parts are escaped."""
    try:
        route, values = read_path(raw)
    except CallerError:
        return
    written = route.format(**{name: quote(value, safe="") for name, value in values.items()})
    assert (route, values) == read_path(written.removeprefix("/repositories/"))


def test_whole_name_matcher__matches_whole_names_in_linear_time() -> None:
    """The whole name must match, and what makes other engines exponential does not make this one slow."""
    assert whole_name_matcher("name_regex", "v1|v2")("v1")
    assert not whole_name_matcher("name_regex", "v1|v2")("v10")
    assert not whole_name_matcher("name_regex", "^v1$")("xv1")
    assert not whole_name_matcher("name_regex", "(a+)+b")("a" * 128)


CURSORS = Cursors(key=key_of(b"a secret of the tests"), question=lambda: b"a question")

SORTS = [
    "name",
    "-published_at",
    "created_at",
    "-size,name",
    "semver,-last_pulled_at",
    "first_seen_at,created_at",
]


def values_for(sort: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """Sort values that a row could have."""
    by_type: dict[str, st.SearchStrategy[Any]] = {
        "text": st.text("abcXYZ019._-", min_size=1, max_size=20),
        "bigint": st.integers(0, 2**63 - 1),
        "bytea": st.binary(min_size=1, max_size=40),
        "timestamptz": st.datetimes(timezones=st.just(UTC)),
    }
    orders = orders_of(COLUMNS, parse_sort(sort, COLUMNS), ties=["name"])
    return st.tuples(
        *(
            st.none() | by_type[order.column.type] if order.column.absent else by_type[order.column.type]
            for order in orders
        )
    )


@given(st.sampled_from(SORTS).flatmap(lambda sort: st.tuples(st.just(sort), values_for(sort), st.booleans())))
def test_cursor__is_read_back(given_: tuple[str, tuple[Any, ...], bool]) -> None:
    """A cursor leads to the place it was made for, whatever the values, and only under its own sort and list."""
    sort, values, inclusive = given_
    orders = orders_of(COLUMNS, parse_sort(sort, COLUMNS), ties=["name"])
    position = Position(values, inclusive=inclusive)
    cursor = CURSORS.cursor_of(position, "tags", orders)
    assert cursor == CURSORS.cursor_of(position, "tags", orders)
    assert position == CURSORS.page_of(ListQuery(after=cursor), "tags", orders).position
    assert CURSORS.page_of(ListQuery(before=cursor), "tags", orders).backwards
    for cursors, scope, other in (
        (CURSORS, "audit", orders),
        (CURSORS, "tags", tuple(order.reverse() for order in orders)),
        (Cursors(key=CURSORS.key, question=lambda: b"another"), "tags", orders),
        (Cursors(key=key_of(b"another"), question=CURSORS.question), "tags", orders),
    ):
        with pytest.raises(CallerError):
            cursors.page_of(ListQuery(after=cursor), scope, other)


@given(st.text("abcXYZ019._-", min_size=40, max_size=128))
def test_cursor__tells_nothing_of_its_place(name: str) -> None:
    """What a place is called is not in its cursor, and cannot be put into one."""
    orders = orders_of(COLUMNS, [("name", False)], ties=["name"])
    cursor = CURSORS.cursor_of(Position((name,)), "tags", orders)
    assert cursor is not None
    opened = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    assert name.encode() not in opened
    assert len(opened) % 16 == 0
    changed = bytes([opened[0] ^ 1]) + opened[1:]
    for forged in (changed, b'["tags:name",0,"' + name.encode() + b'"]', b'[0,"' + name.encode() + b'"]'):
        text = base64.urlsafe_b64encode(forged).rstrip(b"=").decode()
        with pytest.raises(CallerError) as refused:
            CURSORS.page_of(ListQuery(after=text), "tags", orders)
        assert refused.value.code == "invalid_cursor"


def test_question__is_its_filters_its_path_and_its_grants() -> None:
    """How much of a list is asked for is no part of it, nor the order of what is asked."""
    asked = question_of([("name", "a"), ("kind", "image")], {}, {"b", "a"})
    same = [("kind", "image"), ("limit", "3"), ("after", "x"), ("name", "a"), ("sort", "name")]
    assert asked == question_of(same, {}, ["a", "b"])
    others: tuple[tuple[list[tuple[str, str]], dict[str, str], set[str] | None], ...] = (
        ([("name", "a")], {}, {"a", "b"}),
        ([("name", "a"), ("kind", "image")], {"repository": "a"}, {"a", "b"}),
        ([("name", "a"), ("kind", "image")], {}, {"a"}),
        ([("name", "a"), ("kind", "image")], {}, None),
        ([("name", "a"), ("kind", "image"), ("kind", "index")], {}, {"a", "b"}),
    )
    assert all(asked != question_of(*other) for other in others)
    assert question_of([], {}, None) != question_of([], {}, set())


class Database:
    """One that holds the secret of cursors, and may be away."""

    def __init__(self) -> None:
        self.secret = b"a" * 64
        self.away = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Database]:
        if self.away:
            raise StoreUnavailable("gone")
        yield self

    async def fetchval(self, _statement: str) -> bytes:
        return self.secret


async def test_cursor_key__is_kept_while_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that were turned before are turned on; a database that was made anew has another key."""
    database = Database()
    keys = CursorKeys(cast("Readers", database))
    database.away = True
    with pytest.raises(StoreUnavailable):
        await keys.get()
    database.away = False
    first = await keys.get()
    database.secret = b"b" * 64
    assert first is await keys.get()
    monkeypatch.setattr(pagination, "KEY_SECONDS", -1.0)
    database.away = True
    assert first is await keys.get()
    database.away = False
    assert first.encrypt(b"x", None) != (await keys.get()).encrypt(b"x", None)


@given(st.text("ABCDEFabcdef0123456789-_", min_size=1, max_size=80))
def test_cursor__garbage_is_refused(text: str) -> None:
    """Text that was never a cursor is a 400 that names the parameter."""
    with pytest.raises(CallerError) as refused:
        CURSORS.page_of(ListQuery(before=text), "tags", orders_of(COLUMNS, [("name", False)], ties=["name"]))
    assert (refused.value.code, refused.value.parameter) == ("invalid_cursor", "before")
