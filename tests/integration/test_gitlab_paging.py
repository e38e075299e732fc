"""GitLab's pages of tags: what they cost, and that they hold while tags come and go."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import orjson
import pytest
import pytest_asyncio

from indexer.api.gitlab.markers import make_marker
from indexer.store.gitlab import Place, TagsWanted, page_statement
from indexer.store.listing.statement import SqlStatement
from indexer.store.pool import connect
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import TagRow, at, put_repository, put_tags
from tests.fixtures.tokens import mint
from tests.fixtures.trusting import Trusting, pull

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from datetime import datetime

    from indexer.store.pool import Connection, Pool
    from tests.fixtures.postgres import PostgresServer

SMALL, LARGE = 1_000, 10_000
APP = "group/app"
TAGS = f"/gitlab/v1/repositories/{APP}/tags/list/"
ORDERS = [
    (key, descending, before)
    for key in ("name", "published_at")
    for descending in (False, True)
    for before in (False, True)
]


def generate(count: int) -> Iterator[TagRow]:
    """Tags in no order at all, five to a publish time on average, and two to a manifest."""
    chance = random.Random(count)
    for number in chance.sample(range(count), count):
        yield TagRow(
            name=f"v{number:05}",
            published_at=at(chance.randrange(count // 5)),
            seed=f"{count}-{chance.randrange(count // 2)}",
        )


async def fill(pool: Pool) -> None:
    """A small and a large repository, vacuumed."""
    for name, count in (("small", SMALL), ("large", LARGE)):
        await put_repository(pool, name, list(generate(count)))
    await pool.execute("VACUUM ANALYZE")


@pytest.fixture(scope="module")
def filled_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


@pytest_asyncio.fixture
async def connection(filled_url: str) -> AsyncIterator[Connection]:
    """A connection set up as those for reading are, to a small and a large repository."""
    held = await connect(filled_url, application="tests")
    await held.execute("SET plan_cache_mode = force_custom_plan")
    yield held
    await held.close()


async def plan(connection: Connection, repository: str, **wanted: Any) -> Any:
    """Run a page's statement and return its plan."""
    number = await connection.fetchval("SELECT id FROM repository WHERE name = $1", repository)
    statement, text = page_statement(TagsWanted(repository_id=number, **wanted))
    return await explain(connection, statement, text)


async def explain(connection: Connection, statement: SqlStatement, text: str) -> Any:
    found = await connection.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {text}", *statement.values
    )
    return orjson.loads(found)[0]["Plan"]


def nodes(one: Any) -> Iterator[Any]:
    yield one
    for inner in one.get("Plans", []):
        yield from nodes(inner)


def buffers(one: Any) -> int:
    return int(one["Shared Hit Blocks"]) + int(one["Shared Read Blocks"])


@pytest.mark.parametrize(("key", "descending", "before"), ORDERS)
async def test_page__walks_its_index_and_never_sorts(
    connection: Connection, key: Any, descending: bool, before: bool
) -> None:
    """A page of 20 of 10,000 tags reads one index in order, at any depth, and costs what it does of 1,000."""
    middle = Place(name="v05000", published_at=at(1000) if key == "published_at" else None)
    for place in (None, middle):
        wanted = {"limit": 20, "key": key, "descending": descending, "before": before, "place": place}
        large = await plan(connection, "large", **wanted)
        found = list(nodes(large))
        assert not [node for node in found if "Sort" in node["Node Type"]], large
        walked = [node for node in found if node.get("Relation Name") == "tag"]
        assert [node["Index Name"] for node in walked] == [
            "tag_pkey" if key == "name" else "tag_by_published"
        ]
        assert walked[0]["Actual Rows"] <= 21
        small = await plan(connection, "small", **wanted | {"place": None})
        assert buffers(large) <= 1.5 * buffers(small) + 10


async def test_page__of_a_thousand_costs_alike_by_either_key(connection: Connection) -> None:
    """A page of 1,000 by publish time reads about as many blocks as one by name."""
    by_name = await plan(connection, "large", limit=1000)
    by_time = await plan(connection, "large", limit=1000, key="published_at", descending=True)
    assert not [node for node in nodes(by_time) if "Sort" in node["Node Type"]]
    assert buffers(by_time) <= 1.3 * buffers(by_name)


