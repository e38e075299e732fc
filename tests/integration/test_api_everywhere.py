"""Tags across repositories: any key, any scope, what was not pulled; the database is filled once and only read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from indexer.inventory.semver import semver_key
from indexer.store import repositories
from indexer.store.listing import scopes
from indexer.store.listing import tags as store
from tests.fixtures.asking import every_item
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import TagRow, at, put_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indexer.store.pool import Pool
    from tests.fixtures.asking import Api
    from tests.fixtures.postgres import PostgresServer

PATH = "/api/v1/tags"
KEYS = ("name", "semver", "published_at", "created_at", "size", "last_pulled_at", "first_seen_at")
REPOSITORIES = ("b/big", "a/one", "b/two", "c/empty", "a/three")
"""In the order they are first heard of, which is not that of their names."""


def anything(_item: Any) -> bool:
    return True


def nothing(_item: Any) -> bool:
    return False


def generate(repository: str) -> list[TagRow]:
    """Tags with many ties within and across repositories, and many unknown values."""
    chance = random.Random(repository)
    count = {"b/big": 30, "c/empty": 0}.get(repository, 8)
    names = chance.sample([f"v1.{n}.0" for n in range(20)] + [f"main-{n}" for n in range(20)], count)
    return [
        TagRow(
            name=name,
            size_bytes=chance.choice([0, 100, 2**20, 2**30]),
            published_at=at(chance.randrange(12)),
            created_at=chance.choice([None, at(chance.randrange(5))]),
            first_seen_at=at(chance.randrange(9)),
            last_pulled_at=chance.choice([None, at(chance.randrange(9))]),
            last_checked_at=chance.choice([None, at(chance.randrange(9))]),
            seed=chance.choice([None, "shared"]),
        )
        for name in names
    ]


WORLD = [
    (number, repository, tag)
    for number, repository in enumerate(REPOSITORIES)
    for tag in generate(repository)
]


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    async def fill(held: Pool) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(repositories, "SORTED_WHOLE", 20)  # the big one is a large one
            for repository in REPOSITORIES:
                await put_repository(held, repository, generate(repository))

    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


VALUES: dict[str, Any] = {
    "name": lambda one: one[2].name.encode(),
    "semver": lambda one: semver_key(one[2].name) or None,
    "published_at": lambda one: one[2].published_at,
    "created_at": lambda one: one[2].created_at,
    "size": lambda one: one[2].size_bytes,
    "last_pulled_at": lambda one: one[2].last_pulled_at,
    "first_seen_at": lambda one: one[2].first_seen_at,
    "repository": lambda one: one[0],
}


def expected(world: list[Any], sort: str) -> list[tuple[str, str]]:
    """Sort key by key, unknown last; repository and name settle ties in the direction of the last key."""
    keys = [(key.removeprefix("-"), key.startswith("-")) for key in sort.split(",")]
    keys += [(tie, keys[-1][1]) for tie in ("repository", "name") if tie not in [name for name, _ in keys]]
    ordered = list(world)
    for name, descending in reversed(keys):
        value = VALUES[name]
        known = [one for one in ordered if value(one) is not None]
        unknown = [one for one in ordered if value(one) is None]
        ordered = [*sorted(known, key=value, reverse=descending), *unknown]
    return [(repository, tag.name) for _, repository, tag in ordered]


SCOPES: list[tuple[dict[str, str], Any]] = [
    ({}, anything),
    ({"prefix": "a/"}, lambda repository: repository.startswith("a/")),
    ({"repository": "b/big"}, lambda repository: repository == "b/big"),
    ({"repository": "a/one"}, lambda repository: repository == "a/one"),
    ({"repository": "a/one,b/big,no/such"}, lambda repository: repository in ("a/one", "b/big")),
    ({"prefix": "c/"}, nothing),
    ({"prefix": "x/"}, nothing),
]
FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({}, anything),
    ({"name": "1"}, lambda tag: "1" in tag.name),
    ({"never_pulled": True}, lambda tag: tag.last_pulled_at is None),
    ({"never_pulled": False}, lambda tag: tag.last_pulled_at is not None),
    ({"not_pulled_since": at(4)}, lambda tag: tag.last_pulled_at is None or tag.last_pulled_at < at(4)),
    ({"pulled_before": at(4)}, lambda tag: tag.last_pulled_at is not None and tag.last_pulled_at < at(4)),
    ({"checked_before": at(4)}, lambda tag: tag.last_checked_at is not None and tag.last_checked_at < at(4)),
    (
        {"not_checked_since": at(4), "pulled_after": at(2)},
        lambda tag: (
            (tag.last_checked_at is None or tag.last_checked_at < at(4))
            and tag.last_pulled_at is not None
            and tag.last_pulled_at > at(2)
        ),
    ),
    ({"size_min": "1MiB", "name_regex": "v.*"}, lambda tag: tag.size_bytes >= 2**20 and tag.name[0] == "v"),
]


@pytest.fixture(params=["whole", "steps"])
def walked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether few tags are sorted whole, or all are walked in steps, as many are."""
    if request.param == "steps":
        monkeypatch.setattr(store, "SEARCHED_TO_THE_END", 0)
        monkeypatch.setattr(store, "STEP", 5)
        monkeypatch.setattr(scopes, "SPREAD_AT_MOST", 1)
    return str(request.param)


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("key", KEYS)
async def test_sort__by_every_key_across_repositories(api: Api, key: str) -> None:
    """Each key sorts both ways in any scope, unknown values last, and the pages are the whole list once."""
    for direction in ("", "-"):
        sort = f"{direction}{key}"
        for query, belongs in SCOPES:
            world = [one for one in WORLD if belongs(one[1])]
            found = await every_item(api, PATH, sort=sort, limit=7, **query)
            assert expected(world, sort) == [(item["repository"], item["name"]) for item in found], (
                sort,
                query,
            )


