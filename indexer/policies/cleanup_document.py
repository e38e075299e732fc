"""The models of ``cleanup``: what may stand in a policy, and the values of ``rules`` that it becomes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictBool, StrictInt, model_validator

from indexer.policies import rules
from indexer.policies.grammar import Window
from indexer.policies.limits_document import Brake, Budget, Grace, Run, Undo, Use
from indexer.policies.parts import (
    Id,
    Part,
    Period,
    Repositories,
    Scope,
    TagGlob,
    Tags,
    Text,
)
from indexer.policies.patterns import Subject
from indexer.policies.selectors import ALL_REPOSITORIES, ALL_TAGS, Globs, Regexes, Selector, Versions, Without

Count = Annotated[StrictInt, Field(ge=1, le=1_000_000)]
RESERVED = frozenset({"untagged", "orphan_referrer", "budget"})
"""What verdicts call deletions that no rule of ``delete`` made."""
VERSION_PARTS = ("major", "minor", "patch")


class Within(Part):
    """A period that ends now."""

    within: Period


class For(Part):
    """A period that ends now, all of it."""

    for_: Period = Field(alias="for")


class InUse(Part):
    """Whose report counts: a source, or ``any``."""

    source: Id  # or any


class _Rule(Part):
    id: Id
    repositories: Repositories | None = None
    tags: Tags | None = None

    def common(self) -> dict[str, Any]:
        """Return what every rule has."""
        where: Selector = ALL_REPOSITORIES if self.repositories is None else self.repositories.selector()
        tags: Selector = ALL_TAGS if self.tags is None else self.tags.selector()
        return {"id": self.id, "repositories": where, "tags": tags}


class Protect(_Rule):
    """A rule of ``protect``."""

    in_use: InUse | None = None
    hold: Literal["any"] | None = None
    immutable: StrictBool = False

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.tags, self.in_use, self.hold)) != 1:
            raise ValueError("a rule of protect has one of tags, in_use and hold")
        if self.immutable and self.tags is None:
            raise ValueError("immutable is said of tags: it needs the key tags")
        return self

    def value(self) -> rules.Protect:
        """Return what it says."""
        if self.tags is not None:
            return rules.ProtectTags(**self.common(), immutable=self.immutable)
        if self.in_use is None:
            return rules.ProtectHeld(**self.common())
        source = self.in_use.source
        return rules.ProtectInUse(**self.common(), sources=None if source == "any" else frozenset({source}))


class Newest(Part):
    """The newest of each group."""

    count: Count
    by: rules.By = rules.By.PUSHED
    per: tuple[Text, ...] = ()
    count_as: rules.CountAs | None = None
    prereleases: rules.Prereleases | None = None
    among: Literal["matched", "deletable"] | Tags = "matched"

    def value(self) -> rules.Newest:
        """Return what it says."""
        by_version = self.by is rules.By.SEMVER
        return rules.Newest(
            count=self.count,
            by=self.by,
            per=self.per,
            count_as=self.count_as or (rules.CountAs.VERSIONS if by_version else rules.CountAs.TAGS),
            prereleases=self.prereleases or rules.Prereleases.SEPARATE,
            among=self.among.selector() if isinstance(self.among, Tags) else None,
            among_deletable=self.among == "deletable",
        )


class PreviousOf(Part):
    """What tags pointed to before."""

    of: tuple[TagGlob, ...] = Field(min_length=1)
    count: Count
    within: Period | None = None


class Keep(_Rule):
    """A rule of ``keep``."""

    newest: Newest | None = None
    pulled: Within | None = None
    pushed: Within | None = None
    previous: PreviousOf | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        others = [self.tags, self.newest, self.pulled, self.pushed]
        if self.previous is not None and any(each is not None for each in others):
            raise ValueError(
                "previous stands alone in its rule: it keeps digests, whatever tags they have now"
            )
        if self.previous is None and all(each is None for each in others):
            raise ValueError("a rule of keep has at least one of tags, newest, pulled, pushed and previous")
        if self.newest is not None:
            _check_newest(self.newest, self.tags)
        return self

    def value(self) -> rules.Keep | rules.Previous:
        """Return what it says."""
        if self.previous is not None:
            of = {"tags": Globs.of(self.previous.of, Subject.TAG)}
            return rules.Previous(
                **(self.common() | of), count=self.previous.count, within=self.previous.within
            )
        return rules.Keep(
            **self.common(),
            newest=None if self.newest is None else self.newest.value(),
            pulled_within=None if self.pulled is None else self.pulled.within,
            pushed_within=None if self.pushed is None else self.pushed.within,
        )


def _check_newest(newest: Newest, tags: Tags | None) -> None:
    """Raise ``ValueError`` where groups or order need another selector."""
    selector = None if tags is None else tags.selector()
    while isinstance(selector, Without):
        selector = selector.chosen
    by_version = newest.by is rules.By.SEMVER
    if by_version and not isinstance(selector, Versions):
        raise ValueError('newest by semver needs tags: {semver: "*"}, or bounds of versions')
    for key, needed in (("prereleases", newest.prereleases), ("count_as: versions", newest.count_as)):
        if not by_version and needed in (*rules.Prereleases, rules.CountAs.VERSIONS):
            raise ValueError(f"newest: {key} is said of versions only: it needs by: semver")
    if not newest.per:
        return
    if isinstance(selector, Versions):
        known: tuple[str, ...] = VERSION_PARTS
    elif isinstance(selector, Regexes):
        known = tuple(sorted(selector.group_names()))
    else:
        raise ValueError("newest: per needs tags: {regex: …} with named groups, or tags: {semver: …}")
    for part in newest.per:
        if part not in known:
            there = f"there are {', '.join(known)}" if known else "it has none; write (?P<name>…)"
            raise ValueError(f"newest: per: tags have no group {part}: {there}")


class OlderTag(Part):
    """How old a tag must be."""

    pushed: Period


class Annotation(Part):
    """Where the image says itself how long it is wanted."""

    key: Text


class Delete(_Rule):
    """A rule of ``delete``."""

    older: OlderTag | None = None
    not_pulled: For | None = None
    annotation: Annotation | None = None

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if self.tags is None and self.annotation is None:
            raise ValueError(
                'a rule of delete says which tags: it needs tags ({glob: ["**"]} are all) or annotation'
            )
        if self.id in RESERVED:
            raise ValueError(f"id: {self.id} is what verdicts call other deletions; choose another")
        return self

    def value(self) -> rules.Delete:
        """Return what it says."""
        return rules.Delete(
            **self.common(),
            older=None if self.older is None else self.older.pushed,
            unused=None if self.not_pulled is None else self.not_pulled.for_,
            annotation=None if self.annotation is None else self.annotation.key,
        )


class OlderUntagged(Part):
    """How old an untagged manifest must be."""

    untagged: Period | None = None
    pushed: Period | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.untagged is None and self.pushed is None:
            raise ValueError("older has untagged, pushed or both")
        return self


class DeleteUntagged(Part):
    """When untagged manifests go."""

    older: OlderUntagged
    not_pulled: For | None = None


class KeepUntagged(Part):
    """Which of them stay all the same."""

    was_tagged: Tags | None = None
    pulled: Within | None = None
    pushed: Within | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.was_tagged is None and self.pulled is None and self.pushed is None:
            raise ValueError("what stays has at least one of was_tagged, pulled and pushed")
        return self

    def value(self) -> rules.KeepUntagged:
        """Return what it says."""
        return rules.KeepUntagged(
            was_tagged=None if self.was_tagged is None else self.was_tagged.selector(),
            pulled_within=None if self.pulled is None else self.pulled.within,
            pushed_within=None if self.pushed is None else self.pushed.within,
        )


class Untagged(Part):
    """What becomes of untagged manifests."""

    delete: DeleteUntagged
    keep: tuple[KeepUntagged, ...] = ()

    def value(self) -> rules.Untagged:
        """Return what it says."""
        older, unused = self.delete.older, self.delete.not_pulled
        return rules.Untagged(
            untagged=older.untagged,
            pushed=older.pushed,
            unused=None if unused is None else unused.for_,
            keep=tuple(each.value() for each in self.keep),
        )


class Orphans(Part):
    """How long after its subject a referrer may go."""

    older: Period


class Referrers(Part):
    """What becomes of what is attached to others."""

    follow: Literal["subject"] = "subject"
    orphans: Orphans | None = None


class CleanupPolicy(Part):
    """A policy as it stands in the file."""

    id: Id
    mode: rules.Mode = rules.Mode.PREVIEW
    scope: Scope
    grace: Grace = Grace()
    use: Use = Use()
    protect: tuple[Protect, ...] = ()
    keep: tuple[Keep, ...] = ()
    delete: tuple[Delete, ...] = ()
    untagged: Untagged | None = None
    referrers: Referrers = Referrers()
    budget: Budget | None = None
    brake: Brake = Brake()
    undo: Undo = Undo()
    run: Run = Run()

    def value(self) -> rules.Policy:
        """Return what it says."""
        kept = [each.value() for each in self.keep]
        orphans = self.referrers.orphans
        window: Window | None = self.run.window
        return rules.Policy(
            id=self.id,
            mode=self.mode,
            scope=self.scope.repositories.selector(),
            grace=rules.Grace(**self.grace.model_dump()),
            use=self.use.value(),
            protect=tuple(each.value() for each in self.protect),
            keep=tuple(each for each in kept if isinstance(each, rules.Keep)),
            previous=tuple(each for each in kept if isinstance(each, rules.Previous)),
            delete=tuple(each.value() for each in self.delete),
            untagged=None if self.untagged is None else self.untagged.value(),
            orphans=None if orphans is None else orphans.older,
            budget=None if self.budget is None else rules.Budget(bytes=self.budget.bytes),
            brake=rules.Brake(**self.brake.model_dump()),
            undo=rules.Undo(**self.undo.model_dump()),
            run=rules.Run(window=window, rate=self.run.rate, errors=self.run.errors),
        )
