"""GitLab's contract over HTTP, on a real database."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode

import orjson
import pytest
from yarl import URL

from indexer import __version__
from indexer.ingest.worker import IngestWorker
from indexer.oci.digest import digest_to_bytes
from indexer.store import gitlab as store
from indexer.store import inbox
from indexer.store.inbox import Delivery
from indexer.store.reading import StoreTooSlow
from tests.fixtures.rows import OCI_INDEX, OCI_MANIFEST, TagRow, at, digest, put_repository
from tests.fixtures.tokens import REALM, SERVICE, mint
from tests.fixtures.trusting import OPERATOR, Trusting, pull
from tests.simulators.state import RegistryState

if TYPE_CHECKING:
    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool

APP = "group/project/app"
REPOSITORY = f"/gitlab/v1/repositories/{APP}/"
TAGS = f"{REPOSITORY}tags/list/"
VERSION = "Gitlab-Container-Registry-Version"


async def put_layers(pool: Any, seed: str, *layers: tuple[str, int]) -> None:
    """Give the manifest of ``seed`` layers by name and size."""
    manifest = await pool.fetchval("SELECT id FROM manifest WHERE digest = $1", digest_to_bytes(digest(seed)))
    kind = await pool.fetchval(
        "INSERT INTO media_type (name) VALUES ('application/layer')"
        " ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id"
    )
    for position, (name, size) in enumerate(layers):
        blob = await pool.fetchval(
            "INSERT INTO blob (digest, size_bytes) VALUES ($1, $2)"
            " ON CONFLICT (digest) DO UPDATE SET size_bytes = excluded.size_bytes RETURNING id",
            digest_to_bytes(digest(name)),
            size,
        )
        await pool.execute(
            "INSERT INTO manifest_layer (manifest_id, position, blob_id, media_type_id) VALUES ($1, $2, $3, $4)",
            manifest, position, blob, kind,
        )  # fmt: skip


async def put_child(pool: Any, parent: str, child: str, position: int, platform: str = "") -> None:
    await pool.execute(
        "INSERT INTO manifest_child (manifest_id, position, child_id, platform)"
        " SELECT p.id, $3, c.id, $4 FROM manifest AS p, manifest AS c WHERE p.digest = $1 AND c.digest = $2",
        digest_to_bytes(digest(parent)), digest_to_bytes(digest(child)), position, platform,
    )  # fmt: skip


async def take_in(pool: Pool, lookups: Lookups, events: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    deliveries = [
        Delivery(received_at=now, content_type="", body=orjson.dumps({"events": [e]})) for e in events
    ]
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=deliveries)
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass


# --- the door --------------------------------------------------------------------------------------------


async def test_probe__answers_without_the_database(trusting: Trusting) -> None:
    """Any good token, even one that grants nothing, is told that the API is here; no connection is used (1.3)."""
    response = await trusting.ask("/gitlab/v1/", token=mint())
    assert (response.status, await response.json(), response.content_type) == (200, {}, "application/json")
    assert response.headers[VERSION] == f"{__version__}-registry-indexer"
    assert trusting.pool.get_size() == trusting.pool.get_idle_size()
    assert (
        await trusting.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND query LIKE '%statement_timeout%' AND pid <> pg_backend_pid()"
        )
        == 0
    )


@pytest.mark.parametrize(
    "path", ["/gitlab/v1", TAGS[:-1], f"{TAGS[:-1]}?n=5&last=a%2Bb", "/gitlab/v1/statistics"]
)
async def test_path__without_its_last_slash(trusting: Trusting, path: str) -> None:
    """A path without the final slash is sent to the one with it, query and all, token or not (1.1)."""
    response = await trusting.client.get(path, allow_redirects=False)
    bare, mark, query = path.partition("?")
    assert (response.status, response.headers["Location"]) == (301, f"{bare}/{mark}{query}")
    assert VERSION in response.headers


@pytest.mark.parametrize(
    "path", ["/gitlab/v1/import/a/", "/gitlab/v2/", "/gitlab/v1/repositories/", "/gitlab/x"]
)
async def test_path__that_is_not_there(trusting: Trusting, path: str) -> None:
    """What is not in the contract is a 404 in its words."""
    status, _, _ = await trusting.refusal(path)
    assert status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_method__that_is_not_allowed(trusting: Trusting, method: str) -> None:
    """Nothing is written through this API."""
    for path in ("/gitlab/v1/", REPOSITORY, TAGS):
        assert (await trusting.ask(path, method=method)).status == 405


async def test_patch__is_not_implemented(trusting: Trusting) -> None:
    """A rename is 501 for whoever may, 401 for others; nothing needs to exist (1.8)."""
    below = pull(f"{APP}/*")
    may = {"type": "repository", "name": APP, "actions": ["pull", "push"]}
    status, code, _ = await trusting.refusal(REPOSITORY, may, below, method="PATCH", dry_run="true")
    assert (status, code) == (501, "NOT_IMPLEMENTED")
    assert await trusting.status(REPOSITORY, pull(APP), below, method="PATCH") == 401
    assert (await trusting.ask(TAGS, method="PATCH")).status == 405


async def test_statistics__what_is_behind(trusting: Trusting) -> None:
    """Version with a v, database enabled, and no feature that not every registry has (1.9)."""
    assert await trusting.json("/gitlab/v1/statistics/") == {
        "release": {"ext_features": "", "version": f"v{__version__}-registry-indexer"},
        "database": {"enabled": True},
    }
    statistics = {"type": "registry", "name": "statistics", "actions": ["*"]}
    assert await trusting.status("/gitlab/v1/statistics/", statistics) == 200
    assert await trusting.status("/gitlab/v1/statistics/") == 401


@pytest.mark.parametrize(
    ("path", "query", "scope"),
    [
        (REPOSITORY, {}, f"repository:{APP}:pull"),
        (REPOSITORY, {"size": "self"}, f"repository:{APP}:pull"),
        (REPOSITORY, {"size": "self_with_descendants"}, f"repository:{APP}:pull repository:{APP}/*:pull"),
        (TAGS, {}, f"repository:{APP}:pull"),
        (f"{REPOSITORY}tags/detail/v1/", {}, f"repository:{APP}:pull"),
        (
            f"/gitlab/v1/repository-paths/{APP}/repositories/list/",
            {},
            f"repository:{APP}:pull repository:{APP}/*:pull",
        ),
    ],
)
async def test_access__challenge_and_grants(
    trusting: Trusting, path: str, query: dict[str, str], scope: str
) -> None:
    """Exactly the grants of the contract open a call; without them it is a 401 that says which (1.2)."""
    await put_repository(trusting.pool, APP, [TagRow(name="v1")])
    grants = [pull(part.split(":")[1]) for part in scope.split(" ")]
    assert await trusting.status(path, *grants, **query) == 200
    below = pull(f"{APP}/*")
    for too_little in (
        [],
        [below],
        [pull("group/project/*"), pull("*"), below],
        [pull("group/project"), below],
    ):
        response = await trusting.ask(path, token=mint(*too_little), **query)
        assert response.status == 401
        challenge = f'Bearer realm="{REALM}",service="{SERVICE}",scope="{scope}",error="insufficient_scope"'
        assert response.headers["WWW-Authenticate"] == challenge
        (error,) = (await response.json())["errors"]
        assert (error["code"], error["message"]) == ("UNAUTHORIZED", "authentication required")
        assert [f"{each['Type']}:{each['Name']}:{each['Action']}" for each in error["detail"]] == scope.split(
            " "
        )
    for token, error_code in ((None, ""), ("garbage", ',error="invalid_token"')):
        response = await trusting.ask(path, token=token, **query)
        assert response.status == 401
        challenge = f'Bearer realm="{REALM}",service="{SERVICE}",scope="{scope}"{error_code}'
        assert response.headers["WWW-Authenticate"] == challenge


async def test_access__an_ungranted_repository_is_like_a_missing_one(trusting: Trusting) -> None:
    """Nobody learns from a refusal whether a repository exists."""
    await put_repository(trusting.pool, "group/secret", [TagRow(name="v1")])
    answers = []
    for name in ("group/secret", "group/absent"):
        response = await trusting.ask(f"/gitlab/v1/repositories/{name}/tags/list/", token=mint(pull(APP)))
        answers.append((response.status, (await response.text()).replace(name, "")))
    assert answers[0] == answers[1]


async def test_refusal__when_the_database_is_away(
    trusting: Trusting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure is a 503 or 500 in the contract's form, and says nothing about itself."""

    async def slow(*_: Any, **__: Any) -> None:
        raise StoreTooSlow("no")

    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(store, "find_repository", slow)
    response = await trusting.ask(TAGS)
    assert (response.status, response.headers["Retry-After"], VERSION in response.headers) == (503, "2", True)
    monkeypatch.setattr(store, "find_repository", broken)
    response = await trusting.ask(TAGS)
    assert response.status == 500
    assert "secret" not in await response.text()


