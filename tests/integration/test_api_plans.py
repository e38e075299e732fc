"""Pages cost what they should: counted in plans and pages of the database, not in milliseconds."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from indexer.oci.digest import digest_from_bytes
from indexer.store import cleanup_facts, cleanup_past, manifests
from indexer.store import repositories as repositories_store
from indexer.store.gitlab import Place, TagsWanted, page_statement
from indexer.store.listing import changes, page_query
from indexer.store.listing import tags as store
from indexer.store.listing.changes import changes_between
from indexer.store.listing.freshness import Freshness, RepositoryRef
from indexer.store.listing.history import history_everywhere, replacements
from indexer.store.listing.repositories import RepositoryFilter, repositories
from indexer.store.listing.scopes import Scope
from indexer.store.listing.statement import SqlStatement
from indexer.store.listing.tag_filter import TagFilter
from indexer.store.pool import connect
from tests.fixtures.plans import CHECKED, explain, kinds, nodes, pages, plan, vacuum
from tests.fixtures.postgres import database_name, filled_once, own_database
from tests.fixtures.rows import EPOCH, TagRow, at, digest, put_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from indexer.oci.reference import RepositoryName
    from indexer.store.pool import Connection, Pool
    from tests.fixtures.postgres import PostgresServer

SMALL, LARGE = 1_000, 10_000
OTHER = "the repository in question"
NEWEST = [("published_at", True)]
SORTS = ("name", "semver", "published_at", "created_at", "size", "last_pulled_at", "first_seen_at")


async def fill(pool: Pool) -> None:
    """A small and a large repository and another one, vacuumed."""
    for name, count in (("small", SMALL), ("large", LARGE), ("other", 300)):
        await put_repository(pool, name, list(generate(count)))
    await pool.execute(CHECKED)
    async with pool.acquire() as connection:
        await vacuum(connection)


@pytest.fixture(scope="module")
def filled_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


@pytest.fixture
def database_url(postgres_server: PostgresServer, filled_url: str) -> Iterator[str]:
    """A copy of it, which a test may change."""
    with own_database(postgres_server, template=database_name(filled_url)) as url:
        yield url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """A connection set up as those for reading are, to a small and a large repository."""
    held = await connect(url, application="tests")
    await held.execute("SET plan_cache_mode = force_custom_plan")
    yield held
    await held.close()


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    async with connected(database_url) as held:
        yield held


@pytest_asyncio.fixture
async def reading(filled_url: str) -> AsyncIterator[Connection]:
    """A connection for what changes nothing."""
    async with connected(filled_url) as held:
        yield held


def generate(count: int) -> Iterator[TagRow]:
    chance = random.Random(count)
    for number in range(count):
        yield TagRow(
            name=f"v{chance.randrange(50)}.{number}.0" if number % 2 else f"main-{number}",
            size_bytes=chance.randrange(10**6),
            published_at=at(chance.randrange(10**6)),
            created_at=at(chance.randrange(10**5)) if number % 3 else None,
            first_seen_at=at(chance.randrange(10**6)),
            last_pulled_at=at(chance.randrange(10**5)) if number % 5 else None,
            seed=f"{count}-{number // 2}",
        )


async def repository(connection: Connection, name: str) -> RepositoryRef:
    row = await connection.fetchrow("SELECT id, tag_count, large FROM repository WHERE name = $1", name)
    assert row is not None
    fresh = Freshness(as_of=EPOCH, last_reconciled_at=None)
    known: RepositoryName = name  # type: ignore[assignment]  # a name that needs no parsing
    return RepositoryRef(
        id=row["id"], name=known, tag_count=row["tag_count"], large=row["large"], freshness=fresh
    )


async def test_tags__a_plain_page_is_an_index_scan_without_a_sort(connection: Connection) -> None:
    """Whatever the key and direction, first page or deep one: index scans, nested loops, no sort."""
    large = await repository(connection, "large")
    for key in SORTS:
        for descending in (False, True):
            listing = await store.tags_of_repository(
                connection, repository=large, sort=[(key, descending)], wanted=TagFilter()
            )
            middle = await page_query.fetch_page(connection, listing, page_query.Page(limit=1000))
            for position in (None, middle.next):
                found = kinds(await plan(connection, listing, position))
                bad = {"Sort", "Incremental Sort", "Seq Scan", "Bitmap Heap Scan", "Merge Join", "Hash Join"}
                assert not bad & set(found), (key, descending, found)


async def test_tags__a_small_repository_is_sorted_whole(connection: Connection) -> None:
    """Where no index has the order of 300 tags, a page reads them all, and no others."""
    small = await repository(connection, "other")
    for key in sorted(store.OF_LARGE):
        listing = await store.tags_of_repository(
            connection, repository=small, sort=[(key, True)], wanted=TagFilter()
        )
        found = await plan(connection, listing)
        assert "Sort" in kinds(found), key
        assert all(node["Actual Rows"] <= small.tag_count for node in nodes(found)), kinds(found)


async def test_tags__by_checks_the_repository_is_sorted_and_no_other(connection: Connection) -> None:
    """No index has the order of checks: a page reads those of its repository, and looks up what it shows."""
    small = await repository(connection, "small")
    for descending in (False, True):
        listing = await store.tags_of_repository(
            connection, repository=small, sort=[("last_checked_at", descending)], wanted=TagFilter()
        )
        found = await plan(connection, listing)
        assert "Sort" in kinds(found)
        assert all(node["Actual Rows"] * node["Actual Loops"] <= small.tag_count for node in nodes(found))
        assert pages(found) < 4 * small.tag_count + 101 * 30


async def test_tags__a_page_costs_the_same_in_a_large_repository(connection: Connection) -> None:
    """A page reads as many pages of the database from 10,000 tags as from 1,000, and deep as many as first."""
    sizes: dict[tuple[str, bool], int] = {}
    for name in ("small", "large"):
        of = await repository(connection, name)
        listing = await store.tags_of_repository(
            connection, repository=of, sort=[("published_at", True)], wanted=TagFilter()
        )
        deep = await page_query.fetch_page(connection, listing, page_query.Page(limit=800))
        for position in (None, deep.next):
            sizes[name, position is None] = pages(await plan(connection, listing, position))
    assert max(sizes.values()) <= 1.3 * min(sizes.values()), sizes


async def test_tags__a_filter_is_tested_in_the_index(connection: Connection) -> None:
    """A search that finds nothing reads the index of its sort, and no tag itself."""
    large = await repository(connection, "large")
    for wanted in (TagFilter(name="nothing-like-it"), TagFilter(kinds=("image",), name="nothing-like-it")):
        listing = await store.tags_of_repository(
            connection, repository=large, sort=[("published_at", True)], wanted=wanted
        )
        found = await plan(connection, listing)
        assert "Index Only Scan" in kinds(found)
        assert sum(node.get("Heap Fetches", 0) for node in nodes(found)) < LARGE / 50
        assert pages(found) < LARGE / 20


async def test_tags__everywhere_and_of_some_repositories(connection: Connection) -> None:
    """Newest first across repositories is an index scan, of a few repositories one for each and a merge."""
    listing = await store.tags_everywhere(connection, scope=None, sort=NEWEST, wanted=TagFilter())
    assert "Sort" not in kinds(await plan(connection, listing))
    ids = tuple([(await repository(connection, name)).id for name in ("small", "other")])
    listing = await store.tags_everywhere(
        connection, scope=Scope(ids=ids, tags=1300), sort=NEWEST, wanted=TagFilter()
    )
    found = await plan(connection, listing)
    read = {node["Relation Name"] for node in nodes(found) if node["Node Type"] == "Seq Scan"}
    assert read <= {"repository"}, kinds(found)  # of three rows here
    assert sum(node["Actual Rows"] for node in nodes(found) if "Index" in node["Node Type"]) < 2000


async def test_repositories__a_page_is_an_index_scan(connection: Connection) -> None:
    """Repositories by any key come from an index once there are many."""
    await connection.execute(
        "INSERT INTO repository (name, created_at, tag_count, manifest_count, size_bytes, last_published_at, "
        "last_pulled_at) SELECT 'many/r' || n, now() - n * interval '1 second', n, n, n, now(), now() "
        "FROM generate_series(1, 20000) AS n"
    )
    await vacuum(connection, "repository")
    for key in ("name", "tag_count", "manifest_count", "size_bytes", "created_at", "last_published_at"):
        for descending in (False, True):
            found = kinds(await plan(connection, repositories([(key, descending)], RepositoryFilter())))
            assert not {"Sort", "Seq Scan"} & set(found), (key, descending)


async def test_history__pages_come_from_indexes(connection: Connection) -> None:
    """Whatever is asked of the past: no table is read through, and a page reads what a page needs."""
    large = (await repository(connection, "large")).id
    some = Scope(ids=(large, (await repository(connection, "small")).id), tags=0)
    one = Scope(ids=(large,), tags=0)
    await connection.execute(
        "UPDATE tag_history SET valid_to = valid_from + interval '1 minute', to_source = 'event', "
        "is_replacement = name LIKE 'v1.%' WHERE name LIKE 'v%'"
    )
    await connection.execute("DELETE FROM tag WHERE name LIKE 'v%'")
    await vacuum(connection, "tag", "tag_history")
    window = {"since": at(500_000), "until": at(500_000 + 2_000)}
    for scope in (None, one, some):
        listings = [
            await history_everywhere(connection, scope=scope),
            await history_everywhere(connection, scope=scope, digest=digest(f"{LARGE}-7")),
            await history_everywhere(connection, scope=scope, at=at(700_000)),
            replacements(scope=scope, after=None, before=None),
            changes_between(scope=scope, **window),
        ]
        for listing in listings:
            found = await plan(connection, listing)
            read = {node["Relation Name"] for node in nodes(found) if node["Node Type"] == "Seq Scan"}
            assert read <= {"repository", "actor"}, (
                scope,
                listing.orders,
                kinds(found),
            )  # of three rows here
    for scope in (None, one, some):
        found = await plan(connection, changes_between(scope=scope, **window))
        assert pages(found) < LARGE / 5, kinds(found)
        found = await plan(
            connection, await history_everywhere(connection, scope=scope, digest=digest(f"{LARGE}-7"))
        )
        assert pages(found) < 100, kinds(found)


async def test_history__of_a_digest_that_many_tags_point_to(connection: Connection) -> None:
    """However many tags point to a digest or did, a page of its history reads what a page needs, and sorts no more."""
    moved = "SET manifest_id = (SELECT min(id) FROM manifest)"
    await connection.execute(f"UPDATE tag {moved} WHERE name LIKE 'main-%'")
    await connection.execute(f"UPDATE tag_history {moved}")
    await connection.execute("UPDATE tag_history SET valid_to = '2027-01-01' WHERE name LIKE 'v%'")
    await connection.execute("DELETE FROM tag WHERE name LIKE 'v%'")
    await vacuum(connection, "tag", "tag_history")
    first = digest_from_bytes(await connection.fetchval("SELECT digest FROM manifest ORDER BY id LIMIT 1"))
    found = await plan(connection, await history_everywhere(connection, scope=None, digest=first))
    assert all(node["Actual Rows"] < SMALL for node in nodes(found)), kinds(found)
    assert {"tag_history_by_manifest", "tag_by_manifest"} <= {node.get("Index Name") for node in nodes(found)}
    assert pages(found) < LARGE / 5, kinds(found)


async def test_changes__a_page_of_a_long_time_reads_what_a_page_needs(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many starts and ends lie between the instants, no more of either are read than a request looks at."""
    monkeypatch.setattr(changes, "STEP", SMALL // 2)
    await connection.execute(
        "UPDATE tag_history SET valid_to = valid_from + interval '1 minute', to_source = 'event' "
        "WHERE name LIKE 'v%'"
    )
    await connection.execute("DELETE FROM tag WHERE name LIKE 'v%'")
    await vacuum(connection, "tag", "tag_history")
    large = (await repository(connection, "large")).id
    one = Scope(ids=(large,), tags=0)
    some = Scope(ids=(large, (await repository(connection, "small")).id), tags=0)
    for scope in (None, one, some):
        found = await plan(connection, changes_between(scope=scope, since=at(0), until=at(10**6)))
        assert all(node["Actual Rows"] < SMALL for node in nodes(found)), (scope, kinds(found))


# --- GitLab's pages --------------------------------------------------------------------------------------

GITLAB_ORDERS = [
    (key, descending, before)
    for key in ("name", "published_at")
    for descending in (False, True)
    for before in (False, True)
]


async def gitlab_plan(connection: Connection, of: str, **wanted: Any) -> Any:
    """Run the statement of a page of a repository and return its plan."""
    number = (await repository(connection, of)).id
    return await explain(connection, *page_statement(TagsWanted(repository_id=number, **wanted)))


@pytest.mark.parametrize(("key", "descending", "before"), GITLAB_ORDERS)
async def test_gitlab_page__walks_its_index_and_never_sorts(
    reading: Connection, key: Any, descending: bool, before: bool
) -> None:
    """A page of 20 of 10,000 tags reads one index in order, at any depth, and costs what it does of 1,000."""
    middle = Place(name="main-9999", published_at=at(500_000) if key == "published_at" else None)
    for place in (None, middle):
        wanted = {"limit": 20, "key": key, "descending": descending, "before": before, "place": place}
        large = await gitlab_plan(reading, "large", **wanted)
        found = list(nodes(large))
        assert not [node for node in found if "Sort" in node["Node Type"]], large
        walked = [node for node in found if node.get("Relation Name") == "tag"]
        assert [node["Index Name"] for node in walked] == [
            "tag_pkey" if key == "name" else "tag_by_published"
        ]
        assert walked[0]["Actual Rows"] <= 21
        small = await gitlab_plan(reading, "small", **wanted | {"place": None})
        assert pages(large) <= 1.5 * pages(small) + 10


async def test_gitlab_page__of_a_thousand_costs_alike_by_either_key(reading: Connection) -> None:
    """A page of 1,000 by publish time reads about as many blocks as one by name."""
    by_name = await gitlab_plan(reading, "large", limit=1000)
    by_time = await gitlab_plan(reading, "large", limit=1000, key="published_at", descending=True)
    assert not [node for node in nodes(by_time) if "Sort" in node["Node Type"]]
    assert pages(by_time) <= 1.3 * pages(by_name)


async def test_gitlab_page__filtered_by_name_tests_within_the_index(reading: Connection) -> None:
    """A filter that matches nothing walks the index alone: no row is fetched to test its name."""
    for key in ("name", "published_at"):
        found = await gitlab_plan(reading, "large", limit=20, key=key, name="nothing")
        walked = [
            node for node in nodes(found) if node.get("Relation Name") == "tag" and node["Actual Loops"]
        ]
        assert [node["Node Type"] for node in walked] == ["Index Only Scan"], found


OF_A_REPOSITORY: dict[str, tuple[str, tuple[Any, ...]]] = {
    "unconfirmed": (manifests.SQL["list_unconfirmed"], ("other", at(10**9), b"", 100)),
    "measured": (repositories_store.SQL["measure"], (OTHER, at(0))),
    "for cleanup": (cleanup_facts.SQL["manifests"], ([OTHER], False, [])),
    "gone": (cleanup_facts.SQL["gone"], ([OTHER],)),
    "had before": (cleanup_past.SQL["manifests"], (OTHER, EPOCH, [])),
}
"""Statements about the manifests of one repository, with their parameters."""


@pytest.mark.parametrize("what", OF_A_REPOSITORY)
async def test_manifests__of_a_repository_are_found_without_reading_others(
    connection: Connection, what: str
) -> None:
    """No index but that of what a repository has, and that of what it had, begins with the repository."""
    text, values = OF_A_REPOSITORY[what]
    number = (await repository(connection, "other")).id
    statement = SqlStatement()
    for value in values:
        statement.bind(number if value is OTHER else [number] if value == [OTHER] else value)
    found = [
        node
        for node in nodes(await explain(connection, statement, text))
        if node.get("Relation Name") == "repository_manifest"
    ]
    assert found
    assert "Seq Scan" not in {node["Node Type"] for node in found}
    read = [node["Actual Rows"] * node["Actual Loops"] for node in found if node["Actual Loops"]]
    assert sum(read) <= 3 * 300, found
