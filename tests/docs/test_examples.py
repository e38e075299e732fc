"""The documentation's examples, run as they stand on a real installation, and their output compared.

A fenced block of the language ``console`` is run: each line that begins with ``$`` is a command, the lines below it
are what it prints. A line ``...`` stands for any lines, and so does ``...`` within a line. Instants, digests, ids and
numbers of processes are compared by their shape. What a page takes for granted is made beforehand by comments
that a reader does not see: ``<!-- given: push team/app 1.0.0 -->``; see ``Given``.

The addresses of the examples (the registry's 127.0.0.1:5000, ours 127.0.0.1:5005) are those of the installation.
"""

from __future__ import annotations

import doctest
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from indexer.inventory.precedence import RACE_WINDOW
from indexer.local.binaries import wheel_directories
from tests.fixtures.installation import API_TOKEN, OPERATOR_SECRET, Installation
from tests.fixtures.programs import commands_for_shells
from tests.fixtures.storage import tag_link_of, tags_of
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

ROOT = Path(__file__).parents[2]
STEP = re.compile(
    r"^<!-- given: (?P<given>.+?) -->$|^```console\n(?P<console>.*?)^```", re.MULTILINE | re.DOTALL
)
SHAPES = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?Z?"), "TIME"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
)
EVERYDAY = {"docs/tutorial.md", "docs/how-to/read-the-drift-report.md"}
"""Pages whose examples run every day; those of all pages run with ``--full``."""
PATIENCE_SECONDS = 60
"""For what an answer shows a moment later: asking again is safe, so a page need not say that it takes a second."""


@dataclass(frozen=True)
class Command:
    """One command of an example and what it prints."""

    line: str
    output: str


@dataclass
class Page:
    """A page whose examples are run."""

    path: Path
    steps: Sequence[str | Sequence[Command]] = field(default=())

    @classmethod
    def read(cls, path: Path) -> Page:
        found = STEP.finditer(path.read_text(encoding="utf-8"))
        return cls(path, [step["given"] or commands(step["console"]) for step in found])

    @property
    def has_examples(self) -> bool:
        return any(not isinstance(step, str) for step in self.steps)

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))


def commands(block: str) -> list[Command]:
    """The commands of a block; a line that ends in a backslash goes on in the next."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
    assert parts[0] == "", f"an example begins with a command: {block!r}"
    found = []
    for part in parts[1:]:
        line, output = re.match(r"((?:[^\n]*\\\n)*[^\n]*)\n(.*)", part, re.DOTALL).groups()  # type: ignore[union-attr]  # always matches
        found.append(Command(line, output))
    return found


PAGES = [
    page
    for page in map(Page.read, sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")]))
    if page.has_examples
]


class Given:
    """What a page takes for granted: the world before its next example."""

    def __init__(self, installation: Installation, registry: RegistryServer) -> None:
        self._installation = installation
        self._registry = registry

    def make(self, words: Sequence[str]) -> None:
        """Make it so."""
        verb, *rest = words
        getattr(self, verb)(*rest)

    def push(self, repository: str, tag: str, seed: str = "") -> None:
        """A client pushed an image; its content depends on the seed, else on the tag."""
        with Pusher(self._registry.url) as client:
            client.push(repository, oci_image(seed or tag), tag)
        self._installation.until_applied()

    def quiet(self) -> None:
        """No event spoke of any tag within the race window: a look that disagrees is believed."""
        time.sleep(RACE_WINDOW.total_seconds())

    def reconciled(self) -> None:
        """The registry was compared and everything read, once."""
        done = self._installation.run("reconciler", "once")
        assert done.exit_code == 0, done.error

    def lost(self, repository: str, tag: str) -> None:
        """A tag disappeared from the registry's storage."""
        shutil.rmtree(tags_of(self._registry, repository) / tag)

    def pointed(self, repository: str, tag: str, seed: str) -> None:
        """A tag was made to point elsewhere in the registry's storage."""
        tag_link_of(self._registry, repository, tag).write_text(oci_image(seed).digest)

    def copied(self, repository: str, tag: str, other: str) -> None:
        """A tag appeared in the registry's storage."""
        shutil.copytree(
            tags_of(self._registry, repository) / tag, tags_of(self._registry, repository) / other
        )

    def unmounted(self) -> None:
        """The registry was started without its storage."""
        self._registry.stop()
        self._registry.storage_dir.rename(self._away)
        self._registry.start()

    def mounted(self) -> None:
        """The registry was started with its storage again."""
        self._registry.stop()
        shutil.rmtree(self._registry.storage_dir)
        self._away.rename(self._registry.storage_dir)
        self._registry.start()

    def received(self, *words: str) -> None:
        """Something arrived at /notifications with the right token."""
        assert self._installation.post(" ".join(words).encode()) == 202
        self._installation.until_applied()

    def settled(self) -> None:
        """Everything told of was looked at."""
        self._installation.until_settled()

    def walked(self) -> None:
        """The walk that a new registry process causes is over: nothing but the page's own commands repairs anything."""

        def over() -> bool:
            status = self._installation.get("/api/v1/status")
            announced = [each["first_seen_at"] for each in status["instances"]]
            last = status["last_reconcile"]
            return bool(last and announced) and last["started_at"] > max(announced)

        self._installation.until(over, "the walk of a registry that was just heard of")

    def signed(self) -> None:
        """The log has a checkpoint."""
        path = "/api/v1/audit/checkpoint"
        self._installation.until(lambda: self._installation.ask(path).status_code == 200, "a checkpoint")

    def reconciling(self) -> None:
        """``reconciler run`` runs."""
        self._installation.start("reconciler", "run")

    @property
    def _away(self) -> Path:
        return self._registry.storage_dir.with_name("storage.away")