# --- repositories ----------------------------------------------------------------------------------------


async def test_repository__with_and_without_size(trusting: Trusting) -> None:
    """Each distinct layer below a tag once, through indexes of indexes; no config, no manifest bytes (1.4)."""
    tags = [
        TagRow(name="a", seed="a", published_at=at(5)),
        TagRow(name="b", seed="b", published_at=at(7)),
        TagRow(name="i", seed="index", media_type=OCI_INDEX, kind="index", config=False),
        TagRow(name="untagged-later", seed="gone"),
        TagRow(name="c1", seed="inner", media_type=OCI_INDEX, kind="index", config=False),
        TagRow(name="c2", seed="leaf"),
    ]
    await put_repository(trusting.pool, APP, tags)
    await put_layers(trusting.pool, "a", ("one", 100), ("two", 20), ("one", 100))
    await put_layers(trusting.pool, "b", ("one", 100), ("three", 3))
    await put_layers(trusting.pool, "gone", ("four", 4000))
    await put_layers(trusting.pool, "leaf", ("five", 50000), ("two", 20))
    await put_child(trusting.pool, "index", "inner", 0)
    await put_child(trusting.pool, "inner", "leaf", 0, "linux/amd64")
    await trusting.pool.execute("DELETE FROM tag WHERE name = ANY ($1)", ["untagged-later", "c1", "c2"])
    plain = {
        "name": "app",
        "path": APP,
        "created_at": "2026-01-01T00:00:00.000Z",
        "last_published_at": "2026-01-01T00:07:00.000Z",
    }
    assert await trusting.json(REPOSITORY) == plain
    sized = plain | {"size_bytes": 50123, "size_precision": "default"}
    assert await trusting.json(REPOSITORY, size="self") == sized
    assert await trusting.json(REPOSITORY, size="self_with_descendants") == sized


