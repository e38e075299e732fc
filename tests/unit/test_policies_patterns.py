"""Globs, selectors, and what no name can fulfil."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.common.expressions import compile_expression
from indexer.oci.reference import is_repository_name, parse_tag_name
from indexer.policies.languages import find_name
from indexer.policies.patterns import Machine, Subject, parse_glob
from indexer.policies.selectors import (
    ALL_TAGS,
    Combined,
    Globs,
    Regexes,
    Selector,
    Versions,
    Without,
    is_empty,
    names,
)

REPOSITORIES = [
    "a",
    "b",
    "prod",
    "prod/a",
    "prod/a/b",
    "production",
    "a/b",
    "a/x/b",
    "a/x/y/b",
    "app",
    "x/app",
    "ax",
]
MATCHED = {
    "**": REPOSITORIES,
    "*": ["a", "b", "prod", "production", "app", "ax"],
    "prod/**": ["prod", "prod/a", "prod/a/b"],
    "prod/*": ["prod/a"],
    "**/app": ["app", "x/app"],
    "a/**/b": ["a/b", "a/x/b", "a/x/y/b"],
    "a/**/**/b": ["a/b", "a/x/b", "a/x/y/b"],
    "**/**": REPOSITORIES,
    "a?": ["ax"],
    "[ab]": ["a", "b"],
    "[!a]": ["b"],
    "{prod,a}/*": ["prod/a", "a/b"],
    "{a,x/{app,b}}": ["a", "x/app"],
}


@pytest.mark.parametrize("glob", MATCHED)
def test_glob__matches_whole_names_as_doublestar_does(glob: str) -> None:
    """A glob is of the whole name; ** stands for any number of path elements."""
    assert MATCHED[glob] == [
        name for name in REPOSITORIES if Globs.of([glob], Subject.REPOSITORY).matches(name)
    ]


REFUSED = [
    ("Prod/**", Subject.REPOSITORY, "'P' in Prod matches nothing"),
    ("a**", Subject.REPOSITORY, "whole path elements"),
    ("a//b", Subject.REPOSITORY, "empty path element"),
    ("/a", Subject.REPOSITORY, "empty path element"),
    ("a b", Subject.TAG, "matches nothing"),
    ("a/b", Subject.TAG, "'/' in a/b matches nothing"),
    ("a\\*", Subject.TAG, "matches nothing"),
    ("{a", Subject.TAG, "stands alone"),
    ("a}", Subject.TAG, "stands alone"),
    ("[a", Subject.TAG, "has no ]"),
    ("[]", Subject.TAG, "has no ]"),
    ("[!]", Subject.TAG, "names no character"),
    ("[z-a]", Subject.TAG, "no range"),
    ("[/]", Subject.TAG, "matches no character"),
    ("", Subject.TAG, "1 to 512"),
    ("{a,b}" * 7, Subject.TAG, "more than 64"),
    ("{" * 300 + "}" * 300, Subject.TAG, "1 to 512"),
]


@pytest.mark.parametrize(("glob", "subject", "said"), REFUSED)
def test_glob__that_can_match_nothing_is_refused(glob: str, subject: Subject, said: str) -> None:
    """What is no glob, or of no name there is, is refused with the reason."""
    with pytest.raises(ValueError, match=said.replace("*", r"\*").replace("]", r"\]")):
        parse_glob(glob, subject)


elements = st.text("ab-", min_size=1, max_size=3) | st.sampled_from(
    ["*", "**", "a*", "?", "[ab]", "[!a]", "{a,ab}*"]
)
globs = st.lists(elements, min_size=1, max_size=3).map("/".join)
repositories = st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(globs, repositories)
def test_machine__agrees_with_the_expression(glob: str, name: str) -> None:
    """The machine that is reasoned with reads every name as the expression that is matched with."""
    parsed = parse_glob(glob, Subject.REPOSITORY)
    machine = Machine([parsed])
    states = machine.start
    for character in name:
        states = machine.step(states, character)
    expected = compile_expression(parsed.expression, groups=False).fullmatch(name) is not None
    assert expected == machine.accepts(states) == Globs.of([glob], Subject.REPOSITORY).matches(name)


@given(st.lists(globs, min_size=1, max_size=2), st.lists(globs, max_size=3))
def test_find_name__finds_one_or_there_is_none(inside: list[str], outside: list[str]) -> None:
    """A name that is found is a repository's and fulfils what was wanted; where none is found no short name does."""
    sets = [[parse_glob(each, Subject.REPOSITORY) for each in side] for side in (inside, outside)]
    found = find_name(Subject.REPOSITORY, sets, lambda truths: truths[0] and not truths[1])
    chosen, hidden = Globs.of(inside, Subject.REPOSITORY), Globs.of(outside, Subject.REPOSITORY)
    if found is not None:
        assert is_repository_name(found)
        assert chosen.matches(found)
        assert not hidden.matches(found)
        return
    for length in range(1, 5):
        for name in map("".join, itertools.product("ab/-", repeat=length)):
            assert not (is_repository_name(name) and chosen.matches(name) and not hidden.matches(name)), name


