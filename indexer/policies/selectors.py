"""Which repositories and which tags a part of the file is about.

Repositories are chosen by globs, everywhere alike: those that match ``any`` and none of ``not``. Tags are chosen in one
of six ways, each of the whole name: ``names``, ``glob``, ``regex``, ``semver``, and ``any`` or ``all`` of other
selectors; what ``not`` chooses is left out again.

Every selector can be asked whether it matches a name, and whether it may be true of a name of which only its globs are
known (``possible``): by that it is found out before anything runs that a selector is empty, or hidden behind others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

from indexer.common.expressions import compile_expression
from indexer.inventory.semver import Version, parse_version
from indexer.oci.reference import parse_tag_name
from indexer.policies.languages import Maybe, find_name
from indexer.policies.patterns import Glob, Subject, parse_glob

EVERYTHING = ("**", "*")
_PREFIX = re.compile(r"[A-Za-z0-9._-]*\*\Z", re.ASCII)
_LITERAL = re.compile(r"[A-Za-z0-9._-]+\Z", re.ASCII)
_COMPARISON = re.compile(r"(>=|<=|=|>|<)(\d{1,9}(?:\.\d{1,9}){0,2}(?:-[0-9A-Za-z.-]+)?)\Z", re.ASCII)

Truths = Callable[["Globs"], bool]
"""Whether a name is in a union of globs."""


@dataclass(frozen=True, slots=True)
class Globs:
    """Names that match any of some globs; ``given`` is how they stand in the file."""

    given: tuple[Glob, ...]
    _whole: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    _prefixes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    _expression: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, patterns: Sequence[str], subject: Subject) -> Globs:
        """Parse; raise ``ValueError``."""
        globs = tuple(parse_glob(pattern, subject) for pattern in patterns)
        prefixed = [each for each in patterns if subject is Subject.TAG and _PREFIX.match(each)]
        prefixed += ["*"] if "**" in patterns else []
        literal = [each for each in patterns if _LITERAL.match(each)]
        rest = [glob.expression for glob in globs if glob.text not in {*prefixed, *literal, "**"}]
        expression = compile_expression("|".join(rest), groups=False) if rest else None
        return cls(globs, frozenset(literal), tuple(each[:-1] for each in prefixed), expression)

    def matches(self, name: str) -> bool:
        """Tell whether a whole name matches one of them."""
        if name in self._whole or (self._prefixes and name.startswith(self._prefixes)):
            return True
        return self._expression is not None and self._expression.fullmatch(name.encode()) is not None

    def possible(self, truths: Truths) -> Maybe:
        """Whether it is true, given what globs match."""
        return truths(self)

    def globs(self) -> Iterator[Globs]:
        """Yield every union of globs that it is made of."""
        yield self


@dataclass(frozen=True, slots=True)
class Regexes:
    """Tags the whole of which matches any of some regular expressions (RE2)."""

    patterns: tuple[str, ...]
    _compiled: tuple[tuple[Any, Mapping[str, int]], ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, patterns: Sequence[str]) -> Regexes:
        """Compile; raise ``ValueError`` for what RE2 does not take, and what can match no tag."""
        compiled = [_compiled(pattern) for pattern in patterns]
        return cls(tuple(patterns), tuple((each, dict(each.groupindex)) for each in compiled))

    def matches(self, name: str) -> bool:
        """Tell whether a whole tag matches one of them."""
        text = name.encode()  # of bytes RE2 need not count characters
        return any(each.fullmatch(text) is not None for each, _ in self._compiled)

    def group_names(self) -> frozenset[str]:
        """Return the names of groups that every expression has."""
        return frozenset.intersection(*(frozenset(numbers) for _, numbers in self._compiled))

    def groups(self, name: str, wanted: Sequence[str]) -> tuple[str | None, ...] | None:
        """Return what the named groups are in the first expression that matches; None where none does."""
        text = name.encode()
        for each, numbers in self._compiled:
            match = each.fullmatch(text)
            if match is not None:
                found = [match.group(numbers[group]) for group in wanted]
                return tuple(None if group is None else group.decode() for group in found)
        return None

    def possible(self, truths: Truths) -> Maybe:  # noqa: ARG002 - whatever globs match
        """Not known."""
        return None

    def globs(self) -> Iterator[Globs]:
        """Yield nothing."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Versions:
    """Tags that are full versions (Semantic Versioning 2.0.0, a ``v`` before it allowed) within bounds."""

    text: str
    _bounds: tuple[tuple[str, bytes], ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, text: str) -> Versions:
        """Parse ``*``, or comparisons that must all hold: ``>=1.2 <2``; raise ``ValueError``."""
        if text == "*":
            return cls(text)
        bounds = []
        for word in text.split():
            match = _COMPARISON.match(word)
            version = parse_version(_in_full(match[2])) if match else None
            if match is None or version is None:
                raise ValueError(f'{word!r} is no comparison: write "*", or like ">=1.2.0 <2"')
            bounds.append((match[1], version.key))
        if not bounds:
            raise ValueError('empty: write "*" for every version, or like ">=1.2.0 <2"')
        return cls(text, tuple(bounds))

    def matches(self, name: str) -> bool:
        """Tell whether a tag is a full version within the bounds."""
        version = parse_version(name)
        return version is not None and self.admits(version)

    def admits(self, version: Version) -> bool:
        """Tell whether a version is within the bounds."""
        return all(_compares(version.key, sign, bound) for sign, bound in self._bounds)

    def possible(self, truths: Truths) -> Maybe:  # noqa: ARG002 - whatever globs match
        """Not known."""
        return None

    def globs(self) -> Iterator[Globs]:
        """Yield nothing."""
        yield from ()


