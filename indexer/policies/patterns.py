"""Globs over names of repositories and tags, as doublestar has them.

``*`` is any run of characters but ``/``, ``?`` one of them, ``[a-z]`` and ``[!a-z]`` one of a set, ``{a,b}`` either.
``**`` stands for whole path elements, none included: ``prod/**`` is ``prod`` and everything below it, ``**/app`` is
``app`` under any path, ``**`` is every name. A glob is of the whole name.

A glob is a sequence of steps. They are made into an RE2 expression, which is what matches names, and into a machine of
states, by which ``languages`` answers what a file of policies can never mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

LONGEST_GLOB = 512
MOST_ALTERNATIVES = 64

_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"


class Subject(Enum):
    """What a pattern is of: the value is the characters that such a name may have."""

    REPOSITORY = frozenset(f"{_LOWER}{_DIGITS}._-/")
    TAG = frozenset(f"{_LOWER}{_LOWER.upper()}{_DIGITS}._-")

    @property
    def words(self) -> str:
        """What such a name is made of."""
        if self is Subject.TAG:
            return "a tag has letters, digits and . _ -"
        return "a repository's name has lower-case letters, digits and . _ - /"


@dataclass(frozen=True, slots=True)
class One:
    """One character of a set."""

    of: frozenset[str]


@dataclass(frozen=True, slots=True)
class Repeated:
    """Any number of characters of a set."""

    of: frozenset[str]


@dataclass(frozen=True, slots=True)
class Maybe:
    """Steps that may be left out."""

    steps: tuple[One | Repeated, ...]


Steps = tuple[One | Repeated | Maybe, ...]


@dataclass(frozen=True, slots=True)
class Glob:
    """A glob that was parsed: every alternative of its braces as steps."""

    text: str
    alternatives: tuple[Steps, ...] = field(compare=False, repr=False)

    @property
    def expression(self) -> str:
        """The same as an expression of RE2, to be matched against a whole name."""
        return "|".join(_expression(steps) for steps in self.alternatives)


def parse_glob(text: str, subject: Subject) -> Glob:
    """Return a glob; raise ``ValueError`` for what is none, or can match no name of its subject."""
    if not text or len(text) > LONGEST_GLOB:
        raise ValueError(f"a glob has 1 to {LONGEST_GLOB} characters")
    return Glob(text, tuple(_parse(alternative, subject) for alternative in _unfold(text)))


def _unfold(text: str) -> list[str]:
    """Return the texts that ``{a,b}`` stands for; braces may stand within braces."""
    left = [text]
    done: list[str] = []
    while left:
        each = left.pop()
        close = each.find("}")
        begin = each.rfind("{", 0, close) if close >= 0 else each.find("{")
        if close < 0 and begin < 0:
            done.append(each)
        elif close < 0 or begin < 0:
            raise ValueError(
                f"{'{' if close < 0 else '}'} stands alone in {text}: alternatives are like {{a,b}}"
            )
        else:
            left += [each[:begin] + word + each[close + 1 :] for word in each[begin + 1 : close].split(",")]
        if len(left) + len(done) > MOST_ALTERNATIVES:
            raise ValueError(
                f"{text} stands for more than {MOST_ALTERNATIVES} patterns: write fewer alternatives"
            )
    return sorted(set(done))


def _parse(text: str, subject: Subject) -> Steps:
    every = subject.value
    if subject is Subject.TAG:
        return (Repeated(every),) if text == "**" else tuple(_element(text, every, subject))
    slash = One(frozenset("/"))
    elements = re.sub(r"(?:^|(?<=/))\*\*(?:/\*\*)+(?=/|$)", "**", text).split(
        "/"
    )  # **/** says no more than **
    if elements == ["**"]:
        return (Repeated(every),)
    steps: list[One | Repeated | Maybe] = []
    pending_slash = False
    for number, element in enumerate(elements):
        if not element:
            raise ValueError(f"{text} has an empty path element, and no repository's name does")
        if element == "**":
            last = number == len(elements) - 1
            if last:
                steps.append(Maybe((slash, Repeated(every))))
                continue
            if pending_slash:
                steps.append(slash)
            steps.append(Maybe((Repeated(every), slash)))
            pending_slash = False
            continue
        if pending_slash:
            steps.append(slash)
        steps += _element(element, every - {"/"}, subject)
        pending_slash = True
    return tuple(steps)


def _element(text: str, every: frozenset[str], subject: Subject) -> Iterator[One | Repeated]:
    """Yield the steps of one path element, or of a tag."""
    at = 0
    while at < len(text):
        character = text[at]
        if text.startswith("**", at):
            raise ValueError(f"** stands for whole path elements, not within {text}: write * there")
        if character == "*":
            yield Repeated(every)
        elif character == "?":
            yield One(every)
        elif character == "[":
            end = text.find("]", at + 2)
            if end < 0:
                raise ValueError(f"[ has no ] in {text}")
            yield One(_one_of(text[at + 1 : end], every, subject))
            at = end
        elif character in every:
            yield One(frozenset(character))
        else:
            raise ValueError(f"{character!r} in {text} matches nothing: {subject.words}")
        at += 1


def _one_of(inside: str, every: frozenset[str], subject: Subject) -> frozenset[str]:
    """Return the characters of ``[…]``."""
    negated = inside[0] in "!^"
    wanted = inside[1:] if negated else inside
    if not wanted:
        raise ValueError(f"[{inside}] names no character")
    found: set[str] = set()
    for match in re.finditer(r"(.)-(.)|(.)", wanted, re.DOTALL):
        first, last = (match[1], match[2]) if match[3] is None else (match[3], match[3])
        if first > last:
            raise ValueError(f"[{inside}]: {first}-{last} is no range; write it the other way round")
        found |= {each for each in every if first <= each <= last}
    chosen = every - found if negated else every & found
    if not chosen:
        raise ValueError(f"[{inside}] matches no character: {subject.words}")
    return frozenset(chosen)


def _expression(steps: Sequence[One | Repeated | Maybe]) -> str:
    parts = []
    for step in steps:
        match step:
            case Maybe(inner):
                parts.append(f"(?:{_expression(inner)})?")
            case One(of):
                parts.append(_class(of))
            case Repeated(of):
                parts.append(f"{_class(of)}*")
    return "".join(parts)


def _class(of: frozenset[str]) -> str:
    return "[" + "".join(re.escape(each) if each in "-." else each for each in sorted(of)) + "]"


class Machine:
    """The states of some globs at once: a name is read character by character; states are the bits of a number."""

    __slots__ = ("_accepting", "_moves", "_skips", "start")

    def __init__(self, globs: Sequence[Glob]) -> None:
        self._moves: list[list[tuple[frozenset[str], int]]] = [[]]
        self._skips: dict[int, list[int]] = {}
        self._accepting = 0
        for glob in globs:
            for steps in glob.alternatives:
                begin = self._new_state()
                self._skips.setdefault(0, []).append(begin)
                self._accepting |= 1 << self._add(steps, begin)
        self.start = self._closed(1)

    def step(self, states: int, character: str) -> int:
        """Return the states after one more character."""
        after = 0
        for number, moves in enumerate(self._moves):
            if states >> number & 1:
                for of, target in moves:
                    if character in of:
                        after |= 1 << target
        return self._closed(after)

    def accepts(self, states: int) -> bool:
        """Tell whether a name that ends here matches."""
        return bool(states & self._accepting)

    @property
    def sets(self) -> set[frozenset[str]]:
        """The sets of characters that it tells apart."""
        return {of for moves in self._moves for of, _ in moves}

    def _add(self, steps: Sequence[One | Repeated | Maybe], begin: int) -> int:
        at = begin
        for step in steps:
            after = self._new_state()
            match step:
                case One(of):
                    self._moves[at].append((of, after))
                case Repeated(of):
                    loop = self._new_state()  # of its own: what is left out must not run here
                    self._moves[loop].append((of, loop))
                    self._skips.setdefault(at, []).append(loop)
                    self._skips.setdefault(loop, []).append(after)
                case Maybe(inner):
                    self._skips.setdefault(at, []).append(after)
                    self._skips.setdefault(self._add(inner, at), []).append(after)
            at = after
        return at

    def _new_state(self) -> int:
        self._moves.append([])
        return len(self._moves) - 1

    def _closed(self, states: int) -> int:
        left = [number for number in range(len(self._moves)) if states >> number & 1]
        while left:
            for target in self._skips.get(left.pop(), ()):
                if not states >> target & 1:
                    states |= 1 << target
                    left.append(target)
        return states
