"""GitLab's cleanup policy for container images: ``container_expiration_policy`` of a project, as its API shows it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from indexer.common.errors import ConfigurationError
from indexer.policies.grammar import parse_period
from indexer.policies.importing.writing import Draft, NotTranslated, id_of, read_json
from indexer.policies.selectors import Regexes

LATEST = {"names": ["latest"]}


class ExpirationPolicy(BaseModel):
    """What GitLab's policy says; other keys are of no account."""

    model_config = ConfigDict(extra="ignore")

    enabled: bool
    cadence: str | None = None
    keep_n: int | None = Field(default=None, ge=0)
    older_than: str | None = None
    name_regex: str | None = None
    name_regex_delete: str | None = None
    name_regex_keep: str | None = None


class Project(BaseModel):
    """A project as ``GET /projects/:id`` shows it."""

    model_config = ConfigDict(extra="ignore")

    path_with_namespace: str
    container_expiration_policy: ExpirationPolicy


def translate(content: bytes, project: str | None) -> str:
    """Return the file of policies for a project: its own JSON, or that of its policy alone, with the project's path."""
    found = read_json(content, "GitLab's policy")
    try:
        if isinstance(found, dict) and "container_expiration_policy" in found:
            whole = Project.model_validate(found)
            project, policy = project or whole.path_with_namespace, whole.container_expiration_policy
        else:
            policy = ExpirationPolicy.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise NotTranslated(f"not a cleanup policy of GitLab: {place}: {first['msg']}") from None
    if project is None:
        raise ConfigurationError("the file does not say which project it is of: add --project group/project")
    project = project.lower()  # as the registry's names are
    draft = Draft(id_of(project), (f"{project}/**",), "GitLab's cleanup policy")
    _translate(policy, draft)
    return draft.finished()


def _translate(policy: ExpirationPolicy, draft: Draft) -> None:
    if not policy.enabled:
        draft.notes.append("GitLab's policy is not enabled.")
    if policy.cadence:
        draft.notes.append(
            f"GitLab runs it every {policy.cadence}; here it is evaluated all the time, see run.window."
        )
    draft.notes.append(
        "Protected and immutable tags of the project are not in GitLab's JSON: add them to protect."
    )
    draft.add("protect", {"id": "latest", "tags": LATEST})
    delete, keep = policy.name_regex_delete or policy.name_regex, policy.name_regex_keep
    if not delete:
        draft.notes.append("It has no name_regex, so it deletes nothing.")
        return
    for name, expression in (("name_regex", delete), ("name_regex_keep", keep)):
        if expression and not _is_expression(expression):
            draft.notes.append(f"Nothing is deleted: {name} {expression!r} is no expression here.")
            return
    try:
        older = None if not policy.older_than else {"pushed": _days(policy.older_than)}
    except ValueError:
        draft.notes.append(f"Nothing is deleted: older_than {policy.older_than!r} is no duration here.")
        return
    left_out = [LATEST, *([{"regex": keep}] if keep else [])]
    if keep:
        draft.add("keep", {"id": "name-regex-keep", "tags": {"regex": keep}})
    if policy.keep_n:
        tags = {"regex": delete, "not": {"any": left_out}}
        draft.add("keep", {"id": "keep-n", "tags": tags, "newest": {"count": policy.keep_n, "by": "pushed"}})
    draft.add("delete", {"id": "name-regex", "tags": {"regex": delete}, "older": older})


def _is_expression(text: str) -> bool:
    try:
        Regexes.of([text])
    except ValueError:
        return False
    return True


def _days(text: str) -> str:
    """Return GitLab's period as ours: it has ``90d``, ``1month`` and ``3 months``."""
    months = text.replace(" ", "").removesuffix("s").removesuffix("month")
    found = f"{31 * int(months)}d" if "month" in text and months.isdecimal() else text
    parse_period(found)
    return found
