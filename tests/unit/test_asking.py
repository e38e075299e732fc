"""The verbs that ask: options from the API's description, pages, refusals, tables."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api.openapi import document
from indexer.commands.asking.lists import Question, ask, every_page, gather
from indexer.commands.asking.options import parameters_of
from indexer.commands.asking.sources import Answer, Source
from indexer.commands.asking.tables import cell, fitted, table
from indexer.commands.asking.verbs import VERBS, Form, Verb
from indexer.commands.common import with_flags_joined
from indexer.commands.main import app
from indexer.common.errors import ConfigurationError, ServerError
from indexer.common.terminal import as_json_text, write_table
from tests.fixtures.hostile import TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = {"--all", "--config", "--json", "--token-file", "--url"}
TAGS = "/api/v1/tags"


# --- options ---------------------------------------------------------------------------------------------


def options_of(verb: Verb) -> set[str]:
    """The options of a verb as cyclopts has them, hidden ones included, without negative forms."""
    command = app["audit"]["list"] if verb.name == "list" else app[verb.name]
    return {
        name
        for argument in command.assemble_argument_collection()
        for name in argument.names
        if name.startswith("--") and not name.startswith(("--no-", "--empty-"))
    }


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_options__are_the_parameters_of_the_api(verb: Verb) -> None:
    """Every parameter of every path of a verb is an option of its name with dashes, and nothing else is."""
    described = document()["paths"]
    parameters = {
        "--" + parameter["name"].replace("_", "-")
        for form in verb.forms
        for parameter in described[form.path]["get"]["parameters"]
        if parameter["in"] == "query"
    }
    assert options_of(verb) == parameters | OURS


def test_options__no_parameter_has_the_name_of_our_own() -> None:
    """A parameter of the API that is called like an option of the command line could not be given."""
    named = {one.option for verb in VERBS for form in verb.forms for one in parameters_of(form.path)}
    assert named & (OURS | {"--help", "--version"}) == set()


def test_options__other_names_are_accepted_and_not_shown() -> None:
    """Another name of a parameter works as an option, and the help does not list it."""
    tags = next(verb for verb in VERBS if verb.name == "tags")
    assert tags.parameters["since"].hidden
    assert not tags.parameters["published_after"].hidden


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        (["tags", "--never-pulled", "true", "a"], ["tags", "--never-pulled=true", "a"]),
        (["tags", "--verified", "false"], ["tags", "--verified=false"]),
        (["tags", "--never-pulled", "a"], ["tags", "--never-pulled", "a"]),
        (["tags", "--", "--x", "true"], ["tags", "--", "--x", "true"]),
        (["tags", "true"], ["tags", "true"]),
        (["tags", "--sort=name", "true"], ["tags", "--sort=name", "true"]),
    ],
)
def test_flags__may_have_a_value_of_their_own(words: list[str], joined: list[str]) -> None:
    """The value after a flag belongs to it, and is no argument."""
    assert with_flags_joined(words) == joined


def test_verbs__signature_has_every_name() -> None:
    """A verb's arguments are optional where a shorter form exists."""
    history = next(verb for verb in VERBS if verb.name == "history").function()
    names = [one for one in inspect.signature(history).parameters.values() if one.kind is one.POSITIONAL_ONLY]
    assert [(one.name, one.default) for one in names] == [("repository", None), ("tag", None)]


# --- pages -----------------------------------------------------------------------------------------------


@dataclass
class Answers(Source):
    """An API that has prepared answers, by what is asked."""

    prepared: Mapping[str, Answer]
    token: bool = True
    asked: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return "the server"

    @property
    def sends_token(self) -> bool:
        return self.token

    def get(self, target: str, *, accept: str) -> Answer:
        self.asked.append(target)
        answer = self.prepared[target]
        assert accept == "application/json" or not answer.body.startswith(b'{"items"')
        return answer


def page(*names: str, next_: str | None = None, **more: Any) -> Answer:
    """A page with items of these names; ``next_``: the query of the link to the next one."""
    body = {"items": [{"name": name} for name in names], "index": {"pulls_known": True}, **more}
    headers = {} if next_ is None else {"link": f'<{TAGS}?{next_}>; rel="next", </x>; rel="prev"'}
    return Answer(200, headers, json.dumps(body).encode())


def problem(status: int, code: str = "x", **more: Any) -> Answer:
    body = {"status": status, "code": code, "detail": "it is so", **more}
    return Answer(status, {"content-type": "application/problem+json"}, json.dumps(body).encode())


def test_gather__goes_on_until_it_has_what_was_wanted() -> None:
    """A page that is short or empty and has a next one is not the end."""
    source = Answers(
        {
            f"{TAGS}?limit=3": page(next_="limit=3&after=one"),
            f"{TAGS}?after=one&limit=3": page("a", "b", next_="limit=3&after=two"),
            f"{TAGS}?after=two&limit=1": page("c", next_="limit=1&after=three", count=7),
        }
    )
    found = gather(source, Question(TAGS, [("limit", "3")]))
    assert [item["name"] for item in found.items] == ["a", "b", "c"]
    assert (found.cursor, found.count, found.pulls_known) == ("three", 7, True)


