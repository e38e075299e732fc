"""The console as HTTP: its files, their headers, and what cannot be asked for."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from indexer.console.files import HERE, read_files
from indexer.console.serving import HEADERS, add_console
from tests.fixtures.browsing import PAGES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Client = TestClient[web.Request, web.Application]
FILES = read_files()
FOLDER = f"/console/{FILES.version}"


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    """A client that takes answers as they are, of a server with the console only."""
    app = web.Application()
    add_console(app)
    async with TestClient(TestServer(app, host="127.0.0.1"), auto_decompress=False) as opened:
        yield opened


async def test_page__needs_no_token_and_holds_no_data(client: Client) -> None:
    """Anybody gets the page; it names only files of the console and links to the API, relative to itself."""
    response = await client.get("/", headers={"Accept-Encoding": "identity"})
    text = (await response.read()).decode()
    assert (response.status, response.content_type) == (200, "text/html")
    addresses = re.findall(r'(?:href|src)="([^"]+)"', text)
    assert {each for each in addresses if each.startswith("console/")} >= {
        f"console/{FILES.version}/page/main.js",
        f"console/{FILES.version}/page/app.css",
    }
    assert [each for each in addresses if each.startswith(("/", "http", "data:"))] == []
    assert "openapi.json" in addresses
    for each in addresses:
        if each.startswith("console/"):
            assert (await client.get(f"/{each}")).status == 200, each


@pytest.mark.parametrize("path", ["/", f"{FOLDER}/page/main.js", f"{FOLDER}/page/nothing.js"])
async def test_answers__have_every_header(client: Client, path: str) -> None:
    """The policy and the other headers are on the page, on its files and on refusals."""
    response = await client.get(path)
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert "Set-Cookie" not in response.headers


def test_policy__allows_nothing_inline_nothing_foreign_and_no_html() -> None:
    """What is not named is refused; no source is wider than the own host, and no policy may make HTML."""
    policy = dict(each.split(" ", 1) for each in HEADERS["Content-Security-Policy"].split("; "))
    assert policy.pop("require-trusted-types-for") == "'script'"
    assert policy.pop("trusted-types") == "'none'"
    assert policy.pop("default-src") == "'none'"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert {name for name, value in policy.items() if value == "'none'"} == {
        "base-uri", "form-action", "frame-ancestors",
    }  # fmt: skip


async def test_files__are_kept_for_ever_and_the_page_is_asked_for_again(client: Client) -> None:
    """A file's address changes with any byte of the console, the page's does not."""
    page, file = await client.get("/"), await client.get(f"{FOLDER}/page/main.js")
    assert page.headers["Cache-Control"] == "no-cache"
    assert file.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize("path", ["/", f"{FOLDER}/page/app.css"])
async def test_etag__answers_304_and_only_for_the_same_bytes(client: Client, path: str) -> None:
    """What the browser has already is not sent again, in its plain and in its compressed form."""
    for encoding in ("identity", "gzip"):
        first = await client.get(path, headers={"Accept-Encoding": encoding})
        again = await client.get(
            path, headers={"Accept-Encoding": encoding, "If-None-Match": first.headers["ETag"]}
        )
        assert (again.status, await again.read()) == (304, b"")
        other = await client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": '"other"'})
        assert other.status == 200


async def test_head__has_the_headers_of_get_and_no_body(client: Client) -> None:
    """HEAD is answered like GET."""
    for path in ("/", f"{FOLDER}/vendor/preact.mjs"):
        got, head = await client.get(path), await client.head(path)
        assert (head.status, await head.read()) == (200, b"")
        assert {**head.headers, "Date": ""} == {**got.headers, "Date": ""}


async def test_gzip__holds_the_same_bytes(client: Client) -> None:
    """A client that takes gzip gets it, another one does not."""
    path = f"{FOLDER}/page/parts.js"
    packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
    plain = await client.get(path, headers={"Accept-Encoding": "identity"})
    assert (packed.headers["Content-Encoding"], "Content-Encoding" in plain.headers) == ("gzip", False)
    assert gzip.decompress(await packed.read()) == await plain.read()


@pytest.mark.parametrize(("suffix", "content_type"), [("mjs", "text/javascript"), ("js", "text/javascript"),
                                                      ("css", "text/css"), ("svg", "image/svg+xml")])  # fmt: skip
async def test_content_types__are_those_that_browsers_demand(
    client: Client, suffix: str, content_type: str
) -> None:
    """With nosniff a module of another type does not run."""
    paths = [path for path in FILES.by_path if path.endswith(f".{suffix}")]
    assert paths
    for path in paths:
        assert (await client.get(f"{FOLDER}/{path}")).content_type == content_type


@pytest.mark.parametrize(
    "path",
    [
        f"{FOLDER}/../serving.py", f"{FOLDER}/page/../../serving.py", f"{FOLDER}/page/%2e%2e/%2e%2e/serving.py",
        f"{FOLDER}/..%2fserving.py", f"{FOLDER}/page/..%5c..%5cserving.py", f"{FOLDER}//etc/passwd",
        f"{FOLDER}/page/main.js%00.css", f"{FOLDER}/page", f"{FOLDER}/page/", f"{FOLDER}/page/index.html",
        f"{FOLDER}/vendor/README", f"{FOLDER}/vendor/LICENSE.htm", "/console/0000000000000000/page/main.js",
        "/console/", "/console",
    ],
)  # fmt: skip
async def test_paths__lead_to_no_other_file(client: Client, path: str) -> None:
    """Only the files that were read at the start can be named, at their one address."""
    response = await client.get(URL(path, encoded=True))
    assert response.status == 404
    assert "no-store" in response.headers.get("Cache-Control", "no-store")


def test_vendor__is_what_the_list_says() -> None:
    """Every library has its origin, version, licence and hash in the list, and no other bytes than these."""
    folder = HERE / "vendor"
    listed = (folder / "README").read_text()
    for path in folder.iterdir():
        if path.suffix in {".mjs", ".css"}:
            (line,) = [line for line in listed.splitlines() if line.startswith(f"{path.name} ")]
            assert line.split()[-1] == hashlib.sha256(path.read_bytes()).hexdigest(), path.name


def test_page__builds_no_html_from_text() -> None:
    """No module of ours uses what turns text into HTML or code, or keeps anything in storage."""
    forbidden = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|dangerouslySet|document\.write|\beval\(|new Function|DOMParser|"
        r"localStorage|sessionStorage|indexedDB|document\.cookie|srcdoc|https?://"
    )
    for path in (HERE / "page").rglob("*.js"):
        assert forbidden.search(path.read_text()) is None, path.name


def test_modules__import_only_what_is_served() -> None:
    """Every import is relative and leads to a file of the console."""
    imports = re.compile(r"""(?:from|import\()\s*"([^"]+)\"""")
    for path in (HERE / "page").rglob("*.js"):
        for name in imports.findall(path.read_text()):
            assert name.startswith("."), (path.name, name)
            found = (path.parent / name).resolve().relative_to(HERE)
            assert found.as_posix() in FILES.by_path, (path.name, name)


def _listed(name: str, constant: str) -> list[str]:
    """The texts of a constant of a page's module that are written as `name: "…"`, or alone."""
    text = (HERE / "page" / "pages" / name).read_text()
    found = re.search(rf"const {constant} = \[\n?(.*?)\n?\];", text, re.DOTALL)
    assert found is not None, (name, constant)
    named = re.findall(r'name: "([^"]+)"', found[1])
    return named or re.findall(r'"([^"]+)"', found[1])


