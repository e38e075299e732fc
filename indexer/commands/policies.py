"""The verbs of ``indexer policies``: check and import read files only, explain asks the database."""

from __future__ import annotations

import importlib
import sys
from datetime import UTC, datetime
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from indexer.commands.common import AsJson, Config, read_settings, with_database
from indexer.common import exit_codes
from indexer.common.terminal import printable, write_lines

if TYPE_CHECKING:
    from indexer.policies.rules import Policies
    from indexer.store.pool import Connection


app = cyclopts.App(name="policies", help="Check, explain and translate policies.")


@app.command(name="check")
def policies_check(
    file: Annotated[Path, cyclopts.Parameter(help="File of policies, YAML.")],
    /,
    *,
    json: AsJson = False,
) -> int:
    """Check a file of policies: name every problem, its line, and what would be right. Exit 1: there are problems."""
    from indexer.policies.document import read_policies  # noqa: PLC0415
    from indexer.policies.problems import PoliciesRefused  # noqa: PLC0415

    content = _read(file)
    if content is None:
        return exit_codes.USAGE
    try:
        policies = read_policies(content, name=str(file))
    except PoliciesRefused as refused:
        problems = [{"line": each.line, "key": each.key, "text": each.text} for each in refused.problems]
        _print(json, {"file": str(file), "valid": False, "problems": problems}, str(refused).splitlines())
        return exit_codes.FAILED
    found = {"file": str(file), "valid": True, "problems": [], **_summary(policies)}
    _print(json, found, [f"{file}: {_summary_text(policies)}"])
    return 0


@app.command(name="import")
def policies_import(
    system: Annotated[
        Literal["harbor", "gitlab", "ecr"], cyclopts.Parameter(help="The system whose policy it is.")
    ],
    file: Annotated[Path, cyclopts.Parameter(help="Its policy, as JSON.")],
    /,
    *,
    project: Annotated[
        str | None,
        cyclopts.Parameter(
            help="Project (Harbor), project path (GitLab) or repository (ECR), if the file does not say."
        ),
    ] = None,
) -> int:
    """Translate a policy of another registry into a file of policies, and print it. Comments say what differs."""
    translate = importlib.import_module(f"indexer.policies.importing.{system}").translate
    content = _read(file)
    if content is None:
        return exit_codes.USAGE
    sys.stdout.write(translate(content, project))
    return 0


@app.command(name="explain")
def policies_explain(
    target: Annotated[str, cyclopts.Parameter(help="The tag: REPO:TAG.")],
    /,
    *,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Say why a tag stays or goes now: every rule that says so, and what is known of it.

    By the file in INDEXER_POLICIES_FILE, else by the policies in force. Changes nothing. Exit 1: there is no such tag.
    """
    from indexer.cleanup.explaining import explain, explain_lines  # noqa: PLC0415
    from indexer.cleanup.holding import parse_target  # noqa: PLC0415
    from indexer.cleanup.policies_file import policies_to_explain  # noqa: PLC0415
    from indexer.common.errors import ConfigurationError  # noqa: PLC0415

    try:
        repository, tag, _ = parse_target(target)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    if repository is None or tag is None:
        raise ConfigurationError(f"{target}: name a tag, as team/app:v1")
    file = read_settings(config, logs=True).indexer_policies_file

    async def work(connection: Connection) -> int:
        policies = await policies_to_explain(connection, file)
        found = await explain(connection, policies, repository=repository, tag=tag, now=datetime.now(UTC))
        _print(json, found, explain_lines(found))
        return 0 if found["verdict"] is not None else exit_codes.FAILED

    return with_database(config, work)


def _summary(policies: Policies) -> dict[str, Any]:
    cleanup = [{"id": policy.id, "mode": policy.mode} for policy in policies.cleanup]
    return {"sha256": policies.sha256, "cleanup": cleanup}


def _summary_text(policies: Policies) -> str:
    named = ", ".join(f"{policy.id} ({policy.mode})" for policy in policies.cleanup)
    return f"valid; cleanup policies: {named}" if named else "valid; no cleanup policies"


def _read(file: Path) -> bytes | None:
    """Return what a file holds, a little more than is taken at most; None where it cannot be read, which is said."""
    from indexer.policies.yaml_tree import MAX_BYTES  # noqa: PLC0415

    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        sys.stderr.write(printable(f"indexer: {file} cannot be read: {error.strerror}") + "\n")
        return None


def _print(as_json: bool, value: dict[str, Any], lines: list[str]) -> None:
    if as_json:
        sys.stdout.write(json_dumps(value) + "\n")
    else:
        write_lines(lines)
