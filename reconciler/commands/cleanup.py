"""The verbs of ``reconciler cleanup``: only ``run`` changes anything in the registry."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from json import dumps as json_dumps
from typing import IO, TYPE_CHECKING, Annotated, Any

import cyclopts

from indexer.commands.common import AsJson, Config, operator, read_settings, with_database
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.rfc3339 import format_time
from indexer.common.terminal import write_lines

if TYPE_CHECKING:
    from indexer.cleanup.planning import Made
    from indexer.store.cleanup_plans import Standing
    from indexer.store.pool import Connection

app = cyclopts.App(name="cleanup", help="Plan, approve and review the deletion of old tags and manifests.")

MOST_REPLAYED = timedelta(days=731)

Reason = Annotated[str | None, cyclopts.Parameter(help="Why; it goes into the audit log.")]
AGREED_WITHIN_SECONDS = 15
"""A program reads its file of policies every few seconds."""

PlanId = Annotated[str, cyclopts.Parameter(help="The plan's id, as `cleanup plan` printed it.")]
Yes = Annotated[bool, cyclopts.Parameter(negative=(), help="Do it without asking.")]


@app.command(name="plan")
def cleanup_plan(
    *,
    repository: Annotated[
        list[str] | None,
        cyclopts.Parameter(
            negative=(), consume_multiple=True, help="Show only these. The plan is about the whole scope."
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        cyclopts.Parameter(negative=(), consume_multiple=True, help="Only these policies; default: all."),
    ] = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Show what policies would delete now, and why everything else stays. Deletes nothing; keeps the plan on record.

    Exit 0: nothing would go; 2: something would; 3: a brake stops it; 1: failed.
    """
    from indexer.cleanup.planning import make_plan, plan_json  # noqa: PLC0415
    from indexer.cleanup.policies_file import take_in_force  # noqa: PLC0415

    settings = read_settings(config, logs=True)

    async def work(connection: Connection) -> int:
        asked = operator("reconciler cleanup plan")
        file = await take_in_force(connection, settings.indexer_policies_file, operator=asked)
        policies = file.policies()
        _check_policies(policy, [each.id for each in policies.cleanup])
        with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
            show = _Shown(spool, None if repository is None else frozenset(repository), as_json=json)
            made = await make_plan(
                connection,
                policies,
                now=datetime.now(UTC),
                operator=asked,
                policy_ids=policy,
                show=show.take,
            )
            spool.seek(0)
            if json:
                _write_json(plan_json(made), spool)
            else:
                for line in spool:
                    write_lines([line.rstrip("\n")])
                _print_plan(made)
        if made.braked:
            return exit_codes.BRAKE
        return exit_codes.WOULD_CHANGE if made.would_delete else 0

    return with_database(config, work)


def _check_policies(wanted: list[str] | None, known: list[str]) -> None:
    for name in wanted or ():
        if name not in known:
            raise ConfigurationError(
                f"--policy {name}: no policy of that id is in force, only {', '.join(known) or 'none'}"
            )


class _Shown:
    """Verdicts on their way to the output: a registry has more than memory should hold."""

    def __init__(self, spool: IO[str], repositories: frozenset[str] | None, *, as_json: bool) -> None:
        self._spool = spool
        self._repositories = repositories
        self._as_json = as_json

    def take(self, verdict: dict[str, Any]) -> None:
        """Write one verdict as a line."""
        if self._repositories is not None and verdict["repository"] not in self._repositories:
            return
        if self._as_json:
            self._spool.write(json_dumps(verdict) + "\n")
        elif verdict["decision"] != "keep" or self._repositories is not None:
            self._spool.write(_line(verdict) + "\n")


def _line(verdict: dict[str, Any]) -> str:
    tag, digest = verdict["tag"], verdict["digest"]
    name = f"{verdict['repository']}:{tag}" if tag else f"{verdict['repository']}@{digest}"
    when = f" [{verdict['expires_at']}]" if verdict["expires_at"] else ""
    return f"{verdict['decision']:<6} {name}{when}  {verdict['text']}"