class Shell:
    """Runs commands one by one as a person would, in one directory."""

    def __init__(
        self, installation: Installation, registry: RegistryServer, directory: Path, **variables: str
    ) -> None:
        self._addresses = {"127.0.0.1:5000": registry.host, "127.0.0.1:5005": installation.address}
        self._directory = directory
        shims = commands_for_shells(directory.with_name("commands"))
        programs = [str(shims), *map(str, wheel_directories())]
        self._environment = installation.environment(TOKEN=API_TOKEN, SECRET=OPERATOR_SECRET, **variables)
        self._environment["PATH"] = ":".join([*programs, self._environment["PATH"]])
        self._exit_code = 0

    def expect(self, command: Command) -> None:
        """Run a command and compare what it prints; asking may be repeated, since asking changes nothing."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        in_order = not command.line.startswith("reconciler ")  # its findings come as the looks came back
        while not alike(command.output, printed := self._run(command.line), in_order=in_order):
            again = command.line.startswith("curl ") and time.monotonic() < deadline
            assert again, f"$ {command.line}\nprinted\n{printed}\ninstead of\n{command.output}"
            time.sleep(0.2)

    def _run(self, line: str) -> str:
        for shown, actual in self._addresses.items():
            line = line.replace(shown, actual)
        done = subprocess.run(
            ["bash", "-c", f"(exit {self._exit_code}); {line}"],
            env=self._environment,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self._exit_code = done.returncode
        said = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # the log is JSON here
        text = done.stdout + "".join(f"{each}\n" for each in said)
        for shown, actual in self._addresses.items():
            text = text.replace(actual, shown)
        return text


def alike(expected: str, printed: str, *, in_order: bool) -> bool:
    """Compare as doctest does, with what changes from run to run reduced to its shape."""
    if not in_order:
        expected, printed = ("".join(sorted(text.splitlines(keepends=True))) for text in (expected, printed))
    for shape, name in SHAPES:
        expected, printed = shape.sub(name, expected), shape.sub(name, printed)
    expected = re.sub(r"^\.\.\.\n", "...", expected, flags=re.MULTILINE)
    return doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)


@pytest.fixture
def registry(installation: Installation, start_registry: StartRegistry) -> Iterator[RegistryServer]:
    """The registry that the pages speak of."""
    started = start_registry(3, notifications=[installation.endpoint])
    installation.connect(started)
    yield started
    installation.stop()


@pytest.mark.parametrize(
    "page",
    [page if str(page) in EVERYDAY else pytest.param(page, marks=pytest.mark.full) for page in PAGES],
    ids=str,
)
def test_page__examples_do_what_they_show(
    page: Page, installation: Installation, registry: RegistryServer, empty_database_url: str, tmp_path: Path
) -> None:
    """Every example of a page, run in order on a real installation, prints what the page says it prints."""
    directory = tmp_path / "shell"
    directory.mkdir()
    given = Given(installation, registry)
    shell = Shell(installation, registry, directory, SPARE_URL=empty_database_url)
    for step in page.steps:
        if isinstance(step, str):
            given.make(step.split())
            continue
        for command in step:
            shell.expect(command)


def test_examples__are_there() -> None:
    """The pages that teach by doing have examples that are run: none was lost to a wrong fence."""
    taught = {"docs/how-to/read-the-drift-report.md", "docs/how-to/release-the-brake.md"}
    taught |= {
        "docs/how-to/inspect-the-quarantine.md",
        "docs/how-to/back-up-and-restore.md",
        "docs/how-to/prove-the-audit-log.md",
        "docs/tutorial.md",
    }
    assert taught - set(map(str, PAGES)) == set()