def test_gather__backwards_is_one_page() -> None:
    """A page before a cursor ends at the cursor: what follows it is known already."""
    source = Answers({f"{TAGS}?before=x": page("a", next_="after=y")})
    assert [item["name"] for item in gather(source, Question(TAGS, [("before", "x")])).items] == ["a"]


def test_gather__a_limit_that_is_no_number_is_for_the_api_to_refuse() -> None:
    """Nothing is guessed about a value."""
    source = Answers({f"{TAGS}?limit=x": problem(400, parameter="limit", allowed="1 to 1000")})
    with pytest.raises(ConfigurationError, match=r"^--limit: it is so; accepted: 1 to 1000$"):
        gather(source, Question(TAGS, [("limit", "x")]))


def test_every_page__follows_the_links_of_the_api() -> None:
    """All pages, the largest there are, with the times that the links fix, and on the path that was asked."""
    source = Answers(
        {
            f"{TAGS}?since=7d&limit=1000": Answer(
                200, {"link": '<http://elsewhere/steal?since=2026&limit=1000&after=x>; rel="next"'}, b"{}\n"
            ),
            f"{TAGS}?since=2026&limit=1000&after=x": Answer(200, {}, b"[]\n"),
        }
    )
    assert list(every_page(source, Question(TAGS, [("since", "7d")]))) == [b"{}\n", b"[]\n"]


@pytest.mark.parametrize(
    ("answer", "token", "kind", "said"),
    [
        (problem(400, parameter="size_min"), True, ConfigurationError, "--size-min: it is so"),
        (problem(400, "unknown_parameter", parameter="prefix"), True, ConfigurationError, "--prefix does not go"),
        (problem(400), True, ConfigurationError, "it is so"),
        (problem(401, "unauthorized"), True, ConfigurationError, "the server refuses the token: it is so"),
        (problem(401, "unauthorized"), False, ConfigurationError, "the server wants a token: .* --token-file"),
        (problem(403, "forbidden"), True, ConfigurationError, "refuses the token"),
        (problem(404, "not_found"), True, ServerError, "^it is so$"),
        (problem(503, "store_unavailable"), True, ServerError, "answers 503: it is so"),
        (Answer(404, {"content-type": "text/html"}, b"<html>"), True, ServerError, "answers 404 with text/html"),
        (Answer(200, {"content-type": "text/html"}, b"<html>"), True, ServerError, "answers 200 with text/html"),
        (Answer(200, {}, b'{"items": 1}'), True, ServerError, "answers 200 with nothing known"),
        (Answer(301, {"location": "https://x/"}, b""), True, ConfigurationError, "redirects to https://x/"),
        (Answer(502, {}, b'{"code'), True, ServerError, "answers 502"),
    ],
)  # fmt: skip
def test_refusals__say_what_to_change(answer: Answer, token: bool, kind: type[Exception], said: str) -> None:
    """What the caller must change is wrong usage (64), everything else a failure (1)."""
    with pytest.raises(kind, match=said):
        gather(Answers({TAGS: answer}, token=token), Question(TAGS))


def test_question__names_are_escaped() -> None:
    """A repository's slashes cannot be taken for those of a path below it, nor anything else for a query."""
    tags = next(verb for verb in VERBS if verb.name == "tags").forms[1]
    assert (
        tags.question(["a/tags"], [("sort", "-name")]).target
        == "/api/v1/repositories/a%2Ftags/tags?sort=-name"
    )
    assert tags.question(["a?b#c/../d"], []).target == "/api/v1/repositories/a%3Fb%23c%2F..%2Fd/tags"


def test_ask__sends_what_is_asked_once() -> None:
    """One question is one request."""
    source = Answers({TAGS: page("a")})
    assert json.loads(ask(source, Question(TAGS)).body)["items"] == [{"name": "a"}]
    assert source.asked == [TAGS]


# --- tables ----------------------------------------------------------------------------------------------

TAG = {
    "name": "1.0",
    "digest": "sha256:" + "a" * 64,
    "size_bytes": 5_000_000,
    "published_at": "2026-01-31T12:00:00.123456Z",
    "platforms": ["linux/amd64", "linux/arm64"],
    "last_pulled_at": None,
    "verified_at": None,
    "broken": False,
    "pull_count": 0,
}


def test_table__is_aligned_and_abbreviated() -> None:
    """Columns are as wide as what is in them; digests, times and sizes are short."""
    columns = ("name", "digest", "state", "published_at", "size_bytes", "platforms")
    assert table([TAG, TAG | {"name": "latest-long", "verified_at": "x", "size_bytes": 7}], columns) == [
        "NAME         DIGEST               STATE       PUBLISHED             SIZE     PLATFORMS",
        "1.0          sha256:aaaaaaaaaaaa  unverified  2026-01-31 12:00:00Z  4.8 MiB  linux/amd64,linux/arm64",
        "latest-long  sha256:aaaaaaaaaaaa  verified    2026-01-31 12:00:00Z  7 B      linux/amd64,linux/arm64",
    ]