def _write_json(head: dict[str, Any], verdicts: IO[str]) -> None:
    """Write one object, the verdicts as they come."""
    text = json_dumps(head)
    sys.stdout.write(text[:-1] + ', "verdicts": [')
    for number, line in enumerate(verdicts):
        sys.stdout.write((", " if number else "") + line.rstrip("\n"))
    sys.stdout.write("]}\n")


def _print_plan(made: Made) -> None:
    from indexer.cleanup.planning import outcome_json  # noqa: PLC0415

    for outcome in made.outcomes:
        found = outcome_json(outcome)
        write_lines(
            [
                (
                    f"policy {found['id']} ({found['mode']}): {found['delete']} to delete, {found['hold']} held, "
                    f"{found['keep']} kept; frees {found['freed_bytes']} bytes once manifests are unlinked and "
                    "garbage is collected"
                ),
                *(f"  brake: {text}" for text in found["brake"]),
                *(f"  note: {text}" for text in found["notes"]),
            ]
        )
    write_lines([f"plan {made.plan.id} as of {format_time(made.as_of)}"])


@app.command(name="approve")
def cleanup_approve(
    plan: PlanId,
    /,
    *,
    yes: Yes = False,
    reason: Reason = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Approve a plan. With `propose` it may then be carried out; with `enforce` all plans under the same policies may.

    Exit 0: approved; 1: there is no such plan, or it cannot be approved; 3: it is beyond its brake.
    """
    return _decide(plan, "approve", yes=yes, reason=reason, config=config, json=json)


@app.command(name="reject")
def cleanup_reject(
    plan: PlanId,
    /,
    *,
    yes: Yes = False,
    reason: Reason = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Reject a plan: it is never carried out, and an approval of it ends.

    Exit 0: rejected; 1: there is no such plan.
    """
    return _decide(plan, "reject", yes=yes, reason=reason, config=config, json=json)


def _decide(plan_id: str, what: str, *, yes: bool, reason: str | None, config: Config, json: bool) -> int:
    from indexer.cleanup.approving import approve, reject  # noqa: PLC0415

    if not yes and not _says_yes(f"{what} plan {plan_id}?"):
        sys.stderr.write(f"reconciler: nothing was done: `cleanup {what}` needs --yes\n")
        return exit_codes.USAGE

    async def work(connection: Connection) -> int:
        decide = approve if what == "approve" else reject
        asked = operator(f"reconciler cleanup {what}")
        refused = await decide(
            connection, plan_id=plan_id, at=datetime.now(UTC), operator=asked, reason=reason
        )
        done = {"plan_id": plan_id, "done": refused is None, "code": None, "text": None}
        if refused is not None:
            done |= {"code": refused.code, "text": refused.text}
        word = "approved" if what == "approve" else "rejected"
        if json:
            sys.stdout.write(json_dumps(done) + "\n")
        elif refused is None:
            write_lines([f"plan {plan_id} is {word}"])
        else:
            sys.stderr.write(f"reconciler: {refused.text}\n")
        if refused is None:
            return 0
        return exit_codes.BRAKE if refused.code == "blocked.brake" else exit_codes.FAILED

    return with_database(config, work)


def _says_yes(question: str) -> bool:
    """Ask on a terminal; without one the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@app.command(name="status")
def cleanup_status(*, config: Config = None, json: AsJson = False) -> int:
    """Show what the next cleanup run would do: how each policy stands, what is planned, and when it is due."""
    from indexer.cleanup.status import status_json, status_lines  # noqa: PLC0415

    async def work(connection: Connection) -> int:
        found = await status_json(connection, now=datetime.now(UTC))
        if json:
            sys.stdout.write(json_dumps(found) + "\n")
        else:
            write_lines(status_lines(found))
        return 0

    return with_database(config, work)


@app.command(name="replay")
def cleanup_replay(
    *,
    since: Annotated[
        str, cyclopts.Parameter(help="From when on: a duration until now like 90d, or an RFC 3339 time.")
    ] = "90d",
    policy: Annotated[
        list[str] | None,
        cyclopts.Parameter(negative=(), consume_multiple=True, help="Only these policies; default: all."),
    ] = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Show what policies would have deleted day by day, and what of it was pulled, pushed again or restored later.

    By the file in INDEXER_POLICIES_FILE, else by the policies in force. Changes nothing. Exit 2: something was missed.
    """
    from indexer.cleanup.policies_file import policies_to_explain  # noqa: PLC0415
    from indexer.cleanup.replaying import replay_json, replay_lines, replay_policies  # noqa: PLC0415
    from indexer.common.rfc3339 import parse_moment  # noqa: PLC0415

    now = datetime.now(UTC)
    try:
        begins = parse_moment(since, now=now)
    except ValueError as error:
        raise ConfigurationError(f"--since: {error}") from None
    if not now - MOST_REPLAYED <= begins < now:
        raise ConfigurationError("--since must lie in the last two years")
    file = read_settings(config, logs=True).indexer_policies_file

    async def work(connection: Connection) -> int:
        policies = await policies_to_explain(connection, file)
        _check_policies(policy, [each.id for each in policies.cleanup])
        budgets = [each.id for each in policies.cleanup if each.budget is not None]
        budgets = [name for name in budgets if policy is None or name in policy]
        if budgets:
            raise ConfigurationError(
                f"a policy with a budget cannot be replayed: {', '.join(budgets)}; name others with --policy"
            )
        done = await replay_policies(connection, policies, since=begins, now=now, policy_ids=policy)
        found = replay_json(done, since=begins, now=now)
        if json:
            sys.stdout.write(json_dumps(found) + "\n")
        else:
            write_lines(replay_lines(found))
        return exit_codes.WOULD_CHANGE if any(each["missed"] for each in found["policies"]) else 0

    return with_database(config, work)


@app.command(name="run")
def cleanup_run(
    *,
    yes: Annotated[
        bool,
        cyclopts.Parameter(
            negative=(), help="Do it, and approve the plan that is made; never past its brake."
        ),
    ] = False,
    reason: Reason = None,
    detach: Annotated[
        bool, cyclopts.Parameter(negative=(), help="Do not wait: `reconciler run` executes the job.")
    ] = False,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Make a plan by every policy in mode `enforce`, delete the tags and manifests that are due, and end.

    Also due is what approved plans of policies in mode `propose` delete. What a plan names now is due `undo.pending`
    later. A manifest goes `undo.unlink_after` after its last tag, and only if nothing needs it.

    Exit 0: done, or nothing was due; 1: failed; 3: a brake stops it.
    """
    from reconciler.commands.acting import run_job  # noqa: PLC0415

    if not yes:
        raise ConfigurationError(
            "nothing was done: `reconciler cleanup run` changes the registry, and does so only with --yes"
        )
    code = _plan_and_approve(config, reason)
    if code:
        return code
    return run_job(
        "cleanup",
        {},
        command="reconciler cleanup run",
        yes=yes,
        reason=reason,
        detach=detach,
        config=config,
        json=json,
    )


def _plan_and_approve(config: Config, reason: str | None) -> int:
    """Make the plan of a run and approve it, if it is not yet; return the exit code where nothing may be done."""
    from indexer.cleanup.approving import approve  # noqa: PLC0415
    from indexer.cleanup.planning import make_plan  # noqa: PLC0415
    from indexer.cleanup.policies_file import take_in_force  # noqa: PLC0415
    from indexer.policies.rules import Mode  # noqa: PLC0415
    from indexer.store.cleanup_plans import DIFFERING  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def work(connection: Connection) -> int:
        asked = operator("reconciler cleanup run")
        file = await take_in_force(connection, settings.indexer_policies_file, operator=asked)
        policies = file.policies()
        enforcing = [policy.id for policy in policies.cleanup if policy.mode is Mode.ENFORCE]
        if not enforcing:
            return 0
        made = await make_plan(
            connection, policies, now=datetime.now(UTC), operator=asked, policy_ids=enforcing
        )
        if made.braked:
            limits = "; ".join(limit.text for outcome in made.outcomes for limit in outcome.brake)
            sys.stderr.write(
                f"reconciler: nothing was done: plan {made.plan.id} is beyond its brake: {limits}\n"
            )
            return exit_codes.BRAKE
        standings = await _once_agreed(connection)
        waiting = {each.policy for each in standings if each.refusal == "not_approved"}
        if made.stored and made.would_delete and waiting.intersection(enforcing):
            refused = await approve(
                connection, plan_id=made.plan.id, at=datetime.now(UTC), operator=asked, reason=reason
            )
            if refused is not None:
                sys.stderr.write(f"reconciler: nothing was done: {refused.text}\n")
                return exit_codes.BRAKE if refused.code == "blocked.brake" else exit_codes.FAILED
            standings = await _once_agreed(connection)
        for each in standings:
            if each.policy in enforcing and each.refusal is not None:
                sys.stderr.write(f"reconciler: policy {each.policy} does nothing now: {each.refusal}\n")
        differ = any(each.refusal == DIFFERING for each in standings)
        return exit_codes.FAILED if differ else 0

    return with_database(config, work)


async def _once_agreed(connection: Connection) -> list[Standing]:
    """Return how policies stand, once all programs have read the same file: a change takes them some seconds."""
    import asyncio  # noqa: PLC0415

    from indexer.store.cleanup_plans import DIFFERING, standing  # noqa: PLC0415

    for _ in range(AGREED_WITHIN_SECONDS):
        found = await standing(connection, now=datetime.now(UTC))
        if not any(each.refusal == DIFFERING for each in found):
            break
        await asyncio.sleep(1)
    return found


@app.command(name="uncertain")
def cleanup_uncertain(*, config: Config = None, json: AsJson = False) -> int:
    """List what we deleted or restored and of which it is not known whether it undid a push, oldest first.

    As long as anything in a repository is uncertain, no manifest in it is deleted.
    """
    from indexer.cleanup.confirming import uncertain_json, uncertain_line  # noqa: PLC0415
    from indexer.store.confirmations import find_uncertain  # noqa: PLC0415

    async def work(connection: Connection) -> int:
        found = await find_uncertain(connection)
        if json:
            sys.stdout.write(json_dumps({"items": [uncertain_json(each) for each in found]}) + "\n")
        else:
            write_lines([uncertain_line(each) for each in found] or ["nothing is uncertain"])
        return 0

    return with_database(config, work)


@app.command(name="confirm")
def cleanup_confirm(
    what: Annotated[
        list[str],
        cyclopts.Parameter(
            negative=(),
            help="What `cleanup uncertain` lists: its id, REPO:TAG, REPO@DIGEST, or REPO for all of it there.",
        ),
    ],
    /,
    *,
    yes: Yes = False,
    reason: Reason = None,
    config: Config = None,
    json: AsJson = False,
) -> int:
    """Confirm that no push was lost, where that is uncertain. Then manifests of the repository are deleted again.

    Compare the tag with what was pushed first. Exit 0: confirmed; 1: something of it is not uncertain any more.
    """
    from indexer.cleanup.confirming import (  # noqa: PLC0415
        NOT_UNCERTAIN,
        find_targets,
        name_of,
        uncertain_json,
        uncertain_line,
    )
    from indexer.store.confirmations import confirm  # noqa: PLC0415

    async def work(connection: Connection) -> int:
        try:
            found = await find_targets(connection, what)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        if not yes:
            sys.stderr.writelines(f"{uncertain_line(each)}\n" for each in found)
            if not _says_yes("confirm that no push was lost?"):
                sys.stderr.write("reconciler: nothing was done: `cleanup confirm` needs --yes\n")
                return exit_codes.USAGE
        asked = operator("reconciler cleanup confirm")
        done = []
        for each in found:
            async with connection.transaction():
                confirmed = await confirm(
                    connection, action=each, at=datetime.now(UTC), operator=asked, reason=reason
                )
            done.append(uncertain_json(each) | {"confirmed": confirmed})
            if not json:
                word = "confirmed" if confirmed else f"not confirmed: {NOT_UNCERTAIN}"
                write_lines([f"{name_of(each)} {word}"])
        if json:
            sys.stdout.write(json_dumps({"items": done}) + "\n")
        return 0 if all(each["confirmed"] for each in done) else exit_codes.FAILED

    return with_database(config, work)
