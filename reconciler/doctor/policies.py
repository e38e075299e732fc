"""Judges whether cleanup works as its policies say. Pure. Nothing is said where all is well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reconciler.doctor.report import Cause, Check, Link, warning


def judge_policies(found: Mapping[str, Any]) -> Check | None:
    """Judge what ``indexer.cleanup.status.status_json`` returns; None: there is nothing to say."""
    problems = list(_problems(found))
    if not problems:
        return None
    return warning(Link.POLICIES, "; ".join(said for said, _ in problems), *(cause for _, cause in problems))


def _problems(found: Mapping[str, Any]) -> Iterator[tuple[str, Cause]]:
    """Return what is wrong and what to do, the worst first."""
    policies = found["policies"]
    if policies["differ"] is not None:
        yield (
            policies["differ"],
            Cause(
                "a program has another INDEXER_POLICIES_FILE, or none, or reads an older copy of it",
                "give every program the same file; a changed one is read within 10 seconds",
            ),
        )
    for each in policies["errors"]:
        first, *more = each["error"].splitlines()
        others = f" (and {len(more)} more problems)" if more else ""
        yield (
            f"policies are not in force: {first}{others}",
            Cause(
                "the file is wrong, or cannot be read; what was in force before stays",
                "`indexer policies check FILE` says what would be right",
            ),
        )
    for each in found["cleanup"]:
        if each["brake"]:
            yield (
                f"the brake stops policy {each['policy']}: {', '.join(each['brake'])}",
                Cause(
                    "a pattern takes more than it should, or the limit is too low",
                    "look at `reconciler cleanup plan`, then correct the policy or its brake",
                ),
            )
    for each in found["in_use"]:
        if each["silent"]:
            since = (
                "never reported" if each["valid_until"] is None else f"is silent since {each['valid_until']}"
            )
            yield (
                f"in use: {each['source']} {since}",
                Cause(
                    "what reports there has stopped; where the policies name it, nothing in its scope is deleted",
                    "start it again; docs/how-to/report-what-is-in-use.md",
                ),
            )
        elif each["waits_for_confirmation"]:
            yield (
                f"in use: {each['source']} reports much less than before, and waits for confirmation",
                Cause(
                    "it does not see everything, or much was stopped",
                    'if the new set is right, send it once with "confirm": true',
                ),
            )