@pytest.mark.usefixtures("walked")
async def test_sort__backwards_and_by_several_keys(api: Api) -> None:
    """Several keys in any directions, and the way back is the same list."""
    for sort in ("-size,name", "size,-published_at", "-last_pulled_at,created_at", "name,-size", "-semver"):
        assert expected(WORLD, sort) == [
            (item["repository"], item["name"]) for item in await every_item(api, PATH, sort=sort, limit=9)
        ], sort
        page = await api.json(PATH, sort=sort, limit=9)
        while page["next"] is not None:
            page = await api.json(PATH, sort=sort, limit=9, after=page["next"])
        names = [(item["repository"], item["name"]) for item in page["items"]]
        while page["previous"] is not None:
            page = await api.json(PATH, sort=sort, limit=9, before=page["previous"])
            names = [*((item["repository"], item["name"]) for item in page["items"]), *names]
        assert expected(WORLD, sort) == names, sort


@pytest.mark.usefixtures("walked")
async def test_filters__what_was_not_pulled(api: Api) -> None:
    """Never pulled, and not pulled since (which the never pulled are, too), under every kind of sort and scope."""
    for query, keeps in FILTERS:
        for scope, belongs in SCOPES[:5]:
            world = [one for one in WORLD if belongs(one[1]) and keeps(one[2])]
            for sort in ("-published_at", "-size", "last_pulled_at"):
                found = await every_item(api, PATH, sort=sort, limit=4, **scope, **query)
                shown = [(item["repository"], item["name"]) for item in found]
                assert expected(world, sort) == shown, (query, scope, sort)
            counted = await api.json(PATH, count="exact", limit=1, sort="last_pulled_at", **scope, **query)
            assert counted["count"] == len(world), (query, scope)


async def test_sort__by_checks_across_repositories_is_none(api: Api) -> None:
    """No index has the order of checks, and all tags of a registry are not sorted for a page."""
    for path in (PATH, "/api/v1/repositories"):
        refused = await api.problem(path, 400, sort="last_checked_at")
        assert (refused["code"], refused["parameter"]) == ("invalid_parameter", "sort")
        assert "last_checked_at" not in refused["allowed"]


async def test_filters__what_was_not_pulled_of_one_repository(api: Api) -> None:
    """The same of the tags of one repository, small or large."""
    for repository in ("a/one", "b/big"):
        path = f"/api/v1/repositories/{repository}/tags"
        for query, keeps in FILTERS:
            wanted = {one[2].name for one in WORLD if one[1] == repository and keeps(one[2])}
            for sort in ("name", "-size", "-last_pulled_at"):
                found = await every_item(api, path, sort=sort, limit=3, **query)
                assert len(found) == len(wanted)
                assert wanted == {item["name"] for item in found}, (query, sort)