async def test_repository__size_with_descendants(trusting: Trusting) -> None:
    """A layer shared below a path counts once; neighbours whose names merely begin alike do not count (1.4)."""
    for name, layers in (
        ("top/a", [("x", 1), ("y", 10)]),
        ("top/a/b", [("x", 1), ("z", 100)]),
        ("top/a-b", [("w", 1000)]),
        ("top/a0", [("v", 10000)]),
        ("top.x/a", [("u", 100000)]),
    ):
        await put_repository(trusting.pool, name, [TagRow(name="v1", seed=name)])
        await put_layers(trusting.pool, name, *layers)

    async def size(path: str, kind: str = "self_with_descendants") -> Any:
        return await trusting.json(f"/gitlab/v1/repositories/{path}/", size=kind)

    assert (await size("top/a"))["size_bytes"] == 111
    assert (await size("top/a", "self"))["size_bytes"] == 11
    assert await size("top") == {
        "name": "top", "path": "top", "created_at": "", "size_bytes": 11111, "size_precision": "default",
    }  # fmt: skip
    assert (await size("top/nothing"))["size_bytes"] == 0
    missing = "/gitlab/v1/repositories/{}/"
    assert await trusting.refusal(missing.format("none/x"), size="self_with_descendants") == (
        404, "NAME_UNKNOWN", {"namespace": "none"},
    )  # fmt: skip
    for query in ({}, {"size": "self"}):
        assert await trusting.refusal(missing.format("top/nothing"), **query) == (
            404, "NAME_UNKNOWN", {"name": "top/nothing"},
        )  # fmt: skip


async def test_repository__without_tags_has_size_zero(trusting: Trusting) -> None:
    """A known repository without tags has size 0 and no publish time (1.4)."""
    await put_repository(trusting.pool, APP, [])
    shown = await trusting.json(REPOSITORY, size="self")
    assert (shown["size_bytes"], "last_published_at" in shown, "updated_at" in shown) == (0, False, False)


async def test_repository__a_wrong_size_is_refused_first(trusting: Trusting) -> None:
    """The question is read before the repository is looked for."""
    status, code, detail = await trusting.refusal(REPOSITORY, size="all")
    assert (status, code) == (400, "INVALID_QUERY_PARAMETER_VALUE")
    assert "self, self_with_descendants" in detail


