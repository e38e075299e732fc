"""What fits the models and still cannot be meant: names given twice, scopes that are hidden, rules without effect.

An error here is certain: what cannot be decided (a regular expression against a glob) is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from indexer.policies.model_problems import line_at, named, node_at
from indexer.policies.patterns import Subject
from indexer.policies.problems import Problem
from indexer.policies.rules import Delete, Keep, Policy, ProtectTags, Rule
from indexer.policies.selectors import ALL_REPOSITORIES, Selector, is_empty
from indexer.policies.yaml_tree import Node

Place = tuple[str | int, ...]
RULES = ("protect", "keep", "delete")


def check_policies(
    tree: Node, policies: Sequence[Policy], sources: Sequence[tuple[str, Selector]]
) -> list[Problem]:
    """Return what is wrong with policies that were read from a tree, and with the sources of what is in use."""
    found = [
        *_twice(tree, ("cleanup",), [policy.id for policy in policies]),
        *_twice(tree, ("in_use", "sources"), [name for name, _ in sources]),
        *_scopes(tree, policies),
        *(
            ((*("in_use", "sources", number, "scope"),), NO_REPOSITORY)
            for number, (_, scope) in enumerate(sources)
            if is_empty(Subject.REPOSITORY, [scope])
        ),
    ]
    for number, policy in enumerate(policies):
        found += _rules(tree, ("cleanup", number), policy)
    return [Problem(line_at(place, tree), named(place, tree), text) for place, text in found]


NO_REPOSITORY = "no repository is in it: not leaves out everything that any names"
NO_TAG = "no tag is chosen by it: not leaves out everything that is chosen"


def _twice(tree: Node, place: Place, ids: Sequence[str]) -> Iterator[tuple[Place, str]]:
    for number, name in enumerate(ids):
        if name in ids[:number]:
            line = line_at((*place, ids.index(name), "id"), tree)
            yield (*place, number, "id"), f"another one is called {name}, in line {line}"


def _scopes(tree: Node, policies: Sequence[Policy]) -> Iterator[tuple[Place, str]]:
    for number, policy in enumerate(policies):
        place = ("cleanup", number, "scope")
        earlier = policies[:number]
        if is_empty(Subject.REPOSITORY, [policy.scope]):
            yield place, NO_REPOSITORY
        elif earlier and is_empty(Subject.REPOSITORY, [policy.scope], [each.scope for each in earlier]):
            which = _hidden_by(policy, earlier)
            line = line_at(("cleanup", which[-1], "id"), tree)
            names = " and ".join(policies[index].id for index in which)
            text = (
                f"never has a repository: the first policy that matches owns it, and before it {names} (line {line}) "
                f"has all of them; put {policy.id} first, or leave it out"
            )
            yield place, text


def _hidden_by(policy: Policy, earlier: Sequence[Policy]) -> list[int]:
    """Return which earlier policies hide it: one, if one alone does."""
    for number, each in enumerate(earlier):
        if is_empty(Subject.REPOSITORY, [policy.scope], [each.scope]):
            return [number]
    return [
        number
        for number, each in enumerate(earlier)
        if not is_empty(Subject.REPOSITORY, [policy.scope, each.scope])
    ]


def _rules(tree: Node, place: Place, policy: Policy) -> Iterator[tuple[Place, str]]:
    """Yield what is wrong with a policy's rules; what they are is not asked as long as two have one id."""
    places: dict[str, Place] = {}
    unique = True
    for section in RULES:
        listed = node_at((*place, section), tree)
        for number, node in enumerate(
            listed.value if listed is not None and isinstance(listed.value, list) else []
        ):
            here: Place = (*place, section, number)
            name = str(node.plain()["id"])
            if name in places:
                line = line_at((*places[name], "id"), tree)
                yield (*here, "id"), f"another rule of this policy is called {name}, in line {line}"
                unique = False
            places.setdefault(name, here)
    if unique:
        for rule in chain(policy.protect, policy.keep, policy.previous, policy.delete):
            yield from _rule(places[rule.id], rule, policy)
    if policy.budget is not None and not policy.delete:
        yield (*place, "budget"), "takes only what a rule of delete chooses, and there is none: add one"


def _rule(place: Place, rule: Rule, policy: Policy) -> Iterator[tuple[Place, str]]:
    if is_empty(Subject.TAG, [rule.tags]):
        yield (*place, "tags"), NO_TAG
        return
    if is_empty(Subject.REPOSITORY, [rule.repositories]):
        yield (*place, "repositories"), NO_REPOSITORY
        return
    if is_empty(Subject.REPOSITORY, [rule.repositories, policy.scope]):
        yield (*place, "repositories"), f"can never match: none of them is in the scope of {policy.id}"
        return
    if isinstance(rule, Delete):
        stronger = [each for each in (*policy.protect, *policy.keep) if _always_keeps(each, rule, policy)]
        if stronger and is_empty(Subject.TAG, [rule.tags], [each.tags for each in stronger]):
            names = " and ".join(each.id for each in stronger)
            always = "always keeps" if len(stronger) == 1 else "always keep"
            yield place, f"can never delete anything: {names} {always} every tag that it chooses"
    elif isinstance(rule, Keep):
        among = None if rule.newest is None else rule.newest.among
        if among is not None and is_empty(Subject.TAG, [among]):
            yield (*place, "newest", "among"), NO_TAG


def _always_keeps(rule: Rule, delete: Rule, policy: Policy) -> bool:
    """Tell whether a rule keeps its tags by their names alone, wherever another would delete."""
    if isinstance(rule, Keep):
        if rule.newest is not None or rule.pulled_within is not None or rule.pushed_within is not None:
            return False
    elif not isinstance(rule, ProtectTags):
        return False
    return rule.repositories is ALL_REPOSITORIES or is_empty(
        Subject.REPOSITORY, [policy.scope, delete.repositories], [rule.repositories]
    )
