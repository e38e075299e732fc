"""The whole file of policies: from its bytes to values, or to everything that is wrong with it, each with its line.

1. ``yaml_tree`` reads YAML and knows the line of everything.
2. The models (here, and ``cleanup_document``) say what may stand where; ``model_problems`` puts refusals into words.
3. ``checks`` finds what fits the models and still cannot be meant, as a policy that no repository reaches.

A section that this version cannot run is refused, never taken in silence: whoever wrote it relies on it.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from indexer.policies.checks import check_policies
from indexer.policies.cleanup_document import CleanupPolicy
from indexer.policies.model_problems import problems_of
from indexer.policies.parts import Id, Part, Period, Rate, Repositories, Scope, WindowText
from indexer.policies.problems import PoliciesRefused, Problem
from indexer.policies.rules import (
    CollectedManifests,
    Collection,
    CollectionMode,
    InUseSource,
    Policies,
    without_trash,
)
from indexer.policies.yaml_tree import Node, read_tree

VERSION = 1
NOT_RUN = {
    "verify": "verification of signatures",
    "scan": "scanning",
    "gates": "gates",
    "replicate": "replication",
}
"""Sections of the file that have a name, and that this version cannot run."""

SHORTEST_COLLECTION_GRACE = timedelta(seconds=2)


_DEFAULT = Collection()


class CollectionPart(Part):
    """The section as it stands in the file."""

    mode: CollectionMode = _DEFAULT.mode
    delay: Period = _DEFAULT.delay
    grace: Period = _DEFAULT.grace
    trash_for: Period = _DEFAULT.trash_for
    rate: Rate = _DEFAULT.rate
    manifests: CollectedManifests = _DEFAULT.manifests

    @field_validator("grace")
    @classmethod
    def _long_enough(cls, value: timedelta) -> timedelta:
        if value < SHORTEST_COLLECTION_GRACE:
            raise ValueError(
                "must be 2s or more: so long requests under way are waited for, whatever else is 0s"
            )
        return value


class SourcePart(Part):
    """A source as it stands in the file."""

    id: Id
    scope: Scope = Scope(repositories=Repositories.model_validate({"any": ["**"]}))


class InUsePart(Part):
    """The section as it stands in the file."""

    sources: tuple[SourcePart, ...] = Field(min_length=1)


class Document(Part):
    """The file."""

    version: Literal[1]
    cleanup: tuple[CleanupPolicy, ...] = ()
    collection: CollectionPart = CollectionPart()
    in_use: InUsePart | None = None
    blocked: tuple[WindowText, ...] = ()


def read_policies(content: bytes, *, name: str = "policies") -> Policies:
    """Return what a file says, or raise ``PoliciesRefused`` with all that is wrong. ``name``: as messages call it."""
    try:
        return _read(content)
    except PoliciesRefused as refused:
        raise PoliciesRefused(refused.problems, name=name) from None


def _read(content: bytes) -> Policies:
    tree = read_tree(content)
    _check_sections(tree)
    problems = _not_run(tree)
    left = {key: value for key, value in _mapping(tree).items() if key not in NOT_RUN}
    try:
        document = Document.model_validate(left)
    except ValidationError as error:
        raise PoliciesRefused([*problems, *problems_of(error, tree, Document)]) from None
    policies = tuple(policy.value() for policy in document.cleanup)
    sources = () if document.in_use is None else document.in_use.sources
    in_use = tuple(InUseSource(id=each.id, scope=each.scope.repositories.selector()) for each in sources)
    problems += check_policies(tree, policies, [(source.id, source.scope) for source in in_use])
    if problems:
        raise PoliciesRefused(problems)
    policies = without_trash(policies)
    return Policies(
        sha256=hashlib.sha256(content).hexdigest(),
        cleanup=policies,
        collection=Collection(**document.collection.model_dump()),
        in_use=in_use,
        blocked=document.blocked,
    )


def _check_sections(tree: Node) -> None:
    """Raise where the file is no mapping, or of a version of which nothing else can be said."""
    if not isinstance(tree.value, dict):
        raise PoliciesRefused(
            [Problem(tree.line, "", "a file of policies is a mapping that begins with version: 1")]
        )
    version = tree.child("version")
    if version is None:
        raise PoliciesRefused(
            [Problem(tree.line, "version", "is missing: write version: 1 into the first line")]
        )
    if version.value != VERSION or isinstance(version.value, bool | float):
        found = version.text if version.text is not None else repr(version.plain())
        raise PoliciesRefused(
            [
                Problem(
                    version.line,
                    "version",
                    f"must be {VERSION}, as a number; this program reads no other; got {found}",
                )
            ]
        )


def _not_run(tree: Node) -> list[Problem]:
    return [
        Problem(
            tree.line_of(section),
            section,
            f"this version of the program cannot run {what} yet, and takes no policy that it does not carry out: "
            "leave the section out",
        )
        for section, what in NOT_RUN.items()
        if tree.child(section) is not None
    ]


def _mapping(tree: Node) -> dict[str, Any]:
    plain = tree.plain()
    return plain if isinstance(plain, dict) else {}