@dataclass(frozen=True, slots=True)
class Combined:
    """Names that all (``every``), or any, of some selectors choose."""

    parts: tuple[Selector, ...]
    every: bool

    def matches(self, name: str) -> bool:
        """Tell whether all, or any, choose it."""
        chosen = (part.matches(name) for part in self.parts)
        return all(chosen) if self.every else any(chosen)

    def possible(self, truths: Truths) -> Maybe:
        """Whether it is true, given what globs match."""
        found = [part.possible(truths) for part in self.parts]
        decisive = not self.every
        if any(each is decisive for each in found):
            return decisive
        return None if None in found else not decisive

    def globs(self) -> Iterator[Globs]:
        """Yield every union of globs that it is made of."""
        for part in self.parts:
            yield from part.globs()


@dataclass(frozen=True, slots=True)
class Without:
    """Names that one selector chooses and another does not."""

    chosen: Selector
    left_out: Selector

    def matches(self, name: str) -> bool:
        """Tell whether it is chosen, and not left out."""
        return self.chosen.matches(name) and not self.left_out.matches(name)

    def possible(self, truths: Truths) -> Maybe:
        """Whether it is true, given what globs match."""
        chosen, left_out = self.chosen.possible(truths), self.left_out.possible(truths)
        if chosen is False or left_out is True:
            return False
        return None if None in (chosen, left_out) else True

    def globs(self) -> Iterator[Globs]:
        """Yield every union of globs that it is made of."""
        yield from self.chosen.globs()
        yield from self.left_out.globs()


Selector = Globs | Regexes | Versions | Combined | Without


def names(tags: Sequence[str]) -> Globs:
    """Return the selector of some tags by their names; raise ``ValueError`` for what no tag can be called."""
    for tag in tags:
        parse_tag_name(tag)
    return Globs.of(tags, Subject.TAG)


ALL_TAGS = Globs.of(["**"], Subject.TAG)
ALL_REPOSITORIES = Globs.of(["**"], Subject.REPOSITORY)


def is_empty(subject: Subject, chosen: Sequence[Selector], hidden_by: Sequence[Selector] = ()) -> bool:
    """Tell whether no name is in all of ``chosen`` and in none of ``hidden_by``; True only where that is certain."""
    if any(selector in hidden_by for selector in chosen):
        return True
    sets = list({globs: None for selector in (*chosen, *hidden_by) for globs in selector.globs()})

    def wanted(truths: Sequence[bool]) -> Maybe:
        true_of = dict(zip(sets, truths, strict=True)).__getitem__
        if any(selector.possible(true_of) is False for selector in chosen):
            return False
        return not any(selector.possible(true_of) is True for selector in hidden_by)

    return find_name(subject, [globs.given for globs in sets], wanted) is None


def _compiled(pattern: str) -> Any:
    compiled = compile_expression(pattern, groups=True)
    if _matches_no_tag(pattern):
        raise ValueError(
            f"{pattern} matches no tag: {Subject.TAG.words}, and the expression is of the whole tag"
        )
    return compiled


def _matches_no_tag(pattern: str) -> bool:
    """Tell whether the texts that an expression matches begin with what no tag does. Not every such one is found."""
    try:
        low, high = compile_expression(f"^(?:{pattern})$", groups=False).possiblematchrange(64)
    except re2.error:  # it matches nearly everything
        return False
    if not high:
        return True  # nothing but the empty text
    letters = {each.encode()[0] for each in Subject.TAG.value}
    for first, last in zip(low, high, strict=False):
        if not any(first <= letter <= last for letter in letters):
            return True
        if first != last:
            return False
    return False


def _in_full(text: str) -> str:
    numbers, dash, prerelease = text.partition("-")
    return numbers + ".0" * (2 - numbers.count(".")) + dash + prerelease


def _compares(key: bytes, sign: str, bound: bytes) -> bool:
    match sign:
        case ">=":
            return key >= bound
        case "<=":
            return key <= bound
        case ">":
            return key > bound
        case "<":
            return key < bound
        case _:
            return key == bound