@pytest.mark.parametrize(
    ("column", "item", "shown", "whole"),
    [
        ("digest", TAG, "sha256:aaaaaaaaaaaa", TAG["digest"]),
        ("size_bytes", TAG, "4.8 MiB", "5000000"),
        ("size_bytes", {"size_bytes": 0}, "0 B", "0"),
        ("published_at", TAG, "2026-01-31 12:00:00Z", TAG["published_at"]),
        ("pull_count", TAG, "0", "0"),
        ("broken", TAG, "no", "no"),
        ("state", TAG | {"broken": True, "broken_reason": "dangling_tag"}, *["broken: dangling_tag"] * 2),
        ("actor", {"actor": {"name": "ci"}}, "ci", "ci"),
        ("who", {"actor": None, "request": {"address": "10.0.0.1"}}, "10.0.0.1", "10.0.0.1"),
        ("who", {"actor": {"name": "ci"}, "request": {"address": "10.0.0.1"}}, "ci", "ci"),
        ("who", {"actor": None, "request": None}, "-", "-"),
        ("request", {"request": {"id": None, "method": "PUT", "port": 1}}, *["method=PUT port=1"] * 2),
        ("name", {"name": "x" * 100}, "x" * 59 + "…", "x" * 100),
    ],
)  # fmt: skip
def test_cell__shows_what_people_need(column: str, item: dict[str, Any], shown: str, whole: str) -> None:
    """A value is short in a table, and whole where its column was asked for."""
    assert (cell(item, column), cell(item, column, whole=True)) == (shown, whole)


@pytest.mark.parametrize(
    ("width", "headings", "out"),
    [
        (80, "NAME  SIZE     KIND   PUSHED BY", []),
        (31, "NAME  SIZE     KIND   PUSHED BY", []),
        (30, "NAME  SIZE     KIND", ["PUSHED BY"]),
        (18, "NAME  KIND", ["PUSHED BY", "SIZE"]),
        (3, "NAME  KIND", ["PUSHED BY", "SIZE"]),
    ],
)
def test_table__leaves_out_what_has_no_room(width: int, headings: str, out: list[str]) -> None:
    """The least important columns go, as few as it takes; what no terminal can do without stays."""
    items = [{"name": "a", "size_bytes": 2048, "kind": "image", "pushed_by": "somebody"}]
    columns, spare = ("name", "size_bytes", "kind", "pushed_by"), ("nothing", "pushed_by", "size_bytes")
    lines, left = fitted(items, columns, spare=spare, width=width)
    assert (headings, out) == (lines[0], left)


@pytest.mark.parametrize("form", [form for verb in VERBS for form in verb.forms], ids=lambda form: form.path)
def test_tables__fit_into_80_columns(form: Form) -> None:
    """Without what can be spared, a table of usual names has room on a usual terminal; what is spared is a column."""
    item: dict[str, Any] = dict.fromkeys(form.columns, 1)
    times = {name for name in form.columns if name.endswith("_at") or name in ("at", "from", "to")}
    item |= dict.fromkeys(times, "2026-01-31T12:00:00.000000Z")
    item |= {"repository": "platform/gateway", "name": "1.20.3-rc.1", "tag": "1.20.3-rc.1"}
    item |= {"action": "tag.created"}
    item |= {name: "sha256:" + "0" * 64 for name in form.columns if name.endswith("digest")}
    lines, _ = fitted([item], form.columns, spare=form.spare, width=80)
    assert set(form.spare) <= set(form.columns)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("terminal", "no_color", "begins"),
    [(True, "", "\x1b[1mNAME\x1b[0m\n"), (True, "1", "NAME\n"), (False, "", "NAME\n")],
)
def test_headings__are_bold_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    no_color: str,
    begins: str,
) -> None:
    """Only there, and not where NO_COLOR asks for none; rows never bring an escape of their own."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    write_table(["NAME", "a\x1b[31m"])
    assert capsys.readouterr().out == begins + "a\N{REPLACEMENT CHARACTER}[31m\n"


@pytest.mark.parametrize("text", [each.decode("utf-8", "replace") for each in TEXTS])
def test_output__nothing_acts_on_the_terminal(text: str) -> None:
    """Controls and marks that reorder are replaced in tables; in JSON they are escaped, and the value is the same."""
    shown = "".join(table([{"name": text, "actor": {"name": text}}], ("name", "actor"), whole=True))
    assert shown.isprintable()
    for ascii_only in (True, False):
        encoded = as_json_text(json.dumps({"a": text}, ensure_ascii=ascii_only))
        assert encoded.isprintable()
        assert json.loads(encoded) == {"a": text}