def tags(*patterns: str) -> Globs:
    return Globs.of(patterns, Subject.TAG)


EMPTY: list[tuple[list[Selector], list[Selector], bool]] = [
    ([names(["latest"])], [tags("l*")], True),
    ([tags("l*")], [names(["latest"])], False),
    ([Without(Regexes.of(["a.*"]), ALL_TAGS)], [], True),
    ([Without(tags("pr-*"), tags("p*"))], [], True),
    (
        [Without(tags("pr-*"), Regexes.of([".*"]))],
        [],
        False,
    ),  # true, and not certain: regexes are not looked into
    ([Regexes.of(["a.*"])], [Regexes.of(["a.*"])], True),
    ([Versions.of("*")], [tags("v*")], False),
    ([Versions.of("*")], [ALL_TAGS], True),
    ([Combined((tags("a*"), tags("b*")), every=True)], [], True),
    ([Combined((tags("a*"), tags("*b")), every=True)], [], False),
    ([Combined((tags("a*"), tags("b*")), every=False)], [tags("[a-c]*")], True),
    ([tags("a*"), tags("*z")], [tags("*y")], False),
    ([tags("[a-m]*"), tags("[k-z]*")], [tags("[klm]*")], True),
]


@pytest.mark.parametrize(("chosen", "hidden_by", "expected"), EMPTY)
def test_is_empty__is_certain(chosen: list[Selector], hidden_by: list[Selector], expected: bool) -> None:
    """A selector is called empty, or hidden, only where no name can be in it."""
    assert expected == is_empty(Subject.TAG, chosen, hidden_by)


SELECTED: list[tuple[Selector, str, bool]] = [
    (names(["latest"]), "latest", True),
    (names(["latest"]), "latest-1", False),
    (tags("v[0-9]*"), "v1", True),
    (tags("v[0-9]*"), "vnext", False),
    (tags("pr-*"), "pr-", True),
    (tags("**"), "anything", True),
    (Regexes.of(["(?P<branch>[a-z]+)-\\d+"]), "main-7", True),
    (Regexes.of(["main"]), "main-7", False),
    (Versions.of("*"), "v1.2.3", True),
    (Versions.of("*"), "2.0", False),
    (Versions.of(">=1.2 <2"), "1.10.0", True),
    (Versions.of(">=1.2 <2"), "2.0.0-rc.1", True),
    (Versions.of(">=1.2 <2"), "2.0.0", False),
    (Versions.of("=1.2.0"), "1.2.0_build.7", True),
    (Versions.of(">1.2.0 <=1.3"), "1.2.0", False),
    (Without(tags("v*"), tags("*-rc")), "v1-rc", False),
]


@pytest.mark.parametrize(("selector", "tag", "expected"), SELECTED)
def test_selector__chooses_whole_tags(selector: Selector, tag: str, expected: bool) -> None:
    """Every way of choosing is of the whole tag."""
    parse_tag_name(tag)
    assert expected == selector.matches(tag)


@pytest.mark.parametrize("pattern", ["/foo", "a b", "$", "v/.*", "", "(?<!a)b", "("])
def test_regex__that_matches_no_tag_is_refused(pattern: str) -> None:
    """An expression that RE2 does not take, or whose beginning no tag has, is refused."""
    with pytest.raises(ValueError, match=r".+"):
        Regexes.of([pattern])


@pytest.mark.parametrize("text", ["", "1.x", ">=1.2.3.4", "=> 1", "latest", ">=1 || <2"])
def test_versions__other_bounds_are_refused(text: str) -> None:
    """Bounds are comparisons that must all hold, nothing else."""
    with pytest.raises(ValueError, match="write"):
        Versions.of(text)
