"""Questions about the past, against a model that keeps all timelines in a list and searches it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from indexer.common.rfc3339 import format_time
from indexer.inventory import history
from indexer.inventory.history import Timeline, Transition
from indexer.inventory.records import Interval, TimeSource
from indexer.inventory.semver import looks_immutable
from indexer.oci.digest import digest_to_bytes
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.history import write_history
from indexer.store.listing import changes, scopes
from indexer.store.listing import history as history_store
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import TagRow, at, digest, put_repository
from tests.integration.test_api_lists import every_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from indexer.store.pool import Connection, Pool
    from tests.fixtures.asking import Api
    from tests.fixtures.postgres import PostgresServer

REPOSITORIES = [RepositoryName(name) for name in ("team/a", "team/b", "other")]
TAGS = [TagName(name) for name in ("latest", "1.0.0", "v1.1.0", "1.0")]
DIGESTS = [digest(letter) for letter in "abc"]
SEEDS = (1, 2, 3, 4)
CHANGE = ("repository", "tag", "change", "previous_digest", "digest", "at", "source", "not_before")
Key = tuple[RepositoryName, TagName]


@dataclass
class World:
    """All timelines, and how they are written.

    ``url`` is that of the database which has them, once they are all written: nothing more is to be learned then.
    """

    seed: int
    connection: Connection
    repositories: dict[RepositoryName, int]
    manifests: dict[Any, int]
    timelines: dict[Key, Timeline] = field(default_factory=dict)
    newest: dict[Key, datetime] = field(default_factory=dict)
    url: str = ""

    async def learn(self, key: Key, news: Transition) -> None:
        """Fit news in as the store does: only what it can touch is loaded."""
        whole = self.timelines.get(key, ())
        first = sum(part.valid_from <= news.at for part in whole) - 1
        kept, loaded = whole[: max(first, 0)], whole[max(first, 0) :]
        newest = self.newest.get(key)
        if newest is None or news.at > newest:
            fitted = history.append(loaded, news)
            self.newest[key] = news.at
        else:
            live = history.open_interval(loaded) is not None
            fitted = history.insert(
                loaded, news, resumed_at=newest if live else None, ends_at=None if live else newest
            )
        await write_history(
            self.connection,
            changed=[(key, loaded, fitted)],
            repository_ids=self.repositories,
            manifest_ids=self.manifests,
            actor_ids={},
        )
        self.timelines[key] = (*kept, *fitted)
        await self._point(key, history.open_interval(fitted))

    async def _point(self, key: Key, opened: Interval | None) -> None:
        """Put on record what the tag points to now, as whoever writes history does."""
        identity = (self.repositories[key[0]], key[1])
        await self.connection.execute("DELETE FROM tag WHERE repository_id = $1 AND name = $2", *identity)
        if opened is not None:
            await self.connection.execute(
                "INSERT INTO tag (repository_id, name, manifest_id, published_at, first_seen_at, facet_id, "
                "published_source, evidence) SELECT $1, $2, id, $4, $4, facet_id, 'event', 'event' "
                "FROM manifest WHERE id = $3",
                *identity,
                self.manifests[opened.digest],
                opened.valid_from,
            )

    def intervals(self, prefix: str = "") -> Iterator[tuple[Key, Interval]]:
        for key in sorted(self.timelines, key=lambda key: (self.repositories[key[0]], key[1])):
            if key[0].startswith(prefix):
                for interval in self.timelines[key]:
                    yield key, interval

    def held(self, key: Key, instant: datetime) -> Interval | None:
        return history.interval_at(self.timelines[key], instant)


async def random_world(connection: Connection, seed: int) -> World:
    """Repositories whose tags were pushed, moved and deleted; a third of the news came late."""
    chance = random.Random(seed)
    await put_repository(connection, "content", [TagRow(name=d, exact_digest=d) for d in DIGESTS])
    await connection.execute("DELETE FROM tag_history")
    await connection.execute("DELETE FROM tag")
    repositories = {name: await put_repository(connection, name, []) for name in REPOSITORIES}
    rows = await connection.fetch("SELECT id, digest FROM manifest")
    packed = {row["digest"]: row["id"] for row in rows}
    world = World(seed, connection, repositories, {one: packed[digest_to_bytes(one)] for one in DIGESTS})
    for step in range(160):
        key = (chance.choice(REPOSITORIES), chance.choice(TAGS))
        minutes = chance.randrange(step + 1) if chance.random() < 0.3 else step
        seen = chance.random() < 0.3
        await world.learn(
            key,
            Transition(
                at=at(minutes),
                digest=chance.choice([*DIGESTS, None]),
                source=TimeSource.FIRST_SEEN if seen else TimeSource.EVENT,
                not_before=at(minutes - 1) if seen else None,
            ),
        )
    return world


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, schema_template: str
) -> Iterator[World]:
    """The world of a seed, in a database that is filled once for all tests that ask for this world."""
    made: list[World] = []

    async def fill(pool: Pool) -> None:
        async with pool.acquire() as connection:
            made.append(await random_world(connection, request.param))

    with filled_once(postgres_server, schema_template, fill) as url:
        made[0].url = url
        yield made[0]


@pytest.fixture(scope="module")
def database_url(world: World) -> str:
    """What ``api`` serves."""
    return world.url


every_world = pytest.mark.parametrize(
    "world",
    [*SEEDS[:2], *(pytest.param(seed, marks=pytest.mark.full) for seed in SEEDS[2:])],
    indirect=True,
    scope="module",
)
one_world = pytest.mark.parametrize("world", SEEDS[:1], indirect=True, scope="module")


def interval_of(item: Any) -> tuple[Any, ...]:
    names = ("repository", "tag", "digest", "from", "to", "from_source", "not_before")
    return tuple(item[name] for name in (*names, "to_source", "to_not_before"))


def shown(key: Key, part: Interval) -> tuple[Any, ...]:
    times = (
        format_time(part.valid_from),
        format_time(part.valid_to),
        part.source,
        format_time(part.not_before),
    )
    return (*key, part.digest, *times, part.to_source, format_time(part.to_not_before))


@every_world
async def test_history__a_repository_as_it_was(api: Api, world: World) -> None:
    """At any instant the list has the tags that existed then, each with its digest and how exact its times are."""
    for minutes in range(-1, 170, 13):
        for name, prefix in (("team/a", None), (None, "team/"), (None, None)):
            expected = [
                shown(key, part)
                for key, part in world.intervals(name or prefix or "")
                if world.held(key, at(minutes)) is part
            ]
            items = await every_page(
                api, "/api/v1/history", limit=2, at=at(minutes), repository=name, prefix=prefix
            )
            assert expected == [interval_of(item) for item in items]


@every_world
async def test_history__every_tag_that_ever_pointed_to_a_digest(api: Api, world: World) -> None:
    """By digest the list has each interval of each tag, also of tags that are gone; by tag likewise."""
    for one in DIGESTS:
        for prefix in (None, "team/", "other"):
            expected = [shown(k, part) for k, part in world.intervals(prefix or "") if part.digest == one]
            items = await every_page(api, "/api/v1/history", limit=3, digest=one, prefix=prefix)
            assert expected == [interval_of(item) for item in items]
    for tag in TAGS:
        expected = [shown(key, part) for key, part in world.intervals() if key[1] == tag]
        items = await every_page(api, "/api/v1/history", limit=5, tag=tag)
        assert expected == [interval_of(item) for item in items]


@every_world
async def test_changes__the_net_difference_of_two_instants(api: Api, world: World) -> None:
    """A tag is listed once, where its state differs, with the digests then and now and the last change's instant."""
    chance = random.Random(world.seed)
    for prefix in (None, "team/", "team/a"):
        for _ in range(8):
            since, until = at(chance.randrange(-1, 100)), at(chance.randrange(170))
            items = await every_page(api, "/api/v1/changes", limit=2, since=since, until=until, prefix=prefix)
            expected = set(net_changes(world, since, until, prefix or ""))
            found = [tuple(item[name] for name in CHANGE) for item in items]
            assert (len(expected), expected) == (len(found), set(found))
            assert sorted((item["at"] for item in items), reverse=True) == [item["at"] for item in items]