async def test_repository__estimate_where_counting_takes_too_long(
    trusting: Trusting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the exact size takes too long the maintained sum is shown, as an estimate (1.4, 5)."""
    await put_repository(trusting.pool, APP, [TagRow(name="v1")])
    await trusting.pool.execute("UPDATE repository SET size_bytes = 77")

    async def slow(*_: Any, **__: Any) -> int:
        raise StoreTooSlow("no")

    monkeypatch.setattr(store, "size_of", slow)
    shown = await trusting.json(REPOSITORY, size="self")
    assert (shown["size_bytes"], shown["size_precision"]) == (77, "untagged")


async def test_sub_repositories__page_by_page(trusting: Trusting) -> None:
    """Those with tags that are the path or below it, by path; a full page links on, to an empty one at last (1.7)."""
    names = ["foo", "foo/a", "foo/bar", "foo/bar/b", "foo-bar", "foo/empty", "foz"]
    for name in names:
        rows = [] if name == "foo/empty" else [TagRow(name="v1", seed=name)]
        await put_repository(trusting.pool, name, rows)
    path = "/gitlab/v1/repository-paths/foo/repositories/list/"
    everything = await trusting.json(path)
    assert [each["path"] for each in everything] == ["foo", "foo/a", "foo/bar", "foo/bar/b"]
    assert everything[3] == {"name": "b", "path": "foo/bar/b", "created_at": "2026-01-01T00:00:00.000Z"}
    first = await trusting.ask(path, n="2")
    assert first.headers["Link"] == f'<{path}?last=foo%2Fa&n=2>; rel="next"'
    second = await trusting.ask(path, n="2", last="foo/a")
    assert [each["path"] for each in await second.json()] == ["foo/bar", "foo/bar/b"]
    assert second.headers["Link"] == f'<{path}?last=foo%2Fbar%2Fb&n=2>; rel="next"'
    third = await trusting.ask(path, n="2", last="foo/bar/b")
    assert (await third.json(), "Link" in third.headers) == ([], False)
    below = "/gitlab/v1/repository-paths/foo/{}/repositories/list/"
    assert [each["path"] for each in await trusting.json(below.format("bar"))] == ["foo/bar", "foo/bar/b"]
    assert await trusting.json(below.format("nothing")) == []
    assert await trusting.refusal("/gitlab/v1/repository-paths/no/x/repositories/list/") == (
        404, "NAME_UNKNOWN", {"namespace": "no"},
    )  # fmt: skip
    assert (await trusting.refusal(path, n="0"))[1] == "INVALID_QUERY_PARAMETER_VALUE"
    assert (await trusting.refusal(path, last="-"))[1] == "INVALID_QUERY_PARAMETER_VALUE"


# --- tags ------------------------------------------------------------------------------------------------

LETTERS = [
    TagRow(name=name, seed=name, published_at=at(minutes))
    for name, minutes in (("a", 3), ("b", 1), ("c", 1), ("d", 9), ("e", 1), ("f", 0))
]
ORDERS = {
    "name": "abcdef",
    "-name": "fedcba",
    "published_at": "fbcead",
    "-published_at": "daecbf",
}


def marker_of(name: str, sort: str) -> str:
    if "published_at" not in sort:
        return name
    minutes = next(tag.published_at for tag in LETTERS if tag.name == name)
    text = f"{minutes.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}|{name}"
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("sort", list(ORDERS))
@pytest.mark.parametrize("limit", [1, 2, 4, 5, 6, 7])
async def test_tags__every_page_forwards_and_backwards(trusting: Trusting, sort: str, limit: int) -> None:
    """Pages by name and publish time meet without gap or overlap, both ways, with exactly the right links (1.5)."""
    await put_repository(trusting.pool, APP, LETTERS)
    order = ORDERS[sort]
    for start in range(len(order)):
        expected = order[start : start + limit]
        query = {"n": str(limit), "sort": sort}
        if start:
            query["last"] = marker_of(order[start - 1], sort)
        await check_page(trusting, query, order, expected)
    for end in range(1, len(order)):
        expected = order[max(0, end - limit) : end]
        query = {"n": str(limit), "sort": sort, "before": marker_of(order[end], sort)}
        await check_page(trusting, query, order, expected)


async def check_page(trusting: Trusting, query: dict[str, str], order: str, expected: str) -> None:
    response = await trusting.ask(TAGS, **query)
    assert "".join(tag["name"] for tag in await response.json()) == expected
    kept = {"n": query["n"], "sort": query["sort"]}
    links = []
    if expected[0] != order[0]:
        before = {"before": marker_of(expected[0], query["sort"])}
        links.append(f'<{TAGS}?{urlencode({**before, **kept})}>; rel="previous"')
    if expected[-1] != order[-1]:
        last = {"last": marker_of(expected[-1], query["sort"])}
        links.append(f'<{TAGS}?{urlencode({**last, **kept})}>; rel="next"')
    assert response.headers.get("Link", "") == ", ".join(links)


async def test_tags__links_when_nothing_is_given(trusting: Trusting) -> None:
    """``n`` is in the link even when defaulted, name and sort only when given, referrers never (1.5)."""
    rows = [TagRow(name=f"v{number:03}", seed="one") for number in range(101)]
    await put_repository(trusting.pool, APP, rows)
    response = await trusting.ask(TAGS, referrers="true", referrer_type="a/b", unknown="1")
    assert response.headers["Link"] == f'<{TAGS}?last=v099&n=100>; rel="next"'
    response = await trusting.ask(TAGS, name="v", sort="Name", n="1")
    assert response.headers["Link"] == f'<{TAGS}?last=v000&n=1&name=v&sort=name>; rel="next"'
    response = await trusting.ask(TAGS, n="1000")
    assert "Link" not in response.headers


async def test_tags__filtered_by_name(trusting: Trusting) -> None:
    """A substring, case-sensitive, without wildcards; links look under the same filter (1.5)."""
    names = ["rc_1", "RC_1", "rcx1", "1-rc_1", "a", "z"]
    await put_repository(trusting.pool, APP, [TagRow(name=name, seed="x") for name in names])

    async def found(**query: str) -> list[str]:
        return [tag["name"] for tag in await trusting.json(TAGS, **query)]

    assert await found(name="rc_1") == ["1-rc_1", "rc_1"]
    assert await found(name="") == sorted(names)
    assert await found(name="nothing") == []
    response = await trusting.ask(TAGS, name="rc_1", n="1", last="1-rc_1")
    assert response.headers["Link"] == f'<{TAGS}?before=rc_1&n=1&name=rc_1>; rel="previous"'
    response = await trusting.ask(TAGS, name="rc_1", n="1", last="0")
    assert response.headers["Link"] == f'<{TAGS}?last=1-rc_1&n=1&name=rc_1>; rel="next"'


async def test_tags__one_by_its_exact_name(trusting: Trusting) -> None:
    """``name_exact`` gives that tag or nothing, whatever the page and the sort, without a link (1.5)."""
    await put_repository(trusting.pool, APP, LETTERS)
    response = await trusting.ask(TAGS, name_exact="d", n="1", sort="-published_at", last="a")
    assert ([tag["name"] for tag in await response.json()], "Link" in response.headers) == (["d"], False)
    assert await trusting.json(TAGS, name_exact="D") == []


async def test_tags__a_plain_name_with_publish_order(trusting: Trusting) -> None:
    """A plain name as marker with publish order takes the names beyond it, and then orders them (1.5)."""
    await put_repository(trusting.pool, APP, LETTERS)

    async def found(**query: str) -> str:
        return "".join(tag["name"] for tag in await trusting.json(TAGS, **query))

    assert await found(sort="published_at", last="c") == "fed"
    assert await found(sort="published_at", before="c") == "ba"
    assert await found(sort="-published_at", last="c") == "ab"
    assert await found(sort="published_at", last="Zm9v") == ORDERS["published_at"]


@pytest.mark.parametrize("tag", ["MjAyMi0wNi0wN1QxMg", "a_b-c.d", "0", "_", "x" * 128, "v1.0.0-rc.1"])
async def test_tags__markers_of_odd_names(trusting: Trusting, tag: str) -> None:
    """A tag that looks like base64, or is as long as tags can be, works as a marker in both orders (1.5)."""
    rows = [
        TagRow(name=tag, seed="x", published_at=at(1)),
        TagRow(name="zz", seed="x", published_at=at(2)),
    ]
    await put_repository(trusting.pool, APP, rows)
    for sort in ("name", "published_at"):
        first = await trusting.ask(TAGS, n="1", sort=sort)
        shown = (await first.json())[0]["name"]
        link = first.headers["Link"]
        address = link.partition(">")[0].removeprefix("<")
        assert len(address) <= 500
        query = {name: values[0] for name, values in parse_qs(address.partition("?")[2]).items()}
        second = await trusting.json(TAGS, **query)
        assert {shown, second[0]["name"]} == {tag, "zz"}


async def test_tags__a_path_too_long_for_gitlab(trusting: Trusting) -> None:
    """Where path and marker are too long together, the link leaves the path out and leads to the same page (1.5)."""
    name = "/".join(["a" * 63] * 4)[:255]
    rows = [TagRow(name=letter * 128, seed="x", published_at=at(1)) for letter in "ab"]
    await put_repository(trusting.pool, name, rows)
    path = f"/gitlab/v1/repositories/{name}/tags/list/"
    response = await trusting.ask(path, n="1", sort="-published_at", name="b")
    assert "Link" not in response.headers
    response = await trusting.ask(path, n="1", sort="-published_at")
    address = response.headers["Link"].partition(">")[0].removeprefix("<")
    assert address.startswith("?last=")
    assert len(address) <= 500
    joined = response.url.join(URL(address, encoded=True))
    bearer = {"Authorization": f"bearer {OPERATOR}"}
    following = await trusting.client.get(joined.relative(), headers=bearer)
    assert [tag["name"] for tag in await following.json()] == ["a" * 128]


async def test_tags__unknown_and_empty_repositories(trusting: Trusting) -> None:
    """Unknown is 404, known without tags is an empty list without a link; the question is read first (1.5)."""
    assert await trusting.refusal(TAGS) == (404, "NAME_UNKNOWN", {"name": APP})
    assert (await trusting.refusal(TAGS, n="x"))[:2] == (400, "INVALID_QUERY_PARAMETER_TYPE")
    for odd in ("Upper/case", "a//b", "a%00b", "x" * 256, "a%2F%2Fb"):
        status, code, _ = await trusting.refusal(f"/gitlab/v1/repositories/{odd}/tags/list/")
        assert (status, code) == (404, "NAME_UNKNOWN"), odd
    await put_repository(trusting.pool, APP, [])
    response = await trusting.ask(TAGS)
    assert (response.status, await response.json(), "Link" in response.headers) == (200, [], False)
    assert response.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "query",
    ["last=a%00b", "last=%ff_", "last=a%ED%A0%80", "before=%C3%28a", "name=%00", "referrer_type=%00&referrers=true",
     "name_exact=%F0%9F%98%80", "last=" + quote(base64.b64encode(b"2022-06-07T12:10:12Z|a\x00").decode()),
     "last=" + quote(base64.b64encode(b"0000-00-00T00:00:00Z|a").decode()), "last=" + "a" * 3000, "n=1e2", "sort=%00"],
)  # fmt: skip
async def test_tags__hostile_questions(trusting: Trusting, query: str) -> None:
    """Whatever a question holds, the answer is a 200 or a 400."""
    await put_repository(trusting.pool, APP, LETTERS)
    response = await trusting.client.get(f"{TAGS}?{query}", headers={"Authorization": f"bearer {OPERATOR}"})
    assert response.status in (200, 400), await response.text()


async def test_tags__with_referrers(trusting: Trusting) -> None:
    """Held artifacts whose subject is the tag's manifest, by artifact type, else by config media type (1.5)."""
    rows = [
        TagRow(name="v1", seed="one"),
        TagRow(name="v2", seed="two"),
        TagRow(name="sbom", seed="sbom", artifact_type="application/spdx+json", kind="sbom"),
        TagRow(name="plain", seed="plain"),
        TagRow(name="gone", seed="gone", artifact_type="application/gone"),
    ]
    await put_repository(trusting.pool, APP, rows)
    await trusting.pool.execute(
        "UPDATE manifest SET subject_digest = $1 WHERE digest = ANY ($2)",
        digest_to_bytes(digest("one")),
        [digest_to_bytes(digest(seed)) for seed in ("sbom", "plain", "gone")],
    )
    await trusting.pool.execute(
        "WITH kind AS (INSERT INTO media_type (name) VALUES ('application/config') RETURNING id)"
        " UPDATE manifest SET config_media_type_id = kind.id FROM kind WHERE digest = $1",
        digest_to_bytes(digest("plain")),
    )
    await trusting.pool.execute(
        "UPDATE repository_manifest SET deleted_at = now() FROM manifest AS m"
        " WHERE m.id = manifest_id AND m.digest = $1",
        digest_to_bytes(digest("gone")),
    )

    async def found(**query: str) -> dict[str, list[tuple[str, str]]]:
        return {
            tag["name"]: sorted((each["artifactType"], each["digest"]) for each in tag["referrers"])
            for tag in await trusting.json(TAGS, **query)
            if "referrers" in tag
        }

    sbom, plain = ("application/spdx+json", digest("sbom")), ("application/config", digest("plain"))
    assert await found() == await found(referrers="True") == {}
    assert await found(referrers="true") == {"v1": sorted([sbom, plain])}
    assert await found(referrers="true", referrer_type="x/y,Application/SPDX+json") == {"v1": [sbom]}
    assert await found(referrers="true", referrer_type="application/config") == {"v1": [plain]}
    assert await found(referrers="true", referrer_type="application/gone") == {}


async def test_tags__times_from_the_tag_s_history(trusting: Trusting, pool: Pool, lookups: Lookups) -> None:
    """Created with the tag, updated when it moves, created anew after a deletion; pushed again, nothing (1.5)."""
    now = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    clock = [now]
    state = RegistryState(clock=lambda: clock[0])
    events: list[dict[str, Any]] = []
    state.listeners.append(events.append)

    async def after(minutes: int, content: bytes | None) -> dict[str, str]:
        clock[0] = now + timedelta(minutes=minutes)
        if content is None:
            state.delete_tag(APP, "v1")
        else:
            state.push(APP, content, media_type=OCI_MANIFEST, tag="v1")
        await take_in(pool, lookups, events)
        events.clear()
        shown = await trusting.json(TAGS)
        return (
            {name: value[14:16] for name, value in shown[0].items() if name.endswith("_at")} if shown else {}
        )

    assert await after(1, b"one") == {"created_at": "01", "published_at": "01"}
    assert await after(2, b"one") == {"created_at": "01", "published_at": "01"}
    assert await after(3, b"two") == {"created_at": "01", "updated_at": "03", "published_at": "03"}
    assert await after(4, b"one") == {"created_at": "01", "updated_at": "04", "published_at": "04"}
    assert await after(5, None) == {}
    assert await after(6, b"one") == {"created_at": "06", "published_at": "06"}
    assert await after(7, b"two") == {"created_at": "06", "updated_at": "07", "published_at": "07"}
    shown = await trusting.json(TAGS)
    assert shown[0]["published_at"] == "2026-05-01T12:07:00.123Z"
    repository = await trusting.json(REPOSITORY)
    assert (repository["created_at"], repository["last_published_at"]) == (
        "2026-05-01T12:01:00.123Z", "2026-05-01T12:07:00.123Z",
    )  # fmt: skip


async def test_tags__told_late(trusting: Trusting, pool: Pool, lookups: Lookups) -> None:
    """A push that is told late makes the tag as old as it is."""
    clock = [datetime(2026, 5, 1, tzinfo=UTC)]
    state = RegistryState(clock=lambda: clock[0])
    events: list[dict[str, Any]] = []
    state.listeners.append(events.append)
    for minute, content in ((1, b"one"), (2, b"two"), (3, b"three")):
        clock[0] = datetime(2026, 5, 1, 0, minute, tzinfo=UTC)
        state.push(APP, content, media_type=OCI_MANIFEST, tag="v1")
    for event in (events[2], events[0], events[1]):
        await take_in(pool, lookups, [event])
    (shown,) = await trusting.json(TAGS)
    assert (shown["created_at"], shown["updated_at"]) == (
        "2026-05-01T00:01:00.000Z",
        "2026-05-01T00:03:00.000Z",
    )


async def test_tag__in_detail(trusting: Trusting) -> None:
    """An index with its images and their platforms; unknown tags and repositories, names no tag can have (1.6)."""
    rows = [
        TagRow(
            name="multi", seed="index", media_type=OCI_INDEX, kind="index", config=False, published_at=at(3)
        ),
        TagRow(name="amd", seed="amd", size_bytes=1234),
        TagRow(name="arm", seed="arm", platforms=("linux/arm64",), size_bytes=999),
    ]
    await put_repository(trusting.pool, APP, rows)
    await put_child(trusting.pool, "index", "amd", 0, "linux/amd64")
    await put_child(trusting.pool, "index", "arm", 1, "linux/arm64")
    shown = await trusting.json(f"{REPOSITORY}tags/detail/multi/")
    assert {name: shown[name] for name in ("repository", "name", "created_at", "published_at")} == {
        "repository": APP,
        "name": "multi",
        "created_at": "2026-01-01T00:03:00.000Z",
        "published_at": "2026-01-01T00:03:00.000Z",
    }
    image = shown["image"]
    assert (image["size_bytes"], image["manifest"]["digest"], "config" in image) == (
        0,
        digest("index"),
        False,
    )
    references = image["manifest"]["references"]
    assert [(each["manifest"]["digest"], each["size_bytes"]) for each in references] == [
        (digest("amd"), 1234), (digest("arm"), 999),
    ]  # fmt: skip
    platforms = [each["config"]["platform"] for each in references]
    assert platforms == [{"architecture": "amd64", "os": "linux"}, {"architecture": "arm64", "os": "linux"}]
    plain = (await trusting.json(f"{REPOSITORY}tags/detail/amd/"))["image"]
    assert (plain["size_bytes"], "references" in plain["manifest"]) == (1234, False)
    assert await trusting.refusal(f"{REPOSITORY}tags/detail/none/") == (
        404,
        "TAG_UNKNOWN",
        {"tagName": "none"},
    )
    missing = "/gitlab/v1/repositories/group/none/tags/detail/v1/"
    assert await trusting.refusal(missing) == (404, "NAME_UNKNOWN", {"name": "group/none"})
    status, code, _ = await trusting.refusal(f"{REPOSITORY}tags/detail/-bad/")
    assert (status, code) == (400, "TAG_INVALID")


async def test_detail__version_of_the_operating_system(trusting: Trusting) -> None:
    """By an image's own config; where that has none, by the index."""
    rows = [
        TagRow(name="multi", seed="index", media_type=OCI_INDEX, kind="index", config=False),
        TagRow(name="ltsc", seed="ltsc", platforms=("windows/amd64",)),
        TagRow(name="nano", seed="nano", platforms=("windows/amd64",)),
    ]
    await put_repository(trusting.pool, APP, rows)
    await put_child(trusting.pool, "index", "ltsc", 0, "windows/amd64")
    await put_child(trusting.pool, "index", "nano", 1, "windows/amd64")
    await trusting.pool.execute("UPDATE manifest_child SET os_version = '10.0.1'")
    await trusting.pool.execute(
        "UPDATE manifest SET os_version = '10.0.2' WHERE digest = $1", digest_to_bytes(digest("ltsc"))
    )
    plain = await trusting.json(f"{REPOSITORY}tags/detail/ltsc/")
    assert {"architecture": "amd64", "os": "windows", "os_version": "10.0.2"} == plain["image"]["config"][
        "platform"
    ]
    nano = await trusting.json(f"{REPOSITORY}tags/detail/nano/")
    assert {"architecture": "amd64", "os": "windows"} == nano["image"]["config"]["platform"]
    multi = await trusting.json(f"{REPOSITORY}tags/detail/multi/")
    assert ["10.0.2", "10.0.1"] == [
        each["config"]["platform"]["os_version"] for each in multi["image"]["manifest"]["references"]
    ]


@pytest.mark.parametrize("batches", [1, 2])
async def test_repository__keeps_its_publish_time(
    trusting: Trusting, pool: Pool, lookups: Lookups, batches: int
) -> None:
    """The time of the last push stays when the last tag is deleted, also if both come in one batch."""
    clock = [datetime(2026, 5, 1, tzinfo=UTC)]
    state = RegistryState(clock=lambda: clock[0])
    events: list[dict[str, Any]] = []
    state.listeners.append(events.append)
    state.push(APP, b"one", media_type=OCI_MANIFEST, tag="v1")
    clock[0] += timedelta(minutes=1)
    state.delete_tag(APP, "v1")
    step = len(events) // batches
    for first in range(0, len(events), step):
        await take_in(pool, lookups, events[first : first + step])
    shown = await trusting.json(REPOSITORY, size="self")
    assert ("2026-05-01T00:00:00.000Z", 0) == (shown["last_published_at"], shown["size_bytes"])
    assert [] == await trusting.json(TAGS)


async def test_tag__that_is_broken(trusting: Trusting) -> None:
    """A tag whose manifest nobody knows is listed and shown, with an empty digest and size 0."""
    repository_id = await put_repository(trusting.pool, APP, [TagRow(name="v1")])
    await trusting.pool.execute(
        "UPDATE tag SET manifest_id = NULL, broken_reason = 'dangling_tag', size_bytes = 0 WHERE repository_id = $1",
        repository_id,
    )
    (shown,) = await trusting.json(TAGS)
    assert (shown["digest"], shown["size_bytes"]) == ("", 0)
    detail = await trusting.json(f"{REPOSITORY}tags/detail/v1/")
    assert (detail["image"]["manifest"]["digest"], detail["image"]["size_bytes"]) == ("", 0)


async def test_bodies__are_what_a_strict_reader_expects(trusting: Trusting) -> None:
    """Every body is JSON with a plain media type, numbers are numbers, and lists are lists."""
    await put_repository(trusting.pool, APP, LETTERS)
    for path in ("/gitlab/v1/", REPOSITORY, TAGS, f"{REPOSITORY}tags/detail/a/", "/gitlab/v1/statistics/"):
        response = await trusting.ask(path)
        assert response.headers["Content-Type"] == "application/json"
        json.loads(await response.text())
    assert all(type(tag["size_bytes"]) is int for tag in await trusting.json(TAGS))
