"""Reads lists of the API page by page, and turns its refusals into errors of the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlencode, urlsplit

from indexer.commands.asking.sources import Answer, Source
from indexer.common.errors import ConfigurationError, ServerError

JSON = "application/json"
NDJSON = "application/x-ndjson"

DEFAULT_LIMIT = 100
LARGEST_PAGE = 1000

_NEXT = re.compile(r'<([^>]*)>;\s*rel="next"')


@dataclass(frozen=True, slots=True)
class Question:
    """A path of the API, and the parameters in the order in which they are sent."""

    path: str
    query: Sequence[tuple[str, str]] = ()

    @property
    def target(self) -> str:
        """The path with its query."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    def given(self, name: str) -> str | None:
        """Return the value of a parameter."""
        return next((value for key, value in self.query if key == name), None)

    def with_value(self, name: str, value: str) -> Question:
        """Return the question with another value of one parameter."""
        return replace(self, query=[*(each for each in self.query if each[0] != name), (name, value)])


@dataclass(slots=True)
class Gathered:
    """Items of one or more pages. ``following``: the question for the next one; None: there is none."""

    items: list[dict[str, Any]] = field(default_factory=list)
    following: Question | None = None
    count: int | None = None
    pulls_known: bool | None = None

    @property
    def cursor(self) -> str | None:
        """The cursor of the next page."""
        return None if self.following is None else self.following.given("after")


def ask(source: Source, question: Question, *, accept: str = JSON) -> Answer:
    """Return the answer 200 to a question.

    Raises ``ConfigurationError`` for what the caller must change (a value, the token), else ``ServerError``.
    """
    answer = source.get(question.target, accept=accept)
    if answer.status != 200:  # noqa: PLR2004
        _refuse(source, answer)
    return answer


def gather(source: Source, question: Question) -> Gathered:
    """Return as many items as the question wants, from as many pages as it takes.

    A page may have fewer items than its limit, or none, and still have a next one.
    """
    gathered = Gathered()
    wanted = _limit(question)
    asked: Question | None = question
    while asked is not None:
        answer = ask(source, asked)
        page = _decoded(source, answer)
        gathered.items += page["items"]
        gathered.count = page.get("count", gathered.count)
        gathered.pulls_known = page.get("index", {}).get("pulls_known")
        gathered.following = asked = _following(question, answer)
        missing = wanted - len(gathered.items)
        if missing <= 0 or question.given("before") is not None:
            break
        if asked is not None:
            asked = asked.with_value("limit", str(min(missing, LARGEST_PAGE)))
    return gathered


def every_page(source: Source, question: Question) -> Iterator[bytes]:
    """Yield all pages from the question's on, each as NDJSON: one item a line, as the API sent it."""
    following: Question | None = question
    if question.given("limit") is None:
        following = question.with_value("limit", str(LARGEST_PAGE))
    while following is not None:
        answer = ask(source, following, accept=NDJSON)
        yield answer.body
        following = _following(question, answer)


def _limit(question: Question) -> int:
    given = question.given("limit")
    # What is no number is refused by the API.
    return int(given) if given is not None and given.isdecimal() else DEFAULT_LIMIT


def _following(question: Question, answer: Answer) -> Question | None:
    """Return the question for the next page: the API's own link, on the path that was asked."""
    link = _NEXT.search(answer.headers.get("link", ""))
    if link is None:
        return None
    return Question(question.path, parse_qsl(urlsplit(link[1]).query, keep_blank_values=True))


def _decoded(source: Source, answer: Answer) -> dict[str, Any]:
    try:
        page: dict[str, Any] = json.loads(answer.body)
        if isinstance(page["items"], list):
            return page
    except (ValueError, KeyError, TypeError):
        pass
    raise _foreign(source, answer)


def _foreign(source: Source, answer: Answer) -> ServerError:
    kind = answer.headers.get("content-type", "nothing known").partition(";")[0]
    return ServerError(
        f"{source.name} answers {answer.status} with {kind}, as no registry indexer does: is the URL right? It is "
        "that of `indexer serve`, without a path unless a proxy adds one"
    )


def _refuse(source: Source, answer: Answer) -> NoReturn:
    """Raise the error for an answer that is not 200."""
    if "location" in answer.headers and answer.status // 100 == 3:  # noqa: PLR2004
        raise ConfigurationError(
            f"{source.name} redirects to {answer.headers['location']}: use the URL it redirects to; a token is sent "
            "to no other"
        )
    problem = _problem(source, answer)
    detail = str(problem.get("detail", ""))
    match answer.status:
        case 400:
            raise ConfigurationError(_wrong_value(problem, detail))
        case 401 | 403 if source.sends_token:
            raise ConfigurationError(f"{source.name} refuses the token: {detail}")
        case 401 | 403:
            raise ConfigurationError(
                f"{source.name} wants a token: name a file that holds one with --token-file, or set INDEXER_TOKEN"
            )
        case 404:
            raise ServerError(detail)
        case _:
            raise ServerError(f"{source.name} answers {answer.status}: {detail}")


def _problem(source: Source, answer: Answer) -> dict[str, Any]:
    try:
        problem = json.loads(answer.body)
    except ValueError:
        problem = None
    if isinstance(problem, dict) and "code" in problem:
        return problem
    raise _foreign(source, answer)


def _wrong_value(problem: dict[str, Any], detail: str) -> str:
    parameter = str(problem.get("parameter", ""))
    if not parameter:
        return detail
    option = "--" + parameter.replace("_", "-")
    if problem.get("code") == "unknown_parameter":
        return f"{option} does not go together with the names that are given"
    allowed = f"; accepted: {problem['allowed']}" if problem.get("allowed") else ""
    return f"{option}: {detail.removeprefix(f'{parameter}: ')}{allowed}"
