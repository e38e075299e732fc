"""Forms of an answer, and paths that could be of several repositories; the database is filled once and only read."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api.operations import operations
from indexer.api.v1.index import ApiIndex
from indexer.common.spreadsheets import safe_cell
from tests.fixtures.asking import TOKEN
from tests.fixtures.everything import fill
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import TagRow, put_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indexer.store.pool import Pool
    from tests.fixtures.asking import Api
    from tests.fixtures.postgres import PostgresServer

LISTS = (
    "/api/v1/repositories",
    "/api/v1/repositories/team/app/tags",
    "/api/v1/repositories/team/app/tags/latest/history",
    "/api/v1/repositories/team/app/manifests",
    "/api/v1/tags",
    "/api/v1/history",
    "/api/v1/history/moved",
    "/api/v1/changes?since=100w",
    "/api/v1/audit",
    "/api/v1/audit/checkpoints",
    "/api/v1/drift",
)


@pytest.fixture(scope="module")
def database_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    async def write(held: Pool) -> None:
        await fill(held)
        for name in ("x/tags", "x/manifests", "y", "y/tags"):
            await put_repository(held, name, [TagRow(name="v1"), TagRow(name="tags")])
        await put_repository(held, "formula", [TagRow(name="v1", pushed_by="=HYPERLINK(1)")])

    with filled_once(postgres_server, schema_template, write) as url:
        yield url


async def table(api: Api, path: str, **query: Any) -> list[dict[str, str]]:
    response = await api.get(path, headers={"Accept": "text/csv"}, **query)
    text = await response.text()
    assert response.status == 200, text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("path", LISTS)
async def test_csv__has_the_items_of_the_page(api: Api, path: str) -> None:
    """Every list is a table: a line of the columns of its items, and a line for each of them."""
    page = await api.json(path)
    rows = await table(api, path)
    assert len(rows) == len(page["items"])
    for row, item in zip(rows, page["items"], strict=True):
        for name, value in item.items():
            if isinstance(value, str | int) and not isinstance(value, bool):
                assert safe_cell(str(value)) == row[name]


async def test_csv__columns_are_those_of_the_list_and_not_of_the_page(api: Api) -> None:
    """An empty page has its columns all the same, and the link leads on."""
    response = await api.get("/api/v1/tags", headers={"Accept": "text/csv"}, name="no-such-tag")
    assert (await response.text()).startswith("name,digest,media_type,")
    response = await api.get("/api/v1/tags", headers={"Accept": "text/csv"}, limit=1)
    assert 'rel="next"' in response.headers["Link"]


async def test_csv__runs_nothing_in_a_spreadsheet(api: Api) -> None:
    """What a client chose and a spreadsheet would run is text."""
    (row,) = await table(api, "/api/v1/repositories/formula/tags")
    assert row["pushed_by"] == "'=HYPERLINK(1)"


async def test_fields__are_the_members_asked_for(api: Api) -> None:
    """JSON, NDJSON and CSV show the members asked for, and an unknown one is refused by name."""
    path = "/api/v1/repositories/team/app/tags"
    page = await api.json(path, fields="name,size_bytes")
    assert {tuple(item) for item in page["items"]} == {("name", "size_bytes")}
    response = await api.get(path, headers={"Accept": "application/x-ndjson"}, fields="name", limit=1)
    assert await response.text() == '{"name":"broken"}\n'
    assert [list(row) for row in await table(api, "/api/v1/audit", fields="actor,action", limit=1)] == [
        ["actor.name", "action"]
    ]
    problem = await api.problem(path, 400, fields="name,colour")
    assert (problem["parameter"], "size_bytes" in problem["allowed"]) == ("fields", True)
    following = await api.json(path, fields="digest", limit=1, after=(await api.json(path, limit=1))["next"])
    assert [list(item) for item in following["items"]] == [["digest"]]


async def test_gzip__where_the_client_takes_it(api: Api) -> None:
    """A long answer is compressed for who takes that, with the same entity tag, weak, and the same content."""
    path, plain_only = "/api/v1/audit", {"Accept-Encoding": "identity"}
    plain = await api.get(path, headers=plain_only)
    packed = await api.get(path, headers={"Accept-Encoding": "gzip"})
    assert ("Content-Encoding" in plain.headers, packed.headers["Content-Encoding"]) == (False, "gzip")
    assert "Accept-Encoding" in plain.headers["Vary"]
    assert (await plain.json())["items"] == (await packed.json())["items"]
    assert packed.headers["ETag"].removeprefix("W/") == plain.headers["ETag"].removeprefix("W/")
    again = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]}
    assert (await api.get(path, headers=again)).status == 304
    short = await api.get("/api/v1/repositories/empty", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in short.headers
    exported = await api.get("/api/v1/audit/export", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in exported.headers  # what was received is good to go on from
    assert len((await exported.text()).splitlines()) == 20


async def test_index__says_what_there_is(api: Api) -> None:
    """The root of the API is a document with every path, with and without a slash; it needs a token as all."""
    for path in ("/api/v1", "/api/v1/"):
        found = await api.json(path)
        ApiIndex.model_validate(found)
        assert {one["path"] for one in found["resources"]} == {
            one.path for one in operations().values() if one.path != "/api/v1"
        }
        assert (await api.client.get(path)).status == 401


@pytest.mark.parametrize("path", ["//api/v1/tags", "///api", "/api", "/api/v1//tags", "/api/v2/tags"])
async def test_no_path__is_a_problem(api: Api, path: str) -> None:
    """Whatever looks like a path of the API and is none is refused as the API refuses."""
    url = f"http://127.0.0.1:{api.client.port}{path}"
    response = await api.client.session.get(url, headers={"Authorization": f"Bearer {TOKEN}"})
    body = await response.json(content_type="application/problem+json")
    assert (response.status, body["code"]) == (404, "unknown_path")


async def test_path__of_a_repository_whose_name_looks_like_a_path(api: Api) -> None:
    """Where no repository has the shorter name the longer is meant, with all its parameters."""
    root = "/api/v1/repositories"
    assert (await api.json(f"{root}/x/tags"))["name"] == "x/tags"
    assert (await api.json(f"{root}/x/manifests"))["name"] == "x/manifests"
    page = await api.json(f"{root}/x/tags/tags", limit=1, sort="-name")
    assert [item["name"] for item in page["items"]] == ["v1"]
    assert (await api.json(f"{root}/x/tags/tags/v1"))["repository"] == "x/tags"
    assert (await api.json(f"{root}/x/manifests/manifests"))["items"]
    assert (await api.json(f"{root}/x/tags/tags/tags/history"))["items"]
    # The shorter name counts where there is one, and the escaped one always.
    assert len((await api.json(f"{root}/y/tags"))["items"]) == 2
    assert (await api.json(f"{root}/y/tags/tags"))["repository"] == "y"
    assert (await api.json(f"{root}/y%2Ftags"))["name"] == "y/tags"
    for path in ("x", "x/tags/v1", "z/tags", "z/tags/v1", "y/tags/v2"):
        assert (await api.problem(f"{root}/{path}", 404))["code"] == "not_found"
    assert (await api.problem(f"{root}/y/tags/tags", 400, limit=1))["code"] == "unknown_parameter"
