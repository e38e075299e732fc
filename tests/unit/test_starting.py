"""What a command loads before it does anything: the slow parts only where a verb needs them. No times are taken."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cyclopts
import pytest

from indexer.commands.main import app as indexer
from indexer.commands.server import OPENAPI
from indexer.common import exit_codes
from indexer.settings import PREFIXES
from reconciler.commands.main import app as reconciler

HEAVY = (
    "aiohttp",
    "asyncio",
    "asyncpg",
    "cryptography",
    "httpx",
    "joserfc",
    "markdown_it",
    "prometheus_client",
    "pydantic",
    "rich.console",
    "structlog",
    "tenacity",
)
"""Each takes longer to load than a question to the database takes to be answered."""

PRINTING = {"rich.console"}
"""What help and version are printed with."""

ASKING = {"asyncio", "asyncpg"}
SIGNATURES = {"cryptography"}
LOGS = {"structlog", "rich.console"}
LOOPS = LOGS | {"prometheus_client"}
REGISTRY = ASKING | LOOPS | {"aiohttp", "tenacity"}

LOADS = {
    "indexer migrate": ASKING,
    "indexer inbox list": ASKING,
    "indexer inbox discard --all --reason text": ASKING,
    "indexer inbox retry": ASKING,
    "indexer feeds list": ASKING,
    "indexer feeds replay name": ASKING,
    "indexer feeds dead name": ASKING,
    "indexer feeds remove name": ASKING,
    "indexer audit key": ASKING | SIGNATURES,
    "indexer audit key --make a-file": SIGNATURES,
    "indexer audit key --replace": ASKING | SIGNATURES | LOGS,
    "indexer audit checkpoint": ASKING,
    "indexer audit proof": ASKING,
    "indexer audit consistency 1 2": ASKING | SIGNATURES,
    "indexer audit erase --actor alice": ASKING,
    "indexer audit export": ASKING,
    "indexer audit export --proof a-file": ASKING,
    "indexer audit follow": ASKING,
    "indexer audit import a-file": ASKING,
    "indexer audit archive --before 2026-01 --drop": ASKING | SIGNATURES | LOGS,
    "indexer audit verify a-file --key a-file": SIGNATURES,
    "indexer audit verify --database": ASKING | SIGNATURES | LOGS,
    "indexer policies check a-file": {"pydantic"},
    "indexer policies explain team/app:v1": ASKING | LOGS,
    "indexer policies import gitlab a-file --project a/b": {"pydantic"},
    "indexer tags": ASKING,
    "indexer tags team/app --sort -size --url http://127.0.0.1:1": set(),
    "indexer repositories": ASKING,
    "indexer history": ASKING,
    "indexer changes --since 1d": ASKING,
    "indexer manifests team/app": ASKING,
    "indexer audit list": ASKING,
    "indexer completion bash": set(),
    "reconciler completion zsh": {"markdown_it"} | PRINTING,
    "indexer jwks a-file": {"cryptography", "joserfc"},
    "reconciler status": ASKING,
    "reconciler jobs list": ASKING,
    "reconciler jobs show 01900000-0000-7000-8000-000000000000": ASKING,
    "reconciler jobs watch 01900000-0000-7000-8000-000000000000": ASKING,
    "reconciler jobs cancel 01900000-0000-7000-8000-000000000000": ASKING,
    "reconciler maintenance begin": ASKING,
    "reconciler maintenance end": ASKING,
    "reconciler maintenance show": ASKING,
    "reconciler gc plan": REGISTRY,
    "reconciler storage check": ASKING | LOGS | {"pydantic"},
    "reconciler storage import": ASKING | LOGS | {"pydantic"},
    "reconciler storage report": REGISTRY,
    "reconciler once": REGISTRY,
    "reconciler plan": REGISTRY,
    "reconciler cleanup approve plan": ASKING,
    "reconciler cleanup confirm team/app --yes": ASKING,
    "reconciler cleanup plan": ASKING | LOGS,
    "reconciler cleanup reject plan": ASKING,
    "reconciler cleanup replay": ASKING | LOGS,
    "reconciler cleanup run": set(),
    "reconciler cleanup status": ASKING,
    "reconciler cleanup uncertain": ASKING,
    "reconciler delete team/app:v1": set(),
    "reconciler restore team/app:v1": set(),
    "reconciler holds add team/app --reason text": ASKING,
    "reconciler holds list": ASKING,
    "reconciler holds remove 1": ASKING,
    "reconciler checkpoint push": REGISTRY,
}
"""Every verb that comes to an end without a database, and what it loads until it finds that there is none."""

GO_ON = {"indexer up", "indexer serve", "reconciler run", "reconciler doctor"}
"""Those that start a server, wait for the database, or examine everything."""

LIST_LOADED = """
import sys
from {program}.__main__ import main
sys.argv = {arguments!r}
try:
    main()
