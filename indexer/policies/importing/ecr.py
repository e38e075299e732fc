"""ECR's lifecycle policy of a repository: ``aws ecr get-lifecycle-policy``, or its text alone.

Rules are asked by priority. What a rule selects no later one expires, even if it does not expire it itself; later rules
still count it. So a rule becomes a rule of ``delete`` without what earlier ones select; one by count has a rule of
``keep`` beside it, which counts among all that it selects.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexer.common.errors import ConfigurationError
from indexer.policies.importing.writing import Draft, NotTranslated, id_of, read_json, simple_glob
from indexer.policies.patterns import Subject

ALL_TAGS: dict[str, Any] = {"glob": ["**"]}


class Selection(BaseModel):
    """What a rule selects, and when it acts."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    status: Literal["tagged", "untagged", "any"] = Field(alias="tagStatus")
    prefixes: list[str] = Field(alias="tagPrefixList", default=[])
    patterns: list[str] = Field(alias="tagPatternList", default=[])
    count_type: str = Field(alias="countType")
    count_unit: str | None = Field(alias="countUnit", default=None)
    count: int = Field(alias="countNumber", ge=1, le=36500)


class Action(BaseModel):
    """What a rule does."""

    model_config = ConfigDict(extra="ignore")

    type: str


class Rule(BaseModel):
    """A rule of the lifecycle."""

    model_config = ConfigDict(extra="ignore")

    priority: int = Field(alias="rulePriority")
    selection: Selection
    action: Action


class Lifecycle(BaseModel):
    """The lifecycle policy."""

    model_config = ConfigDict(extra="ignore")

    rules: list[Rule]


def translate(content: bytes, repository: str | None) -> str:
    """Return the file of policies for a repository: of the command's output, or of the policy's text with its name."""
    found = read_json(content, "ECR's lifecycle policy")
    if isinstance(found, dict) and "lifecyclePolicyText" in found:
        repository = repository or found.get("repositoryName")
        found = read_json(str(found["lifecyclePolicyText"]).encode(), "lifecyclePolicyText")
    try:
        policy = Lifecycle.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotTranslated(f"not a lifecycle policy of ECR: {place}: {first['msg']}") from None
    if not repository:
        raise ConfigurationError("the file does not say which repository it is of: add --project NAME")
    draft = Draft(id_of(repository), (repository,), "ECR's lifecycle policy")
    draft.notes.append("ECR decides for each image with all its tags; here each tag is decided for itself.")
    _translate(sorted(policy.rules, key=lambda rule: rule.priority), draft)
    return draft.finished()


def _translate(rules: list[Rule], draft: Draft) -> None:
    claimed: list[dict[str, Any]] = []
    untagged_claimed = False
    for rule in rules:
        selection = rule.selection
        untagged = selection.status != "tagged" and not untagged_claimed
        if selection.status != "untagged":
            _tagged(rule, list(claimed), draft)
            claimed.append(_claim(selection))
        if untagged:
            _untagged(rule, draft)
            untagged_claimed = True


def _tagged(rule: Rule, claimed: list[dict[str, Any]], draft: Draft) -> None:
    selected = _selected(rule.selection)
    if selected is None:
        draft.notes.append(f"Rule {rule.priority}: its tags cannot be translated; nothing is deleted by it.")
        return
    if not _expires(rule, draft):
        return
    tags = {"all": [selected], "not": {"any": claimed}} if claimed else selected
    older = None
    if rule.selection.count_type == "imageCountMoreThan":
        if rule.selection.status == "any":
            draft.notes.append(
                f"Rule {rule.priority} counts untagged images, too; here only tags count, so more stay."
            )
        newest = {"count": rule.selection.count, "by": "pushed", "count_as": "digests", "among": selected}
        draft.add("keep", {"id": f"rule-{rule.priority}-newest", "tags": tags, "newest": newest})
    else:
        older = {"pushed": f"{rule.selection.count}d"}
    draft.add("delete", {"id": f"rule-{rule.priority}", "tags": tags, "older": older})


def _untagged(rule: Rule, draft: Draft) -> None:
    if not _expires(rule, draft):
        return
    if rule.selection.count_type == "imageCountMoreThan":
        draft.notes.append(f"Rule {rule.priority}: untagged images cannot be counted here; they are kept.")
    else:
        draft.untagged = {"delete": {"older": {"pushed": f"{rule.selection.count}d"}}}


def _expires(rule: Rule, draft: Draft) -> bool:
    """Tell whether a rule deletes by count or by age of the push; what else there is keeps what it selects."""
    known = rule.selection.count_type in ("imageCountMoreThan", "sinceImagePushed")
    unit = rule.selection.count_type == "imageCountMoreThan" or rule.selection.count_unit in (None, "days")
    if rule.action.type == "expire" and known and unit:
        return True
    note = (
        f"Rule {rule.priority} ({rule.action.type}, {rule.selection.count_type}) cannot be translated; it keeps what it"
        " selects."
    )
    if note not in draft.notes:
        draft.notes.append(note)
    return False


def _globs(selection: Selection) -> list[str | None]:
    patterns = [*(f"{prefix}*" for prefix in selection.prefixes), *selection.patterns]
    return [simple_glob(pattern, Subject.TAG) for pattern in patterns]


def _selected(selection: Selection) -> dict[str, Any] | None:
    """Return the tags that a rule selects; of several patterns all must match. None: that cannot be said here."""
    if selection.status == "any":
        return ALL_TAGS
    globs = _globs(selection)
    if not globs or None in globs:
        return None
    parts = [{"glob": [glob]} for glob in globs]
    return {"all": parts} if len(parts) > 1 else parts[0]


def _claim(selection: Selection) -> dict[str, Any]:
    """Return the tags that later rules may not expire: at least those that are selected.

    One image may have a tag for each of several patterns, so each pattern claims by itself.
    """
    globs = _globs(selection)
    return ALL_TAGS if selection.status == "any" or not globs or None in globs else {"glob": globs}
