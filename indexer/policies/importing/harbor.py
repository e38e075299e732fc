"""Harbor's tag retention of a project: ``GET /api/v2.0/retentions/:id``.

Harbor deletes, in every repository that any rule is about, what no rule retains. Each of its rules becomes a rule of
``keep``, and for each set of repositories there is a rule of ``delete`` that chooses every tag.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from indexer.common.errors import ConfigurationError
from indexer.policies.importing.writing import Draft, NotTranslated, id_of, read_json, simple_glob
from indexer.policies.patterns import Subject

ALL_TAGS = {"glob": ["**"]}


class Selector(BaseModel):
    """A pattern, and whether it includes or excludes."""

    model_config = ConfigDict(extra="ignore")

    kind: str = "doublestar"
    decoration: str
    pattern: str = ""


class Rule(BaseModel):
    """A rule of retention."""

    model_config = ConfigDict(extra="ignore")

    disabled: bool = False
    action: str = "retain"
    template: str
    params: dict[str, Any] = {}
    tag_selectors: list[Selector] = []
    scope_selectors: dict[str, list[Selector]] = {}


class Retention(BaseModel):
    """The retention of a project."""

    model_config = ConfigDict(extra="ignore")

    algorithm: str = "or"
    rules: list[Rule]
    trigger: dict[str, Any] | None = None


def translate(content: bytes, project: str | None) -> str:
    """Return the file of policies for a project, whose name Harbor's JSON does not have."""
    try:
        found = Retention.model_validate(read_json(content, "Harbor's retention"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotTranslated(f"not a tag retention of Harbor: {place}: {first['msg']}") from None
    if project is None:
        raise ConfigurationError("Harbor's file does not say which project it is of: add --project NAME")
    if found.algorithm != "or":
        raise NotTranslated(f"the algorithm {found.algorithm} is unknown; Harbor has or")
    draft = Draft(id_of(project), (f"{project}/**",), "Harbor's tag retention")
    cron = ((found.trigger or {}).get("settings") or {}).get("cron")
    if cron:
        draft.notes.append(f"Harbor runs it at {cron!r}; here it is evaluated all the time, see run.window.")
    draft.notes += [
        "Harbor keeps an artifact with all its tags if one of them is retained; here each tag is decided for itself.",
        "Harbor deletes untagged artifacts, too; here they are kept until you add the section untagged.",
    ]
    _translate(found, draft, project)
    return draft.finished()


def _translate(found: Retention, draft: Draft, project: str) -> None:
    scopes: list[dict[str, Any]] = []
    for number, rule in enumerate(found.rules, start=1):
        if rule.disabled:
            draft.notes.append(f"Rule {number} ({rule.template}) is disabled, and left out.")
            continue
        repositories = _repositories(rule.scope_selectors.get("repository", []), project)
        if repositories is None:
            # What it is about is not known: it retains everywhere, and deletes nowhere.
            draft.notes.append(
                f"Rule {number} ({rule.template}): its repositories cannot be translated; keeps in all."
            )
        elif repositories not in scopes:
            scopes.append(repositories)
        _keep(number, rule, repositories, draft)
    for number, repositories in enumerate(scopes, start=1):
        draft.add("delete", {"id": f"rest-{number}", "repositories": repositories, "tags": ALL_TAGS})


def _repositories(selectors: list[Selector], project: str) -> dict[str, Any] | None:
    """Return the repositories that selectors have in common; None: that cannot be said here."""
    inside, outside = [], []
    for selector in selectors:
        glob = simple_glob(selector.pattern, Subject.REPOSITORY)
        if selector.kind != "doublestar" or glob is None:
            return None
        if selector.decoration == "repoMatches":
            inside.append(glob)
        elif selector.decoration == "repoExcludes":
            outside.append(glob)
        else:
            return None
    if len(inside) > 1:
        return None
    found: dict[str, Any] = {"any": [f"{project}/{inside[0] if inside else '**'}"]}
    return found | ({"not": [f"{project}/{each}" for each in outside]} if outside else {})


def _tags(selectors: list[Selector]) -> dict[str, Any] | None:
    """Return the tags that all selectors choose; None: that cannot be said here."""
    parts: list[dict[str, Any]] = []
    for selector in selectors:
        glob = simple_glob(selector.pattern, Subject.TAG)
        if selector.kind != "doublestar" or glob is None:
            return None
        if selector.decoration == "matches":
            parts.append({"glob": [glob]})
        elif selector.decoration == "excludes":
            parts.append({**ALL_TAGS, "not": {"glob": [glob]}})
        else:
            return None
    if len(parts) > 1:
        return {"all": parts}
    return parts[0] if parts else ALL_TAGS


def _keep(number: int, rule: Rule, repositories: dict[str, Any] | None, draft: Draft) -> None:
    tags = _tags(rule.tag_selectors)
    if tags is None:
        draft.notes.append(f"Rule {number} ({rule.template}): its tags cannot be translated; keeps all.")
        draft.add("keep", {"id": f"rule-{number}", "repositories": repositories, "tags": ALL_TAGS})
        return
    common = {"id": f"rule-{number}", "repositories": repositories, "tags": tags}
    value = rule.params.get(rule.template)
    if rule.action != "retain" or (rule.template != "always" and not _is_count(value)):
        draft.notes.append(f"Rule {number} ({rule.template}) is not known here; keeps all that it selects.")
        draft.add("keep", common)
    elif value == 0 and rule.template != "always":
        draft.notes.append(f"Rule {number} ({rule.template} 0) retains nothing, and is left out.")
    else:
        _keep_by(rule.template, value, common, number, draft)


def _keep_by(template: str, value: Any, common: dict[str, Any], number: int, draft: Draft) -> None:
    match template:
        case "always":
            draft.add("keep", common)
        case "latestPushedK":
            draft.add("keep", {**common, "newest": _newest(value, "pushed")})
        case "latestPulledN":
            draft.add("keep", {**common, "newest": _newest(value, "pulled")})
        case "latestActiveK":
            # The latest by either are among the latest by push and those by pull.
            draft.add("keep", {**common, "id": f"rule-{number}-pushed", "newest": _newest(value, "pushed")})
            draft.add("keep", {**common, "id": f"rule-{number}-pulled", "newest": _newest(value, "pulled")})
        case "nDaysSinceLastPush":
            draft.add("keep", {**common, "pushed": {"within": f"{min(value, 36500)}d"}})
        case "nDaysSinceLastPull":
            draft.add("keep", {**common, "pulled": {"within": f"{min(value, 36500)}d"}})
        case _:
            draft.notes.append(f"Rule {number} ({template}) is not known here; keeps all that it selects.")
            draft.add("keep", common)


def _newest(count: int, by: str) -> dict[str, Any]:
    return {"count": count, "by": by, "count_as": "digests"}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000  # noqa: PLR2004 - ours