finally:
    loaded = [name for name in {heavy!r} if name in sys.modules]
    if "structlog" in loaded and not sys.modules["structlog"].is_configured():
        loaded.append("structlog without being set up")
    print(*loaded, sep="\\n", file=sys.stderr)
"""


def verbs(program: str, app: cyclopts.App, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield every verb of a program, groups of verbs included, as it is typed."""
    yield (program, *before)
    for name in app:
        if not name.startswith("-"):
            yield from verbs(program, app[name], *before, name)


def start(*command: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command without any settings but these; return what came of it, and what it loaded of what is heavy."""
    program = LIST_LOADED.format(program=command[0], arguments=list(command), heavy=HEAVY)
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=bare | environment,
        timeout=60,
    )
    lines = done.stderr.splitlines()
    return done, {line for line in lines if line.split(" ")[0] in HEAVY}


@pytest.mark.parametrize("verb", [*verbs("indexer", indexer), *verbs("reconciler", reconciler)], ids=" ".join)
def test_help__loads_nothing_that_it_does_not_print(verb: tuple[str, ...]) -> None:
    """The help of every verb loads neither server nor database nor settings."""
    done, loaded = start(*verb, "--help")
    assert done.stdout.startswith("Usage: " + " ".join(verb)), done.stderr
    assert loaded <= PRINTING
    assert not re.search(r"default:\s+│?\s*(False|None)", done.stdout)


@pytest.mark.parametrize("program", ["indexer", "reconciler"])
def test_version__loads_nothing(program: str) -> None:
    """The version is printed without loading what it is the version of."""
    done, loaded = start(program, "--version")
    assert done.returncode == 0, done.stderr
    assert loaded <= PRINTING


def test_openapi__loads_nothing() -> None:
    """The description of the API is printed without loading the API."""
    done, loaded = start("indexer", "openapi")
    assert done.stdout == OPENAPI.read_text(encoding="utf-8")
    assert loaded == set()


@pytest.mark.parametrize("command", LOADS)
def test_verb__loads_no_more_than_it_needs(command: str, tmp_path: Path) -> None:
    """A verb that asks the database loads nothing that serves, speaks HTTP or validates; logs are loaded set up."""
    (tmp_path / "a-file").write_text("")
    done, loaded = start(
        *[str(tmp_path / word) if word == "a-file" else word for word in command.split()],
        INDEXER_DATABASE_URL="postgresql://127.0.0.1:1/nowhere",
        INDEXER_DATA_DIR=str(tmp_path),
        RECONCILER_REGISTRY_URL="http://127.0.0.1:1",
        RECONCILER_CHECKPOINT_REPOSITORY="audit/log",
    )
    assert "Traceback" not in done.stderr
    assert "Usage:" not in done.stdout + done.stderr
    assert loaded == LOADS[command]


def test_verbs__are_all_held_to_what_they_load() -> None:
    """A new verb says what it loads, or that it goes on."""
    every = {" ".join(verb) for verb in (*verbs("indexer", indexer), *verbs("reconciler", reconciler))}
    groups = {verb for verb in every if any(other.startswith(f"{verb} ") for other in every)}
    held = {verb for verb in every for command in LOADS if f"{command} ".startswith(f"{verb} ")}
    assert every - groups - held == GO_ON | {"indexer openapi"}


NOT_OF_DAEMONS = ("click", "cyclopts", "httpx", "rich", "pygments")
"""What only other verbs, or certain settings, need: some 8 MiB together, which a daemon would hold for good."""

RUN_DAEMON = """
import sys
from {program}.__main__ import main
sys.argv = {arguments!r}
try:
    main()
finally:
    import {daemon}
    print(*[name for name in {heavy!r} if sys.modules.get(name) is not None], sep="\\n")
"""


@pytest.mark.parametrize(
    ("program", "verb", "daemon"),
    [("indexer", "serve", "indexer.app"), ("reconciler", "run", "reconciler.daemon")],
)
def test_daemon__without_options(program: str, verb: str, daemon: str) -> None:
    """It loads neither the parser of command lines nor what its settings do not ask for, and fails like every verb."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(PREFIXES)}
    source = RUN_DAEMON.format(
        program=program, arguments=[program, verb], daemon=daemon, heavy=NOT_OF_DAEMONS
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        check=False,
        env=bare | {"INDEXER_LISTEN": "nowhere"},
        timeout=60,
    )
    assert (exit_codes.USAGE, "") == (done.returncode, done.stdout.strip())
    assert done.stderr.startswith(f"{program}: INDEXER_LISTEN")
