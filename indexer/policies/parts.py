"""What the models of every section are built from: their base, texts and numbers of the grammar, choices of names.

A model says what may stand in the file. What it means is a value of ``rules``, or of the section; models do not travel.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictStr,
    model_validator,
)

from indexer.oci.reference import parse_tag_name
from indexer.policies import grammar
from indexer.policies.patterns import Subject, parse_glob
from indexer.policies.selectors import Combined, Globs, Regexes, Selector, Versions, Without, names
from indexer.policies.yaml_tree import Misread


class Part(BaseModel):
    """A mapping of the file: no other keys than those that are known."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_alias=True, validate_by_name=False)


def _text(value: Any) -> Any:
    if isinstance(value, Misread):
        raise ValueError(f'{value.text} is read as {value.as_what} by many programs: write "{value.text}"')
    return value


def _glob_of(subject: Subject) -> AfterValidator:
    def check(value: str) -> str:
        parse_glob(value, subject)
        return value

    return AfterValidator(check)


def _tag_name(value: str) -> str:
    try:
        return parse_tag_name(value)
    except ValueError:
        raise ValueError(
            f"no tag is called {value!r}: {Subject.TAG.words}, at most 128, and does not begin with . or -; "
            "patterns stand under glob or regex"
        ) from None


def _expression(value: str) -> str:
    Regexes.of([value])
    return value


def _versions(value: str) -> str:
    Versions.of(value)
    return value


Text = Annotated[StrictStr, BeforeValidator(_text)]
Id = Annotated[Text, Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?$")]
Period = Annotated[timedelta, BeforeValidator(grammar.parse_period)]
Rate = Annotated[float, BeforeValidator(grammar.parse_rate)]
Share = Annotated[float, BeforeValidator(grammar.parse_share)]
Size = Annotated[int, BeforeValidator(grammar.parse_size)]
WindowText = Annotated[grammar.Window, PlainValidator(grammar.parse_window)]
RepositoryGlob = Annotated[Text, _glob_of(Subject.REPOSITORY)]
TagGlob = Annotated[Text, _glob_of(Subject.TAG)]
TagName = Annotated[Text, AfterValidator(_tag_name)]
Expression = Annotated[Text, AfterValidator(_expression)]
VersionBounds = Annotated[Text, AfterValidator(_versions)]


class Repositories(Part):
    """Which repositories: those that match ``any`` and none of ``not``."""

    any_: tuple[RepositoryGlob, ...] = Field(alias="any", min_length=1)
    not_: tuple[RepositoryGlob, ...] = Field(alias="not", default=())

    def selector(self) -> Selector:
        """Return what it chooses."""
        chosen = Globs.of(self.any_, Subject.REPOSITORY)
        return Without(chosen, Globs.of(self.not_, Subject.REPOSITORY)) if self.not_ else chosen


class Scope(Part):
    """What a policy, or a source, is about."""

    repositories: Repositories


WAYS = ("names", "glob", "regex", "semver", "any", "all")


class Tags(Part):
    """Which tags: one of six ways to choose them, and what is left out again."""

    names: tuple[TagName, ...] | None = Field(default=None, min_length=1)
    glob: tuple[TagGlob, ...] | None = Field(default=None, min_length=1)
    regex: Expression | None = None
    semver: VersionBounds | None = None
    any_: tuple[Tags, ...] | None = Field(alias="any", default=None, min_length=1)
    all_: tuple[Tags, ...] | None = Field(alias="all", default=None, min_length=1)
    not_: Tags | None = Field(alias="not", default=None)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [
            way for way in WAYS if getattr(self, way if way not in ("any", "all") else f"{way}_") is not None
        ]
        if len(given) != 1:
            found = f"{' and '.join(given)} together" if given else "none of them"
            raise ValueError(
                f"tags are chosen by one of {', '.join(WAYS)}, not by {found}; any: and all: combine them"
            )
        return self

    def chosen(self) -> Selector:
        """Return what it chooses, before ``not``."""
        if self.names is not None:
            return names(self.names)
        if self.glob is not None:
            return Globs.of(self.glob, Subject.TAG)
        if self.regex is not None:
            return Regexes.of([self.regex])
        if self.semver is not None:
            return Versions.of(self.semver)
        parts = self.any_ if self.any_ is not None else self.all_
        return Combined(tuple(part.selector() for part in parts or ()), every=self.any_ is None)

    def selector(self) -> Selector:
        """Return what it chooses."""
        return self.chosen() if self.not_ is None else Without(self.chosen(), self.not_.selector())
