"""Policies of Harbor, GitLab and ECR, translated, delete what the original deletes, and never more.

Each system's semantics is written down here a second time, as a model that decides over a small inventory; the
translation is evaluated over the same. Equal where nothing is left out, never more elsewhere.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.common.errors import ConfigurationError
from indexer.policies.document import read_policies
from indexer.policies.facts import Coverage, Pull
from indexer.policies.importing import ecr, gitlab, harbor
from indexer.policies.importing.writing import NotTranslated
from indexer.policies.rules import owner_of
from indexer.policies.verdicts import Decision
from tests.fixtures.cleanup import ago, d, evaluated, manifest, repository, tag, without_brake
from tests.fixtures.selection import examples

MANY = settings(max_examples=examples(200))
ALWAYS = Coverage(pulls_since=ago(20_000))
"""What was never pulled was never pulled."""


@dataclass(frozen=True)
class Image:
    """An image with one tag, or none; when it was pushed and pulled, in days before now; all instants differ."""

    tag: str | None
    pushed: float
    pulled: float | None


NAMES = ["latest", "v1", "v2", "v10", "main-1", "main-2", "pr-1", "pr-2", "pr-30", "tmp", "1.0.0", "vx-pr"]
PATTERNS = {
    "**": r".*",
    "": r".*",
    "v*": r"v.*",
    "pr-*": r"pr-.*",
    "{v*,main-*}": r"v.*|main-.*",
    "pr-?": r"pr-.",
    "[a-m]*": r"[a-m].*",
}
"""Globs, and what they are, by hand."""


@st.composite
def inventories(draw: st.DrawFn, *, untagged: int = 0, all_pulled: bool = False) -> list[Image]:
    names: list[str | None] = list(draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=10)))
    names += [None] * draw(st.integers(0, untagged))
    instants = draw(
        st.lists(st.integers(2, 200), unique=True, min_size=2 * len(names), max_size=2 * len(names))
    )
    return [
        Image(
            name,
            instants[2 * number] + 0.5,
            instants[2 * number + 1] + 0.25 if all_pulled or draw(st.booleans()) else None,
        )
        for number, name in enumerate(names)
    ]


def deleted_here(text: str, images: Sequence[Image], name: str) -> set[int]:
    """The numbers of the images whose tag, or, without one, whose manifest goes by the translation."""
    found = read_policies(text.encode()).cleanup
    owner = owner_of(name, found)
    assert owner is not None
    facts = repository(
        [tag(each.tag, f"i{number}", each.pushed) for number, each in enumerate(images) if each.tag],
        [manifest(f"i{number}", each.pushed) for number, each in enumerate(images)],
        name=name,
        pulls=[Pull(d(f"i{number}"), ago(each.pulled)) for number, each in enumerate(images) if each.pulled],
    )
    verdicts = evaluated(without_brake(owner), facts, coverage=ALWAYS).evaluation.verdicts
    tags = {each.tag for each in verdicts if each.decision is Decision.DELETE and each.tag}
    digests = {each.digest for each in verdicts if each.decision is Decision.DELETE and each.tag is None}
    return {
        number
        for number, each in enumerate(images)
        if (each.tag in tags if each.tag else d(f"i{number}") in digests)
    }


# --- Harbor ----------------------------------------------------------------------------------------------


def harbor_deletes(rules: Sequence[dict[str, Any]], images: Sequence[Image], name: str) -> set[int]:
    """Harbor: in a repository that any rule is about, what no rule retains goes."""
    retained: set[int] = set()
    about = False
    for rule in rules:
        selector = rule["scope_selectors"]["repository"][0]
        inside = re.fullmatch(PATTERNS[selector["pattern"]], name) is not None
        if rule["disabled"] or inside != (selector["decoration"] == "repoMatches"):
            continue
        about = True
        of = rule["tag_selectors"][0]
        chosen = [
            number
            for number, each in enumerate(images)
            if each.tag
            and (re.fullmatch(PATTERNS[of["pattern"]], each.tag) is not None)
            == (of["decoration"] == "matches")
        ]
        value = rule["params"].get(rule["template"], 0)
        by_push = sorted(chosen, key=lambda number: images[number].pushed)
        by_pull = sorted(chosen, key=lambda number: images[number].pulled or 99_999)
        retained |= set(
            {
                "always": chosen,
                "latestPushedK": by_push[:value],
                "latestPulledN": by_pull[:value],
                "nDaysSinceLastPush": [number for number in chosen if images[number].pushed <= value],
                "nDaysSinceLastPull": [
                    number for number in chosen if (images[number].pulled or 99_999) <= value
                ],
            }[rule["template"]]
        )
    return {number for number in range(len(images)) if number not in retained} if about else set()


@st.composite
def harbor_rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    templates = ["always", "latestPushedK", "latestPulledN", "nDaysSinceLastPush", "nDaysSinceLastPull"]
    found = []
    for _ in range(draw(st.integers(1, 4))):
        template = draw(st.sampled_from(templates))
        found.append(
            {
                "disabled": draw(st.sampled_from([False, False, True])),
                "action": "retain",
                "template": template,
                "params": {} if template == "always" else {template: draw(st.integers(0, 60))},
                "tag_selectors": [
                    {
                        "kind": "doublestar",
                        "decoration": draw(st.sampled_from(["matches", "excludes"])),
                        "pattern": draw(st.sampled_from(list(PATTERNS))),
                    }
                ],
                "scope_selectors": {
                    "repository": [
                        {
                            "kind": "doublestar",
                            "decoration": draw(st.sampled_from(["repoMatches", "repoExcludes"])),
                            "pattern": draw(st.sampled_from(["**", "v*", "[a-m]*"])),
                        }
                    ]
                },
            }
        )
    return found


def harbor_file(rules: Sequence[dict[str, Any]]) -> str:
    whole = {
        "algorithm": "or",
        "rules": rules,
        "trigger": {"kind": "Schedule", "settings": {"cron": "0 0 0 * * *"}},
    }
    return harbor.translate(json.dumps(whole).encode(), "library")


@MANY
@given(harbor_rules(), inventories(all_pulled=True), st.sampled_from(["app", "vault", "zoo"]))
def test_harbor__deletes_the_same(rules: list[dict[str, Any]], images: list[Image], name: str) -> None:
    """Of images with one tag each the translation deletes exactly what Harbor does."""
    assert harbor_deletes(rules, images, name) == deleted_here(harbor_file(rules), images, f"library/{name}")


@MANY
@given(harbor_rules(), inventories(untagged=3), st.sampled_from(["app", "vault", "zoo"]))
def test_harbor__never_deletes_more(rules: list[dict[str, Any]], images: list[Image], name: str) -> None:
    """With images that were never pulled, or have no tag, it deletes nothing that Harbor keeps."""
    assert deleted_here(harbor_file(rules), images, f"library/{name}") <= harbor_deletes(rules, images, name)


def harbor_rule(template: str, params: dict[str, Any], **more: Any) -> dict[str, Any]:
    selector = {"kind": "doublestar", "decoration": "matches", "pattern": "**"}
    return {
        "template": template,
        "params": params,
        "tag_selectors": [selector],
        "scope_selectors": {"repository": [selector | {"decoration": "repoMatches"}]},
        **more,
    }


ODD_RULES = [
    (harbor_rule("latestActiveK", {"latestActiveK": 1}), "", {1}),
    (harbor_rule("somethingNew", {"somethingNew": 1}), "is not known here; keeps all", set()),
    (harbor_rule("latestPushedK", {"latestPushedK": "3"}), "is not known here; keeps all", set()),
    (harbor_rule("latestPushedK", {}, action="immutable"), "is not known here; keeps all", set()),
    (
        harbor_rule("always", {}, tag_selectors=[{"kind": "label", "decoration": "with", "pattern": "x"}]),
        "its tags cannot be translated; keeps all",
        set(),
    ),
    (
        harbor_rule(
            "latestPushedK",
            {"latestPushedK": 1},
            scope_selectors={"repository": [{"decoration": "repoMatches", "pattern": "Upper/**"}]},
        ),
        "its repositories cannot be translated; keeps in all",
        set(),
    ),
    (harbor_rule("always", {}), "can never delete anything", set()),
]


@pytest.mark.parametrize(("rule", "note", "expected"), ODD_RULES)
def test_harbor__what_cannot_be_translated_keeps(rule: dict[str, Any], note: str, expected: set[int]) -> None:
    """A rule that is not known, or cannot be said, keeps all that it may be about, and a comment says so."""
    images = [Image("a", 3, 50), Image("b", 40, 45), Image("c", 60, 2)]
    text = harbor_file([rule])
    assert note in " ".join(text.replace("#", " ").split())
    assert expected == deleted_here(text, images, "library/app")


# --- GitLab ----------------------------------------------------------------------------------------------

EXPRESSIONS = [".*", "v.*", "(?:pr|main)-.+", "latest", None]


def gitlab_deletes(policy: dict[str, Any], images: Sequence[Image]) -> set[int]:
    """GitLab: without latest; by name; without the newest keep_n; only those that are old enough."""
    chosen = [number for number, each in enumerate(images) if each.tag and each.tag != "latest"]
    wanted, kept = policy["name_regex"], policy["name_regex_keep"]
    chosen = [number for number in chosen if wanted and re.fullmatch(wanted, images[number].tag or "")]
    chosen = [number for number in chosen if not (kept and re.fullmatch(kept, images[number].tag or ""))]
    chosen = sorted(chosen, key=lambda number: images[number].pushed)[policy["keep_n"] or 0 :]
    oldest = int((policy["older_than"] or "0d").removesuffix("d"))
    return {number for number in chosen if images[number].pushed >= oldest}


gitlab_policies = st.fixed_dictionaries(
    {
        "enabled": st.booleans(),
        "cadence": st.just("1d"),
        "keep_n": st.sampled_from([None, 1, 2, 5]),
        "older_than": st.sampled_from([None, "7d", "30d", "90d"]),
        "name_regex": st.sampled_from(EXPRESSIONS),
        "name_regex_keep": st.sampled_from(EXPRESSIONS),
    }
)


@MANY
@given(gitlab_policies, inventories(untagged=2))
def test_gitlab__deletes_the_same(policy: dict[str, Any], images: list[Image]) -> None:
    """The translation deletes exactly what GitLab does."""
    project = {"path_with_namespace": "Group/App", "container_expiration_policy": policy}
    text = gitlab.translate(json.dumps(project).encode(), None)
    for name in ("group/app", "group/app/web"):
        assert gitlab_deletes(policy, images) == deleted_here(text, images, name)


def test_gitlab__what_is_kept_by_name_takes_no_place() -> None:
    """keep_n counts neither latest nor what name_regex_keep keeps, however new they are."""
    policy = {"enabled": True, "keep_n": 1, "older_than": None, "name_regex": ".*", "name_regex_keep": "v.*"}
    images = [Image("latest", 2, None), Image("v1", 3, None), Image("pr-1", 4, None), Image("pr-2", 5, None)]
    text = gitlab.translate(json.dumps(policy).encode(), "a/b")
    assert {3} == gitlab_deletes(policy, images) == deleted_here(text, images, "a/b")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"name_regex": "("}, "Nothing is deleted: name_regex"),
        ({"name_regex_keep": "(?!a)"}, "Nothing is deleted: name_regex_keep"),
        ({"older_than": "soon"}, "Nothing is deleted: older_than"),
        ({"name_regex": ""}, "It has no name_regex"),
        ({"enabled": False}, "is not enabled"),
    ],
)
def test_gitlab__what_cannot_be_translated_keeps(change: dict[str, Any], note: str) -> None:
    """An expression or a period that is none here deletes nothing, and a comment says so."""
    policy = {
        "enabled": True,
        "keep_n": 1,
        "older_than": "7d",
        "name_regex": ".*",
        "name_regex_keep": "v.*",
    } | change
    text = gitlab.translate(json.dumps(policy).encode(), "a/b")
    assert note in text
    assert ("delete:" in text) == ("enabled" in change)


# --- ECR -------------------------------------------------------------------------------------------------


def ecr_deletes(rules: Sequence[dict[str, Any]], images: Sequence[Image]) -> set[int]:
    """ECR: each image belongs to the rule of the lowest priority that selects it; rules count all that they select."""
    expired: set[int] = set()
    claimed: set[int] = set()
    for rule in sorted(rules, key=lambda each: int(each["rulePriority"])):
        selection = rule["selection"]
        chosen = [number for number, each in enumerate(images) if ecr_selects(selection, each.tag)]
        if selection["countType"] == "imageCountMoreThan":
            going = sorted(chosen, key=lambda number: images[number].pushed)[selection["countNumber"] :]
        else:
            going = [number for number in chosen if images[number].pushed >= selection["countNumber"]]
        expired |= {number for number in going if number not in claimed}
        claimed |= set(chosen)
    return expired


def ecr_selects(selection: dict[str, Any], name: str | None) -> bool:
    if selection["tagStatus"] != "tagged":
        return selection["tagStatus"] == "any" or name is None
    patterns = [
        *selection.get("tagPatternList", []),
        *(f"{each}*" for each in selection.get("tagPrefixList", [])),
    ]
    expressions = [re.escape(pattern).replace(r"\*", ".*") for pattern in patterns]
    return name is not None and all(re.fullmatch(each, name) for each in expressions)


@st.composite
def ecr_rules(draw: st.DrawFn, *, most: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(["tagPatternList", "tagPrefixList"]))
        words = ["pr", "v", "main-", "v1"] if key == "tagPrefixList" else ["pr-*", "*1", "v*", "*", "*-*"]
        listed = draw(st.lists(st.sampled_from(words), min_size=1, max_size=most, unique=True))
        found.append(ecr_rule(draw, number * 10 + 1, {"tagStatus": "tagged", key: listed}))
    if draw(st.booleans()):
        found.append(ecr_rule(draw, draw(st.sampled_from([0, 500])), {"tagStatus": "untagged"}))
    if draw(st.booleans()):
        found.append(ecr_rule(draw, 999, {"tagStatus": "any"}))
    return draw(st.permutations(found))


def ecr_rule(draw: st.DrawFn, priority: int, selection: dict[str, Any]) -> dict[str, Any]:
    count = draw(st.sampled_from(["imageCountMoreThan", "sinceImagePushed"]))
    unit = {} if count == "imageCountMoreThan" else {"countUnit": "days"}
    number = draw(st.integers(1, 4) if count == "imageCountMoreThan" else st.integers(2, 150))
    selection = selection | {"countType": count, "countNumber": number} | unit
    return {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}


def ecr_file(rules: Sequence[dict[str, Any]]) -> str:
    answer = {"repositoryName": "team/app", "lifecyclePolicyText": json.dumps({"rules": rules})}
    return ecr.translate(json.dumps(answer).encode(), None)


@MANY
@given(ecr_rules(most=1), inventories())
def test_ecr__deletes_the_same(rules: list[dict[str, Any]], images: list[Image]) -> None:
    """Of images with one tag each the translation expires exactly what ECR does."""
    assert ecr_deletes(rules, images) == deleted_here(ecr_file(rules), images, "team/app")


@MANY
@given(ecr_rules(most=2), inventories(untagged=3))
def test_ecr__never_deletes_more(rules: list[dict[str, Any]], images: list[Image]) -> None:
    """With lists of patterns that must all match, and with untagged images, it expires nothing that ECR keeps."""
    assert deleted_here(ecr_file(rules), images, "team/app") <= ecr_deletes(rules, images)


def test_ecr__untagged_by_age() -> None:
    """Untagged images go by the age of their push, as in ECR, whatever rules for tagged ones come first."""
    rule = {
        "rulePriority": 1,
        "selection": {
            "tagStatus": "untagged",
            "countType": "sinceImagePushed",
            "countUnit": "days",
            "countNumber": 7,
        },
        "action": {"type": "expire"},
    }
    images = [Image(None, 8, None), Image(None, 6, None), Image("a", 100, None)]
    assert {0} == ecr_deletes([rule], images) == deleted_here(ecr_file([rule]), images, "team/app")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            {"selection": {"countType": "sinceImagePulled"}},
            "Rule 1 (expire, sinceImagePulled) cannot be translated",
        ),
        ({"action": {"type": "transition"}}, "Rule 1 (transition, sinceImagePushed) cannot be translated"),
        ({"selection": {"tagPatternList": ["a/b*"]}}, "Rule 1: its tags cannot be translated"),
        ({"selection": {"countUnit": "hours"}}, "Rule 1 (expire, sinceImagePushed) cannot be translated"),
    ],
)
def test_ecr__what_cannot_be_translated_keeps(change: dict[str, Any], note: str) -> None:
    """A rule that expires by something else keeps what it selects, from later rules, too."""
    selection = {
        "tagStatus": "tagged",
        "tagPatternList": ["*"],
        "countType": "sinceImagePushed",
        "countNumber": 5,
    }
    first = {
        "rulePriority": 1,
        "selection": selection | {"countUnit": "days"} | change.get("selection", {}),
        "action": change.get("action", {"type": "expire"}),
    }
    later = {
        "rulePriority": 2,
        "selection": selection | {"countUnit": "days"},
        "action": {"type": "expire"},
    }
    text = ecr_file([first, later])
    assert note in text
    assert set() == deleted_here(text, [Image("a", 100, None)], "team/app")


# --- all -------------------------------------------------------------------------------------------------

Translate = Callable[[bytes, str | None], str]


@pytest.mark.parametrize("translate", [harbor.translate, gitlab.translate, ecr.translate])
@pytest.mark.parametrize(
    "content", [b"", b"[", b"[]", b"1", b'{"rules": 1}', b'{"a": 1}', b"\xff", b"[" * 50_000]
)
def test_other_files__are_refused(translate: Translate, content: bytes) -> None:
    """What is no policy of that system is refused in one line."""
    with pytest.raises(NotTranslated) as refused:
        translate(content, "a")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("translate", "content"),
    [
        (harbor.translate, {"rules": []}),
        (gitlab.translate, {"enabled": True}),
        (ecr.translate, {"rules": []}),
    ],
)
def test_project__must_be_known(translate: Translate, content: dict[str, Any]) -> None:
    """A file that does not say whose it is needs --project."""
    with pytest.raises(ConfigurationError, match="--project"):
        translate(json.dumps(content).encode(), None)
    assert "mode: preview" in translate(json.dumps(content).encode(), "a/b")


def test_command__import(tmp_path: Path) -> None:
    """`indexer policies import` prints a file that `check` takes."""
    source, target = tmp_path / "ecr.json", tmp_path / "policies.yaml"
    source.write_text(json.dumps({"repositoryName": "team/app", "lifecyclePolicyText": '{"rules": []}'}))
    command = [sys.executable, "-m", "indexer", "policies"]
    done = subprocess.run([*command, "import", "ecr", source], capture_output=True, text=True, check=True)
    target.write_text(done.stdout)
    subprocess.run([*command, "check", target], check=True, capture_output=True)
    done = subprocess.run([*command, "import", "harbor", source], capture_output=True, text=True, check=False)
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("indexer: not a tag retention of Harbor")
