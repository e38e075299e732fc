"""What the verbs that ask the registry share: options, the progress bar, JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.common.errors import ConfigurationError
from indexer.oci.reference import RepositoryName, parse_repository_name

if TYPE_CHECKING:
    from indexer.settings import Settings
    from reconciler.drift.report import Progress

OF_CACHE = (
    "the registry is a pull-through cache: nothing is compared; the inventory has what is pulled through it\n"
)

OnlyRepositories = Annotated[
    list[str] | None,
    cyclopts.Parameter(
        name="--repository",
        negative=(),
        consume_multiple=True,
        help="Only these repositories. Their tags and manifests are compared; the catalog is not read.",
    ),
]

MaxRate = Annotated[
    float | None,
    cyclopts.Parameter(
        name="--max-rate",
        help="At most this many requests a second. Overrides RECONCILER_MAX_RATE.",
    ),
]


def at_most(settings: Settings, max_rate: float | None) -> Settings:
    """Return the settings with ``--max-rate``, in requests a second, where it is given."""
    if max_rate is None:
        return settings
    if not 0 < max_rate < math.inf:
        raise ConfigurationError("--max-rate must be a number of requests a second above 0")
    return replace(settings, reconciler_max_rate=max_rate)


def parse_scope(names: list[str] | None) -> list[RepositoryName] | None:
    """Return the repositories that ``--repository`` names; None: all."""
    if not names:
        return None
    try:
        return [parse_repository_name(name) for name in names]
    except ValueError as error:
        raise ConfigurationError(f"--repository: {error}") from None


def write_json(value: dict[str, Any]) -> None:
    """Write one JSON object and a newline."""
    sys.stdout.write(json.dumps(value) + "\n")


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import, and rarely wanted
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("repositories", total=None)
        yield lambda at: bar.update(
            task, completed=at.repositories, total=at.total, description=f"repositories ({at.tags} tags)"
        )