def net_changes(world: World, since: datetime, until: datetime, prefix: str) -> Iterator[tuple[Any, ...]]:
    for key in world.timelines:
        if since >= until or not key[0].startswith(prefix):
            continue
        before, after = world.held(key, since), world.held(key, until)
        was, now = before and before.digest, after and after.digest
        if was == now:
            continue
        exact: tuple[Any, ...]
        if after is not None:
            exact = (format_time(after.valid_from), after.source, format_time(after.not_before))
        else:
            gone = [
                part for part in world.timelines[key] if part.valid_to is not None and part.valid_to <= until
            ]
            exact = (format_time(gone[-1].valid_to), gone[-1].to_source, format_time(gone[-1].to_not_before))
        word = "deleted" if now is None else "created" if was is None else "moved"
        yield (*key, word, was, now, *exact)


@every_world
async def test_moved__versions_that_came_to_point_elsewhere(api: Api, world: World) -> None:
    """Full versions whose interval follows one of another digest are listed, however late that was learned."""
    for prefix in (None, "team/"):
        expected = []
        for key, timeline in world.timelines.items():
            for before, part in pairwise(timeline):
                if (
                    looks_immutable(key[1])
                    and before.digest != part.digest
                    and key[0].startswith(prefix or "")
                ):
                    word = "moved" if before.valid_to == part.valid_from else "recreated"
                    expected.append((*shown(key, part), word, before.digest, format_time(before.valid_to)))
        items = await every_page(api, "/api/v1/history/moved", limit=2, prefix=prefix)
        found = [
            (*interval_of(item), item["change"], item["previous_digest"], item["previous_to"])
            for item in items
        ]
        assert sorted(expected, key=str) == sorted(found, key=str)
        assert expected


