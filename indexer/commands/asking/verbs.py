"""The verbs that ask: tags, repositories, history, changes, manifests, and ``audit list``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import cyclopts

from indexer.commands.asking.lists import Gathered, Question, ask, every_page, gather
from indexer.commands.asking.options import Described, as_arguments, parameters_of_all
from indexer.commands.asking.sources import Source, open_server, token_of, with_database
from indexer.commands.asking.tables import STATE, WHO, fitted, table
from indexer.commands.common import AsJson, Config, database_url, read_settings, run_async
from indexer.common.errors import ConfigurationError
from indexer.common.terminal import as_json_text, write_table

API = "/api/v1"

Url = Annotated[
    str | None,
    cyclopts.Parameter(
        name="--url",
        help="Base URL of a running `indexer serve`. Default: INDEXER_URL; without it the database is read directly.",
    ),
]
TokenFile = Annotated[
    Path | None,
    cyclopts.Parameter(
        name="--token-file",
        help="File that holds the token for the server. Default: INDEXER_TOKEN, else the first of INDEXER_API_TOKENS.",
    ),
]
All = Annotated[
    bool,
    cyclopts.Parameter(
        name="--all", negative=(), help="Print every item of every page, as JSON, one item a line."
    ),
]
_OURS = {"config": Config, "url": Url, "token_file": TokenFile, "json": AsJson, "all": All}
_FLAGS = {"json", "all"}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to call a verb: the names that are given, the path they mean, the columns of the table.

    ``spare``: the columns that a narrow terminal can do without, the least important first. ``as_parameter``: the
    parameter that the last name is sent as, where the path has no place for it.
    """

    names: tuple[str, ...]
    path: str
    columns: tuple[str, ...]
    spare: tuple[str, ...] = ()
    as_parameter: str | None = None

    def question(self, given: Sequence[str], query: Sequence[tuple[str, str]]) -> Question:
        """Return the question for the given names and parameters."""
        path = self.path
        for name, value in zip(self.names, given, strict=True):
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        if self.as_parameter is not None:
            query = [(self.as_parameter, given[-1]), *query]
        return Question(path, query)


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb that asks: what its help says, and its forms by the number of names, the fewest first."""

    name: str
    summary: str
    forms: tuple[Form, ...]

    @property
    def parameters(self) -> Mapping[str, Described]:
        """The API's parameters, of all forms."""
        return parameters_of_all(dict.fromkeys(form.path for form in self.forms))

    def function(self) -> Callable[..., int]:
        """Return the function that cyclopts calls; its signature is made of names and parameters."""
        parameters = self.parameters

        def call(*names: str | None, **given: Any) -> int:
            return self.run([name for name in names if name is not None], parameters, given)

        signature = [*self._names(), *as_arguments(parameters.values()), *_our_arguments()]
        call.__signature__ = Signature(signature)  # type: ignore[attr-defined]  # inspect looks for it
        call.__name__ = self.name
        call.__doc__ = self.summary
        return call

    def run(self, names: Sequence[str], parameters: Mapping[str, Described], given: Mapping[str, Any]) -> int:
        """Ask, print, and return the exit code."""
        form = next(each for each in self.forms if len(each.names) == len(names))
        query = [
            (one.name, one.as_sent(given[one.variable]))
            for one in parameters.values()
            if given.get(one.variable) is not None
        ]
        question = form.question(names, query)
        if given.get("all") and question.given("before") is not None:
            raise ConfigurationError("--all reads forwards: use it without --before")
        fields = question.given("fields")
        columns = form.columns if fields is None else tuple(dict.fromkeys(fields.split(",")))

        def work(source: Source) -> int:
            if given.get("all"):
                _print_all(source, question)
            elif given.get("json"):
                _print_body(ask(source, question).body)
            else:
                spare = None if fields is not None else form.spare
                _print_table(gather(source, question), columns, spare=spare, question=question)
            return 0

        return _with_source(given, work)

    def _names(self) -> Iterator[Parameter]:
        least, most = self.forms[0].names, self.forms[-1].names
        for place, name in enumerate(most):
            help_ = {"repository": "The repository's name.", "tag": "The tag."}[name]
            optional = place >= len(least)
            if optional:
                help_ = {"repository": "The repository's name. Default: all.", "tag": "Default: all."}[name]
            yield Parameter(
                name,
                Parameter.POSITIONAL_ONLY,
                default=None if optional else Parameter.empty,
                annotation=Annotated[str | None if optional else str, cyclopts.Parameter(help=help_)],
            )


def _our_arguments() -> Iterator[Parameter]:
    for name, kind in _OURS.items():
        default = False if name in _FLAGS else None
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _with_source(given: Mapping[str, Any], work: Callable[[Source], int]) -> int:
    """Run ``work`` with whom the options and settings name: a server, else a database."""
    settings = read_settings(given.get("config"), logs=False)
    url = _checked_url(given["url"]) if given.get("url") else settings.indexer_url
    file: Path | None = given.get("token_file")
    if url is not None:
        token = token_of(settings) if file is None else _token_in(file)
        return work(open_server(url, token=token))
    if file is not None:
        raise ConfigurationError("--token-file is for a server: name it with --url or INDEXER_URL")
    try:
        database = database_url(settings)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"whom to ask? Name a server with --url or INDEXER_URL, or a database: {error}"
        ) from None
    return run_async(with_database(database, work, log=lambda: read_settings(given.get("config"), logs=True)))


