"""What pages read where one repository is large and hundreds are small: rows of a page are looked up, not sought.

Such an inventory led the planner to read the whole large repository for each row of a page. The database is filled once
and only read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from indexer.oci.reference import RepositoryName
from indexer.store.listing import tags as store
from indexer.store.listing.changes import changes_between
from indexer.store.listing.drift import FindingFilter, drift_findings
from indexer.store.listing.freshness import find_repository
from indexer.store.listing.history import history_everywhere, replacements
from indexer.store.listing.manifests import ManifestFilter, manifests_of_repository
from indexer.store.listing.repositories import RepositoryFilter, repositories
from indexer.store.listing.scopes import Scope, find_scope
from indexer.store.listing.tag_filter import TagFilter
from indexer.store.listing.tags import COLUMNS
from indexer.store.pool import connect
from tests.fixtures.plans import CHECKED, joined_in_vain, kinds, nodes, pages, plan, vacuum
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import TagRow, at, digest, put_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from indexer.store.listing.page_query import PageQuery
    from indexer.store.pool import Connection, Pool
    from tests.fixtures.postgres import PostgresServer

LARGE, SMALL = 10_000, 500
PAGE_PAGES = 8_000
"""Pages of the database that one page of a list may read: a tenth of what the wrong plan read, and three times as many
as any list needs."""


def generate() -> Iterator[TagRow]:
    for number in range(LARGE):
        yield TagRow(
            name=f"v{number % 99}.{number}.0" if number % 2 else f"main-{number}",
            size_bytes=number * 7919 % LARGE,
            published_at=at(number * 7907 % LARGE),
            created_at=at(number * 7901 % LARGE) if number % 3 else None,
            first_seen_at=at(number * 7883 % LARGE),
            last_pulled_at=at(number * 7879 % LARGE) if number % 5 else None,
            seed=str(number // 2),
        )


async def fill(held: Pool) -> None:
    await put_repository(held, "bench/big", list(generate()))
    await held.execute(
        "INSERT INTO repository (name, created_at, tag_count, last_published_at) "
        "SELECT 'small/r' || n, now(), 2, now() FROM generate_series(1, $1) AS n",
        SMALL,
    )
    await held.execute(
        "INSERT INTO tag (repository_id, name, manifest_id, size_bytes, published_at, image_created, first_seen_at, "
        "facet_id, published_source, evidence, semver_key, last_event_at) SELECT r.id, 'v77.' || n, t.manifest_id, "
        "t.size_bytes, t.published_at, t.image_created, t.first_seen_at, t.facet_id, 'event', 'event', t.semver_key, "
        "t.last_event_at FROM repository AS r, generate_series(1, 2) AS n, LATERAL (SELECT * FROM tag AS t "
        "WHERE t.repository_id <> r.id AND t.name = 'main-' || (2 * (r.id % 900))) AS t WHERE r.name LIKE 'small/%'"
    )
    await held.execute(
        "INSERT INTO tag_history (repository_id, name, valid_from, manifest_id, from_source) SELECT repository_id, "
        "name, published_at, manifest_id, published_source FROM tag WHERE name LIKE 'v77._'"
    )
    await held.execute(
        "INSERT INTO tag_pull (last_pulled_at, pull_count, repository_id, name) SELECT published_at, 1, repository_id, "
        "name FROM tag WHERE name = 'v77.1'"
    )
    await held.execute(CHECKED)
    async with held.acquire() as connection:
        await vacuum(connection)


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[Connection]:
    """A connection set up as those for reading are."""
    held = await connect(database_url, application="tests")
    await held.execute("SET plan_cache_mode = force_custom_plan")
    yield held
    await held.close()


FILTERS = (
    TagFilter(),
    TagFilter(name="v77"),
    TagFilter(name="nothing like it"),
    TagFilter(name_prefix="v77"),
    TagFilter(kinds=("image",)),
    TagFilter(digest=digest("7")),
    TagFilter(size_min=10),
    TagFilter(pulled_after=at(5)),
    TagFilter(never_pulled=True),
    TagFilter(not_pulled_since=at(LARGE // 2)),
    TagFilter(checked_after=at(5)),
    TagFilter(not_checked_since=at(LARGE)),
)
NEWEST = [("published_at", True)]


async def scopes(connection: Connection) -> list[Scope | None]:
    return [
        None,
        await find_scope(connection, repositories=["bench/big"]),
        await find_scope(connection, prefix="small/"),
        await find_scope(connection, repositories=["bench/big", "small/r1"]),
    ]


async def reads_little(
    connection: Connection, listing: PageQuery, what: Any, *, at_most: int = PAGE_PAGES
) -> Any:
    found = await plan(connection, listing)
    assert joined_in_vain(found) <= LARGE, (what, kinds(found))
    assert pages(found) < at_most, (what, kinds(found))
    return found


async def test_tags__a_page_across_repositories_reads_what_it_shows(connection: Connection) -> None:
    """Whatever is asked of tags across repositories, no row of the page is sought in a whole repository."""
    for scope in await scopes(connection):
        for wanted in FILTERS:
            listing = await store.tags_everywhere(connection, scope=scope, sort=NEWEST, wanted=wanted)
            await reads_little(connection, listing, (scope and len(scope.ids), wanted))


async def test_tags__across_repositories_every_sort_key_has_an_index(connection: Connection) -> None:
    """By whatever key, either way: the first page of everything is read from an index, and only ties are sorted."""
    for key in COLUMNS:
        for descending in (False, True):
            listing = await store.tags_everywhere(
                connection, scope=None, sort=[(key, descending)], wanted=TagFilter()
            )
            found = await reads_little(connection, listing, (key, descending))
            assert not {"Sort", "Seq Scan", "Bitmap Heap Scan"} & set(kinds(found)), (key, kinds(found))
            read = sum(node["Actual Rows"] for node in nodes(found) if node["Node Type"].startswith("Index"))
            assert read < LARGE / 4, (key, descending, kinds(found))


async def test_tags__some_repositories_by_every_sort_key(connection: Connection) -> None:
    """Of some repositories too a page by any key reads no more than their tags."""
    for scope in (await scopes(connection))[1:]:
        for key in COLUMNS:
            listing = await store.tags_everywhere(
                connection, scope=scope, sort=[(key, True)], wanted=TagFilter(name="v77")
            )
            many = scope and len(scope.ids)
            await reads_little(connection, listing, (key, many), at_most=int(1.2 * LARGE))


async def test_tags__of_the_large_repository(connection: Connection) -> None:
    """The tags of the large repository by any key and filter are looked up, too."""
    large = await find_repository(connection, name=RepositoryName("bench/big"))
    assert large is not None
    for wanted in FILTERS:
        for key in COLUMNS:
            listing = await store.tags_of_repository(
                connection, repository=large, sort=[(key, True)], wanted=wanted
            )
            await reads_little(connection, listing, (key, wanted))


async def test_other_lists__read_what_they_show(connection: Connection) -> None:
    """History, changes, moved versions, drift, manifests and repositories: no row is sought in a whole repository."""
    for scope in await scopes(connection):
        many = scope and len(scope.ids)
        for at_ in (None, at(LARGE // 2)):
            listing = await history_everywhere(connection, scope=scope, at=at_)
            await reads_little(connection, listing, ("history", many, at_))
        await reads_little(
            connection,
            await history_everywhere(connection, scope=scope, digest=digest("7")),
            ("digest", many),
        )
        await reads_little(connection, replacements(scope=scope, after=None, before=None), ("moved", many))
        changed = changes_between(scope=scope, since=at(0), until=at(LARGE))
        await reads_little(connection, changed, ("changes", many))
        await reads_little(connection, drift_findings(scope=scope, wanted=FindingFilter()), ("drift", many))
    large = await find_repository(connection, name=RepositoryName("bench/big"))
    assert large is not None
    for of in (ManifestFilter(), ManifestFilter(tagged=False), ManifestFilter(kinds=("image",))):
        listing = await manifests_of_repository(connection, repository=large, descending=True, wanted=of)
        await reads_little(connection, listing, of)
    await reads_little(
        connection, repositories([("name", False)], RepositoryFilter(name="r1")), "repositories"
    )