@one_world
async def test_questions__bounded_pages_are_complete(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a request looks at a few entries only, the pages together still have everything, once."""
    questions: list[tuple[str, dict[str, Any]]] = [
        ("/api/v1/history", {"at": at(80)}),
        ("/api/v1/history", {"tag": "latest", "prefix": "team/"}),
        ("/api/v1/changes", {"since": at(20), "until": at(150)}),
        ("/api/v1/changes", {"since": at(20), "until": at(150), "prefix": "team/"}),
        ("/api/v1/history/moved", {"prefix": "team/"}),
    ]
    whole = [await every_page(api, path, limit=100, **query) for path, query in questions]
    monkeypatch.setattr(changes, "STEP", 3)
    monkeypatch.setattr(history_store, "STEP", 3)
    monkeypatch.setattr(scopes, "SPREAD_AT_MOST", 1)
    stepped = [await every_page(api, path, limit=2, **query) for path, query in questions]
    assert whole == stepped
    assert all(whole)


@one_world
async def test_changes__until_now_stays_until_then(api: Api) -> None:
    """Without an end the changes are those until now, and the pages that follow are asked with that very instant."""
    page = await api.json("/api/v1/changes", since=at(20), limit=1)
    whole = await every_page(api, "/api/v1/changes", limit=100, since=at(20), until=page["until"])
    assert page["since"] == format_time(at(20))
    assert len(whole) > 1
    items, response = [], await api.get("/api/v1/changes", after_time="9000w", limit=1)
    while True:
        items += (await response.json())["items"]
        following = response.links.get("next")
        if following is None:
            break
        url = URL(following["url"])
        assert {"since", "until"} <= set(url.query)
        assert "after_time" not in url.query
        response = await api.get(str(url.relative()))
    assert items
    assert len({(item["repository"], item["tag"]) for item in items}) == len(items)


@one_world
async def test_questions__what_is_wrong_is_refused(api: Api) -> None:
    """The older instant must be said, unknown parameters are refused, and what is on no record is an empty list."""
    assert "since" == (await api.problem("/api/v1/changes", 400, until=at(1)))["parameter"]
    await api.problem("/api/v1/history", 400, name="x")
    for query in ({"repository": "no/such"}, {"digest": digest("unheard of")}):
        assert [] == (await api.json("/api/v1/history", **query))["items"]