def _checked_url(url: str) -> str:
    from indexer.common.values import base_url  # noqa: PLC0415

    try:
        return base_url(url)
    except ValueError as error:
        raise ConfigurationError(f"--url: {error}") from None


def _token_in(file: Path) -> str:
    from indexer.common.values import header  # noqa: PLC0415

    try:
        return header(file.read_text("utf-8").strip()).get_secret_value()
    except OSError as error:
        raise ConfigurationError(f"--token-file {file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--token-file {file} is not text") from None
    except ValueError as error:
        raise ConfigurationError(f"--token-file {file}: {error}") from None


def _print_body(body: bytes) -> None:
    """Print a body as the API sent it, and the end of the line."""
    if sys.stdout.isatty():
        sys.stdout.write(as_json_text(body.decode()) + "\n")
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(body + b"\n")
    sys.stdout.buffer.flush()


def _print_all(source: Source, question: Question) -> None:
    terminal = sys.stdout.isatty()
    for page in every_page(source, question):
        if terminal:
            sys.stdout.writelines(f"{as_json_text(line.decode())}\n" for line in page.splitlines())
        else:
            sys.stdout.buffer.write(page)
        sys.stdout.flush()


def _print_table(
    found: Gathered, columns: Sequence[str], *, spare: Sequence[str] | None, question: Question
) -> None:
    """Print a table; what is not of it (there is more, pulls are unknown) goes to standard error.

    ``spare``: what a narrow terminal may do without; None: the columns were chosen, and every value is whole.
    """
    out: list[str] = []
    if found.items:
        lines = table(found.items, columns, whole=spare is None)
        if spare is not None and sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            lines, out = fitted(found.items, columns, spare=spare, width=width)
        write_table(lines)
        if out:
            sys.stderr.write(f"no room for {', '.join(out)}: --fields chooses columns\n")
    else:
        sys.stderr.write("nothing found\n")
    if found.count is not None:
        sys.stderr.write(f"{found.count} in all\n")
    if found.cursor is not None:
        sys.stderr.write(f"there is more: --after {found.cursor}, or --all\n")
    about_pulls = any("pull" in name for name in (*columns, *(name for name, _ in question.query)))
    if about_pulls and found.pulls_known is False:
        sys.stderr.write("the registry does not announce pulls: what has none on record may be in use\n")


_TAG = (
    "digest", STATE, "published_at", "published_at_source", "size_bytes", "platforms", "last_pulled_at", "pushed_by",
)  # fmt: skip
_TAG_SPARE = ("pushed_by", "platforms", "last_pulled_at", STATE, "published_at_source", "size_bytes")
_INTERVAL = ("digest", "from", "to", "from_source", "actor")
_INTERVAL_SPARE = ("from_source", "actor")

VERBS = (
    Verb(
        "tags",
        "List the tags of a repository, or of all repositories, sorted and filtered.",
        (
            Form((), f"{API}/tags", ("repository", "name", *_TAG), _TAG_SPARE),
            Form(("repository",), f"{API}/repositories/{{repository}}/tags", ("name", *_TAG), _TAG_SPARE),
        ),
    ),
    Verb(
        "repositories",
        "List the repositories on record.",
        (
            Form(
                (),
                f"{API}/repositories",
                ("name", "tag_count", "manifest_count", "size_bytes", "last_published_at", "last_pulled_at"),
                ("manifest_count", "last_pulled_at"),
            ),
        ),
    ),
    Verb(
        "history",
        "List what tags pointed to and since when, also tags that were deleted.",
        (
            Form((), f"{API}/history", ("repository", "tag", *_INTERVAL), (*_INTERVAL_SPARE, "to")),
            Form(
                ("repository",),
                f"{API}/history",
                ("tag", *_INTERVAL),
                _INTERVAL_SPARE,
                as_parameter="repository",
            ),
            Form(
                ("repository", "tag"),
                f"{API}/repositories/{{repository}}/tags/{{tag}}/history",
                _INTERVAL,
                _INTERVAL_SPARE,
            ),
        ),
    ),
    Verb(
        "changes",
        "List the tags that differ between two times: --since, and --until or now.",
        (
            Form(
                (),
                f"{API}/changes",
                ("at", "repository", "tag", "change", "previous_digest", "digest", "actor"),
                ("previous_digest", "digest"),
            ),
        ),
    ),
    Verb(
        "manifests",
        "List the manifests of a repository, tagged or not, the newest push first.",
        (
            Form(
                ("repository",),
                f"{API}/repositories/{{repository}}/manifests",
                ("digest", "kind", "total_size_bytes", "pushed_at", "platforms", "tags", "last_pulled_at"),
                ("last_pulled_at", "platforms"),
            ),
        ),
    ),
    Verb(
        "list",
        "List the entries of the audit log, newest first.",
        (
            Form(
                (),
                f"{API}/audit",
                ("occurred_at", "action", "repository", "tag", "digest", "previous_digest", WHO, "source"),
                ("source", "previous_digest", "digest"),
            ),
        ),
    ),
)

tags, repositories, history, changes, manifests, audit_list = (verb.function() for verb in VERBS)
