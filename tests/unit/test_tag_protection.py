"""Which tags a token may not push or delete."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.api.judgement import begins_within
from indexer.inventory.tag_protection import (
    NONE,
    Denial,
    Protection,
    TagPatterns,
    judge_deletion,
    judge_push,
    may_be_pushed_once,
    read_patterns,
)
from indexer.oci.reference import TagName

RELEASE, BRANCH = TagName("v1.2.0"), TagName("main")
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True).map(TagName)
PATTERNS = st.lists(st.sampled_from(["^v", "v$", r"^v\d+\.\d+$", "latest", "", "^(?:a|b)-", "["]), max_size=3)


def reason(denied: Denial | None) -> Protection | None:
    return None if denied is None else denied.reason


@pytest.mark.parametrize(
    ("pattern", "tag", "matches"),
    [
        ("^v.*$", "v1.0", True),
        ("^v.*$", "rc-v1.0", False),
        ("v1", "rc-v1.0", True),  # anywhere in the name, as in GitLab's registry
        (r"^v\d+$", "v10", True),
        (r"^v\d+$", "v10a", False),
        (r"v\d+\z", "v10", True),
        ("latest", "Latest", False),
        ("(?i)latest", "Latest", True),
        ("", "anything", True),
        ("(a*)*$", "a" * 128, True),  # linear time, whatever it is
        (r"\Qv1.0\E", "v1.0", True),
        (r"\Qv1.0\E", "v1x0", False),
    ],
)
def test_pattern__is_of_re2_and_not_anchored(pattern: str, tag: str, matches: bool) -> None:
    """What GitLab's registry (Go) matches."""
    name = TagName(tag)
    expected = Protection.PROTECTED if matches else None
    assert expected == reason(judge_push(TagPatterns(push=(pattern,)), name, exists=False))
    assert expected == reason(judge_deletion(TagPatterns(delete=(pattern,)), [name]))


def test_push__of_an_immutable_tag_is_allowed_once() -> None:
    """As long as it is not there; a protected one never; others always."""
    patterns = TagPatterns(push=("^main$",), delete=("^old",), immutable=("^v",))
    assert None is judge_push(patterns, RELEASE, exists=False)
    assert Protection.IMMUTABLE is reason(judge_push(patterns, RELEASE, exists=True))
    assert Protection.PROTECTED is reason(judge_push(patterns, BRANCH, exists=False))
    assert None is judge_push(patterns, TagName("old-1"), exists=True)
    assert may_be_pushed_once(patterns, RELEASE)
    assert not may_be_pushed_once(patterns, TagName("old-1"))


def test_deletion__is_denied_for_any_of_the_tags() -> None:
    """Protected or immutable; the rights to push do not count."""
    patterns = TagPatterns(push=("^main$",), delete=("^old",), immutable=("^v",))
    assert None is judge_deletion(patterns, [])
    assert None is judge_deletion(patterns, [BRANCH, TagName("dev")])
    assert Denial(tag=RELEASE, reason=Protection.IMMUTABLE) == judge_deletion(patterns, [BRANCH, RELEASE])
    assert Protection.PROTECTED is reason(judge_deletion(patterns, [TagName("old-1")]))


@pytest.mark.parametrize("pattern", ["[", "(", "(?P<x", r"\1", "a{2000}" * 50, "(?=v)"])
def test_pattern__that_cannot_be_read_protects_every_tag(pattern: str) -> None:
    """Also beside one that can be; a rule that is not understood is not a rule that is not there."""
    patterns = TagPatterns(push=("^x", pattern), delete=(pattern,), immutable=(pattern,))
    assert Protection.UNREADABLE is reason(judge_push(patterns, BRANCH, exists=False))
    assert Protection.UNREADABLE is reason(judge_deletion(patterns, [BRANCH]))
    only = TagPatterns(immutable=(pattern,))
    assert None is judge_push(only, BRANCH, exists=False)
    assert Protection.UNREADABLE is reason(judge_push(only, BRANCH, exists=True))


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        (None, NONE),
        ("text", NONE),
        ({}, NONE),
        ({"project_path": "team/app", "project_id": 1}, NONE),
        ({"tag_deny_access_patterns": {"push": [], "delete": []}}, NONE),
        ({"tag_deny_access_patterns": {"push": ["^v"]}}, TagPatterns(push=("^v",))),
        ({"tag_deny_access_patterns": {"delete": ["^v"]}}, TagPatterns(delete=("^v",))),
        (
            {
                "tag_immutable_patterns": ["^a", "^b"],
                "tag_deny_access_patterns": {"push": ["c"], "delete": ["d"]},
            },
            TagPatterns(push=("c",), delete=("d",), immutable=("^a", "^b")),
        ),
        ({"tag_immutable_patterns": None, "tag_deny_access_patterns": None}, NONE),
        ({"tag_deny_access_patterns": {"push": None, "delete": None}}, NONE),
        ({"tag_immutable_patterns": False}, TagPatterns(unreadable=True)),
        ({"tag_immutable_patterns": "^v"}, TagPatterns(unreadable=True)),
        ({"tag_immutable_patterns": ["^v", 1]}, TagPatterns(unreadable=True)),
        ({"tag_deny_access_patterns": ["^v"]}, TagPatterns(unreadable=True)),
        ({"tag_deny_access_patterns": "^v"}, TagPatterns(unreadable=True)),
        ({"tag_deny_access_patterns": {"push": {"^v": 1}}}, TagPatterns(unreadable=True)),
    ],
)
def test_meta__is_read_as_gitlab_writes_it(meta: Any, expected: TagPatterns) -> None:
    """Other issuers' meta restricts nothing; GitLab's in another form restricts everything."""
    assert expected == read_patterns(meta)
    assert bool(expected) is (expected != NONE)


@given(push=PATTERNS, delete=PATTERNS, immutable=PATTERNS, tag=NAMES, exists=st.booleans())
def test_patterns__judge_the_same_when_stored(
    push: list[str], delete: list[str], immutable: list[str], tag: TagName, exists: bool
) -> None:
    """What is stored and read again decides alike; both of two restrict, and more never restrict less."""
    patterns = TagPatterns(push=tuple(push), delete=tuple(delete), immutable=tuple(immutable))
    again = read_patterns(patterns.as_meta())
    assert judge_push(patterns, tag, exists=exists) == judge_push(again, tag, exists=exists)
    assert judge_deletion(patterns, [tag]) == judge_deletion(again, [tag])
    both = patterns | TagPatterns(delete=("^z",))
    if judge_deletion(patterns, [tag]) is not None:
        assert judge_deletion(both, [tag]) is not None
    assert TagPatterns(unreadable=True) == read_patterns(TagPatterns(unreadable=True).as_meta())


@pytest.mark.parametrize(
    ("expires", "seconds"),
    [(300, 0.0), (-1000, 0.0), (600, 300.0), (3540, 3240.0), (10**9, 3240.0), (None, 3240.0)],
)
def test_notice__lasts_as_long_as_its_push_may_begin(expires: int | None, seconds: float) -> None:
    """Until the registry takes the token no more; the usual notice is enough for GitLab's five minutes."""
    assert seconds == begins_within(None if expires is None else 10_000 + expires, now=10_000.0)