async def test_page__filtered_by_name_tests_within_the_index(connection: Connection) -> None:
    """A filter that matches nothing walks the index alone: no row is fetched to test its name."""
    for key in ("name", "published_at"):
        found = await plan(connection, "large", limit=20, key=key, name="nothing")
        walked = [
            node for node in nodes(found) if node.get("Relation Name") == "tag" and node["Actual Loops"]
        ]
        assert [node["Node Type"] for node in walked] == ["Index Only Scan"], found


# --- paging while tags come and go -----------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("sort", ["published_at", "-published_at"])
async def test_paging__never_skips_or_repeats_an_unchanged_tag(trusting: Trusting, sort: str) -> None:
    """Through 10,000 tags by publish time, while others are pushed, moved and deleted, each unchanged one once."""
    rows = list(generate(LARGE))
    repository_id = await put_repository(trusting.pool, APP, rows)
    others = Others(trusting.pool, repository_id, [row.name for row in ordered(rows)[1:-1]])
    forwards = await walk(trusting, "next", between=others.change, n="250", sort=sort)
    last = next(row for row in rows if row.name == forwards[-1])
    marker = make_marker(last.name, last.published_at)
    backwards = await walk(trusting, "previous", between=others.change, n="250", sort=sort, before=marker)
    changed = others.touched
    assert len(changed) > 500
    unchanged = {row.name for row in rows} - changed
    for seen in (forwards, [*backwards, last.name]):
        names = [name for name in seen if name in unchanged]
        assert len(names) == len(set(names)) == len(unchanged)
    order = {row.name: (row.published_at, row.name) for row in rows if row.name in unchanged}
    expected = sorted(unchanged, key=order.__getitem__, reverse=sort.startswith("-"))
    assert [name for name in forwards if name in unchanged] == expected


async def walk(
    trusting: Trusting, relation: str, *, between: Callable[[], Awaitable[None]], **query: str
) -> list[str]:
    """Follow links in one direction as GitLab does: only the parameters of an address count."""
    token = mint(pull(APP))
    found: list[str] = []
    while True:
        response = await trusting.ask(TAGS, token=token, **query)
        names = [tag["name"] for tag in await response.json()]
        found = found + names if relation == "next" else names + found
        links = dict(read_links(response.headers.get("Link", "")))
        if relation not in links:
            return found
        query = links[relation]
        await between()


def read_links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in header.split(","):
        address, _, relation = part.strip().partition(">; rel=")
        if relation:
            query = parse_qs(address.partition("?")[2])
            yield relation.strip('"'), {name: values[0] for name, values in query.items()}


@dataclass
class Others:
    """Those who push, move and delete tags meanwhile: never the first or the last by publish time."""

    pool: Pool
    repository_id: int
    names: list[str]
    touched: set[str] = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    changes: int = 0

    async def change(self) -> None:
        self.changes += 1
        chosen = self.chance.sample(self.names, 40)
        self.touched |= set(chosen)
        await self.pool.execute(
            "DELETE FROM tag WHERE repository_id = $1 AND name = ANY ($2)", self.repository_id, chosen[:20]
        )
        await self.pool.execute(
            "UPDATE tag SET published_at = $3 WHERE repository_id = $1 AND name = ANY ($2)",
            self.repository_id, chosen[20:], self._instant(),
        )  # fmt: skip
        instant = self._instant()
        new = [
            TagRow(name=f"new-{self.changes}-{n}", published_at=instant, seed=f"new-{self.changes}")
            for n in range(5)
        ]
        async with self.pool.acquire() as held:
            await put_tags(held, self.repository_id, new)

    def _instant(self) -> datetime:
        return at(self.chance.randrange(1, LARGE // 5 - 1))


def ordered(rows: list[TagRow]) -> list[TagRow]:
    return sorted(rows, key=lambda row: (row.published_at, row.name))
