"""The verbs that ask, as real commands: against a server and against the database, which answer alike."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from indexer.api.routes import ApiSettings, add_api
from indexer.settings import PREFIXES
from indexer.store.pool import open_pool
from tests.fixtures import programs
from tests.fixtures.everything import APP, fill
from tests.fixtures.rows import at, digest

if TYPE_CHECKING:
    from pathlib import Path

    from indexer.store.pool import Pool

TOKEN = "operator-token-of-the-tests"
FOUND = (
    ["tags"],
    ["tags", APP, "--sort", "-published_at", "--limit", "2"],
    ["tags", "--kind", "index,sbom", "--fields", "name,kind"],
    ["tags", "--never-pulled", "--count", "exact"],
    ["repositories", "--sort", "-tag_count"],
    ["history"],
    ["history", APP, "latest", "--at", "2099-01-01"],
    ["manifests", APP, "--tagged", "true"],
    ["changes", "--since", "2020-01-01T00:00:00Z", "--until", "2099-01-01"],
    ["audit", "list", "--action", "tag.created,tag.moved", "--limit", "3"],
)
ABSENT = (["tags", "no/such"], ["history", APP, "no-such"])
WRONG = (
    ["tags", APP, "--prefix", "x"],
    ["tags", APP, "--published-after", "yesterday"],
    ["tags", "--sort", "-nonsense"],
    ["audit", "list", "--action", "nothing.known"],
    ["changes"],
)
QUESTIONS = (*FOUND, *ABSENT, *WRONG)
"""What both must answer alike, refusals included."""


@dataclass
class Asked:
    """A database that is served, and the commands that ask."""

    pool: Pool
    url: str
    database_url: str
    directory: Path

    async def of_server(self, *words: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        """Ask the server."""
        given = {} if token is None else {"INDEXER_TOKEN": token}
        return await self.run(*words, INDEXER_URL=self.url, **given)

    async def of_database(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Ask the database."""
        return await self.run(*words, INDEXER_DATABASE_URL=self.database_url)

    async def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `indexer` with nothing set but this."""
        bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
        environment = {**bare, "INDEXER_DATA_DIR": str(self.directory), **settings}
        done = await asyncio.to_thread(programs.run, ["indexer", *words], env=environment)
        assert "Traceback" not in done.stderr
        assert TOKEN not in done.stdout + done.stderr
        return done


@pytest_asyncio.fixture
async def asked(migrated_url: str, tmp_path: Path) -> AsyncIterator[Asked]:
    """A server with something of everything."""
    pool = await open_pool(migrated_url, size=6, application="tests")
    await fill(pool)
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({TOKEN})))
    async with TestServer(app, host="127.0.0.1") as server:
        yield Asked(pool, f"http://127.0.0.1:{server.port}", migrated_url, tmp_path)
    await pool.close()


def lasting(output: str) -> Any:
    """A page without what is of the moment: when it was asked, and cursors, which differ with the grants only."""
    if not output:
        return output
    page = json.loads(output)
    page["index"].pop("as_of")
    return page


async def test_answers__are_those_of_the_api(asked: Asked) -> None:
    """Server and database give the same body, the same refusal and the same exit code."""
    for words in QUESTIONS:
        of_server, of_database = await asyncio.gather(
            asked.of_server(*words, "--json"), asked.of_database(*words, "--json")
        )
        codes = (of_server.returncode, of_database.returncode)
        assert codes == (2 * (64 if words in WRONG else 1 if words in ABSENT else 0,)), (
            words,
            of_server.stderr,
        )
        assert of_server.stderr == of_database.stderr
        assert lasting(of_server.stdout) == lasting(of_database.stdout)


async def test_json__is_the_body_of_the_api(asked: Asked) -> None:
    """What --json prints is the body as the API sends it."""
    from tests.fixtures.requests import REQUESTS  # noqa: PLC0415

    path = f"{asked.url}/api/v1/repositories/{APP}/tags?sort=-size&limit=2"
    answer = await asyncio.to_thread(REQUESTS.get, path, headers={"Authorization": f"Bearer {TOKEN}"})
    done = await asked.of_server("tags", APP, "--sort", "-size", "--limit", "2", "--json")
    assert lasting(done.stdout) == lasting(answer.text)
    assert answer.json()["next"] is not None


@pytest.mark.parametrize("limit", ["1", "2", "1000"])
async def test_all__has_every_item_of_every_page(asked: Asked, limit: str) -> None:
    """--all follows the cursors: each item once and in order, one a line, however long the pages are."""
    for ask in (asked.of_server, asked.of_database):
        done = await ask("tags", "--all", "--limit", limit, "--sort", "name")
        names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
        assert names == ["broken", "latest", "multi", "sbom", "v1.0.0", "v1.1.0", "x"]


async def test_all__changes_keep_the_times_of_the_first_page(asked: Asked) -> None:
    """An age is another time on each page; the pages of one list of changes must agree about it."""
    done = await asked.of_server("changes", "--since", "9999w", "--all", "--limit", "1")
    whole = await asked.of_server("changes", "--since", "9999w", "--all")
    assert done.returncode == 0, done.stderr
    assert done.stdout == whole.stdout
    assert len(whole.stdout.splitlines()) > 1


async def test_questions__of_one_line(asked: Asked) -> None:
    """The newest tag, tags nobody pulls, what a tag pointed to at a time, and who moved a tag."""
    newest = await asked.of_database("tags", APP, "--sort", "-published_at", "--limit", "1", "--all")
    assert json.loads(newest.stdout.splitlines()[0])["name"] == "multi"
    unused = await asked.of_database("tags", APP, "--not-pulled-since", "90d", "--fields", "name")
    assert set(unused.stdout.split()) >= {"NAME", "broken", "latest", "multi", "sbom", "v1.1.0"}
    then = await asked.of_database("history", APP, "latest", "--at", at(15).isoformat(), "--json")
    [interval] = json.loads(then.stdout)["items"]
    assert interval["from"] <= at(15).isoformat() < (interval["to"] or "9")
    moved = await asked.of_database("audit", "list", "--tag", "latest", "--action", "tag.moved", "--json")
    assert {(entry["tag"], entry["action"]) for entry in json.loads(moved.stdout)["items"]} == {
        ("latest", "tag.moved")
    }


async def test_table__is_for_people(asked: Asked) -> None:
    """A table has a line for each item; what is not of it is on standard error."""
    done = await asked.of_database("tags", APP, "--sort", "name", "--limit", "3")
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "broken", "latest", "multi"]
    assert "broken: dangling_tag" in lines[1]
    assert f"{digest('one')[:19]} " in lines[2]
    assert "there is more: --after " in done.stderr
    assert "the registry does not announce pulls" in done.stderr
    nothing = await asked.of_database("tags", APP, "--name", "nothing-is-called-so")
    assert (nothing.stdout, nothing.stderr.splitlines()[0], nothing.returncode) == ("", "nothing found", 0)


async def test_refusals__have_their_exit_codes(asked: Asked, tmp_path: Path) -> None:
    """64 where the caller must change something, 1 where it is not there or does not answer."""
    (tmp_path / "wrong").write_text("another-token\n")
    (tmp_path / "right").write_text(f"{TOKEN}\n")
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    for words, code, said in (
        ([], 64, "wants a token"),
        (["--token-file", str(tmp_path / "wrong")], 64, "refuses the token"),
        (["--token-file", str(tmp_path / "none")], 64, "cannot be read: No such file"),
        (["--token-file", str(tmp_path / "odd")], 64, "is not text"),
        (["--token-file", str(tmp_path / "right")], 0, ""),
        (["--url", "ftp://x", "--token-file", str(tmp_path / "right")], 64, "--url: not an http or https URL"),
        (["--url", "http://127.0.0.1:1"], 1, "does not answer"),
        (["--url", "http://127.0.0.1:99999"], 64, "--url"),
        (["--url", f"{asked.url}/nowhere"], 1, "is the URL right?"),
        (["--all", "--before", "x"], 64, "--all reads forwards"),
        (["--nonsense"], 64, "--nonsense"),
    ):  # fmt: skip
        done = await asked.of_server("tags", *words, token=None)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stderr)
    alone = await asked.run("tags", "--token-file", str(tmp_path / "right"))
    assert (alone.returncode, "--token-file is for a server" in alone.stderr) == (64, True)
    nobody = await asked.run("tags")
    assert (nobody.returncode, "whom to ask?" in nobody.stderr) == (64, True)
    away = await asked.run("tags", INDEXER_DATABASE_URL="postgresql://127.0.0.1:1/x")
    assert (away.returncode, len(away.stderr.splitlines())) == (1, 1)
    read = await asked.run("tags", INDEXER_URL=asked.url, INDEXER_API_TOKENS=f"{TOKEN},another")
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_completion__knows_verbs_and_options(asked: Asked, shell: str) -> None:
    """The script of each shell names the verbs and the options of the API."""
    done = await asked.run("completion", shell)
    assert done.returncode == 0
    for word in ("tags", "repositories", "published-after", "not-pulled-since", "token-file"):
        assert word in done.stdout