def _parameters(path: str) -> dict[str, dict[str, Any]]:
    operation = json.loads((HERE.parent / "api" / "openapi.json").read_text())["paths"][path]["get"]
    return {
        each["name"]: each["schema"]
        for each in operation["parameters"]
        if each["in"] == "query" and not each.get("deprecated", False)
    }


PAGING = {"limit", "after", "before", "count", "fields", "sort"}


@pytest.mark.parametrize(
    ("page", "constants", "path"),
    [
        ("tags.js", ["FIELDS"], "/api/v1/repositories/{repository}/tags"),
        ("tags.js", ["FIELDS", "EVERYWHERE"], "/api/v1/tags"),
        ("repositories.js", ["FIELDS"], "/api/v1/repositories"),
        ("audit.js", ["FIELDS"], "/api/v1/audit"),
        ("drift.js", ["FIELDS"], "/api/v1/drift"),
        ("jobs.js", ["FIELDS"], "/api/v1/jobs"),
        ("trash.js", ["FIELDS"], "/api/v1/trash"),
        ("uncertain.js", ["FIELDS"], "/api/v1/cleanup/uncertain"),
        ("storage.js", ["FIELDS"], "/api/v1/storage/findings"),
        ("plan.js", ["FIELDS"], "/api/v1/cleanup/plans/{id}/verdicts"),
        ("preview.js", ["FIELDS"], "/api/v1/cleanup/plan"),
    ],
)
def test_filters__are_those_of_the_api(page: str, constants: list[str], path: str) -> None:
    """A page offers every filter of what it asks, and no other; what the API gains is missed here."""
    offered = {name for constant in constants for name in _listed(page, constant)}
    assert offered == _parameters(path).keys() - PAGING


