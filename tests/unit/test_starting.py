"""What a command loads before it does anything: the slow parts only where a verb needs them. No times are taken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import cyclopts
import pytest

from indexer.cli import OPENAPI
from indexer.cli import app as indexer
from reconciler.cli import app as reconciler

HEAVY = ("aiohttp", "asyncio", "asyncpg", "cryptography", "httpx", "markdown_it", "pydantic", "structlog")
"""Each takes longer to load than help takes to print."""

LIST_LOADED = """
import sys
from {program}.__main__ import main
sys.argv = {arguments!r}
try:
    main()
finally:
    print(*sorted(set(sys.modules) & set({heavy!r})), file=sys.stderr)
"""


def verbs(program: str, app: cyclopts.App, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield every verb of a program, groups of verbs included, as it is typed."""
    yield (program, *before)
    for name in app:
        if not name.startswith("-"):
            yield from verbs(program, app[name], *before, name)


def start(*command: str) -> tuple[str, list[str]]:
    """Run a command; return what it printed, and what it loaded of what it should not."""
    program = LIST_LOADED.format(program=command[0], arguments=list(command), heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.split()


@pytest.mark.parametrize("verb", [*verbs("indexer", indexer), *verbs("reconciler", reconciler)], ids=" ".join)
def test_help__loads_nothing_that_it_does_not_print(verb: tuple[str, ...]) -> None:
    """The help of every verb loads neither server nor database nor settings."""
    said, loaded = start(*verb, "--help")
    assert said.startswith("Usage: " + " ".join(verb))
    assert loaded == []


@pytest.mark.parametrize("program", ["indexer", "reconciler"])
def test_version__loads_nothing(program: str) -> None:
    """The version is printed without loading what it is the version of."""
    assert start(program, "--version")[1] == []


def test_openapi__loads_nothing() -> None:
    """The description of the API is printed without loading the API."""
    said, loaded = start("indexer", "openapi")
    assert said == OPENAPI.read_text(encoding="utf-8")
    assert loaded == []