@pytest.mark.parametrize(
    ("words", "path", "parameter"),
    [
        ("actions", "/api/v1/audit", "action"),
        ("drift_kinds", "/api/v1/drift", "kind"),
        ("drift_causes", "/api/v1/drift", "cause"),
        ("job_states", "/api/v1/jobs", "state"),
        ("kinds", "/api/v1/tags", "kind"),
    ],
)
def test_choices__are_those_of_the_api(words: str, path: str, parameter: str) -> None:
    """A list to choose from has every value that the API accepts."""
    served = FILES.by_path["page/words.js"].content.decode()
    offered = json.loads(served.removeprefix("export const WORDS = ").rstrip().removesuffix(";"))
    assert sorted(offered[words]) == sorted(_parameters(path)[parameter]["items"]["enum"])


@pytest.mark.parametrize(
    ("constants", "path"),
    [
        (["ORDERS"], "/api/v1/tags"),
        (["ORDERS", "ORDERS_OF_ONE"], "/api/v1/repositories/{repository}/tags"),
    ],
)
def test_orders__are_those_of_the_api(constants: list[str], path: str) -> None:
    """Every key by which the API sorts tags can be chosen, in both directions."""
    keys = re.findall(r"[a-z_]+", _parameters(path)["sort"]["pattern"].partition(")")[0])
    offered = {text for constant in constants for text in _listed("tags.js", constant)}
    same = {"size_bytes": "size"}
    assert {same.get(key, key) for key in keys} == {text for text in offered if re.fullmatch("[a-z_]+", text)}
    assert {f"-{same.get(key, key)}" for key in keys} == {text for text in offered if text.startswith("-")}


def test_pages__are_all_opened_by_the_tests_of_the_browser() -> None:
    """A page that is added to the console is opened, and examined by axe, in every look."""
    paths = re.findall(r"\{ path: \[(.*?)\]", (HERE / "page" / "pages.js").read_text())
    assert len(paths) >= 18
    opened = [hash_.removeprefix("#/").partition("?")[0] for hash_ in PAGES]
    for path in paths:
        segments = re.findall(r'"([^"]*)"', path)
        pattern = "/".join("[^/]+" if each.startswith(":") else re.escape(each) for each in segments)
        assert any(re.fullmatch(pattern, each) for each in opened), segments


def test_version__changes_with_any_byte(tmp_path: Path) -> None:
    """So no browser ever runs modules of two versions together."""
    for folder in ("page", "vendor"):
        (tmp_path / folder).mkdir()
    (tmp_path / "page" / "index.html").write_text('<script src="{console}/page/a.js"></script>')
    (tmp_path / "page" / "a.js").write_text("1")
    (tmp_path / "vendor" / "b.mjs").write_text("2")
    before = read_files(tmp_path)
    assert before.index.content == f'<script src="console/{before.version}/page/a.js"></script>'.encode()
    assert sorted(before.by_path) == ["page/a.js", "page/words.js", "vendor/b.mjs"]
    (tmp_path / "vendor" / "b.mjs").write_text("3")
    assert read_files(tmp_path).version != before.version
