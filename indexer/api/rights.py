"""Who may ask for which job, and who sees and cancels it.

- An operator token: everything.
- The registry's own token: the kinds that name actions (``indexer.jobs.kinds``), on repositories on each of which it
  grants one of them. A repository of which it grants nothing at all is answered like a missing one.
- Everybody else: nothing. A read token sees every job.

A job of several repositories is seen by who has something in each of them, a registry-wide one only by who reads
everything. Who may cancel it is who may ask for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from indexer.api.auth import ANONYMOUS, Principal, Unauthorized
from indexer.api.problems import not_found
from indexer.common.errors import CallerError
from indexer.jobs.job import Job
from indexer.jobs.kinds import KINDS, Kind
from indexer.oci.reference import RepositoryName

NOBODY = (
    "nobody may ask for anything here: set INDEXER_OPERATOR_TOKENS to name:secret, or INDEXER_AUTH_… to trust the "
    "registry's tokens"
)
READS_ONLY = "this token only reads; asking for a job takes an operator token (INDEXER_OPERATOR_TOKENS)"


def require_acting(principal: Principal, *, acting_is_on: bool) -> None:
    """Raise where this caller may ask for nothing, whatever it is: 403, or 401 for one without a token."""
    if not acting_is_on:
        raise CallerError(NOBODY, status=403, code="acting_is_off")
    if principal == ANONYMOUS:
        raise Unauthorized("a token is needed: Authorization: Bearer <token>")
    if not principal.may_act and principal.repositories is None:
        raise CallerError(READS_ONLY, status=403, code="read_only_token")


def require_kind(principal: Principal, kind: Kind, repositories: Sequence[RepositoryName] | None) -> None:
    """Raise a 403, or a 404 for a repository of which the caller must not know, unless it may ask for this."""
    if principal.may_act:
        return
    for name in repositories or ():
        if not knows_of(principal, name):
            raise not_found("there is no such repository on record")
    if kind.actions is None or repositories is None:
        raise CallerError(
            f"a job of the kind {kind.name} takes an operator token", status=403, code="operator_token_needed"
        )
    for name in repositories:
        if not _grants_any(principal, name, kind.actions):
            needed = " or ".join(f"repository:{name}:{action}" for action in sorted(kind.actions))
            raise CallerError(f"the token does not grant {needed}", status=403, code="not_granted")


def kinds_by_repository(principal: Principal) -> dict[str, list[str]]:
    """Return the kinds of jobs that a registry token may ask for, by repository, as ``require_kind`` decides.

    Empty for everybody else: an operator token may ask for every kind, any other for none.
    """
    if principal.may_act or principal.repositories is None:
        return {}
    found: dict[str, list[str]] = {}
    for kind in KINDS.values():
        for of, name in principal.grants if kind.actions is not None else ():
            if of == "repository" and _grants_any(principal, name, kind.actions or frozenset()):
                found.setdefault(name, []).append(kind.name)
    return found


def may_see(principal: Principal, job: Job) -> bool:
    """Return whether a job may be shown; if not, it must be answered like a missing one."""
    if principal.repositories is None:
        return True
    return bool(job.repositories) and all(knows_of(principal, name) for name in job.repositories or ())


def may_cancel(principal: Principal, job: Job) -> bool:
    """Return whether a job that may be seen may be cancelled."""
    if principal.may_act:
        return True
    kind = KINDS.get(job.kind)
    if principal.repositories is None or kind is None or kind.actions is None or not job.repositories:
        return False
    return all(_grants_any(principal, name, kind.actions) for name in job.repositories)


def visible_repositories(principal: Principal) -> frozenset[str] | None:
    """Return the repositories whose jobs a caller sees; None: all jobs."""
    if principal.repositories is None:
        return None
    named = (name for kind, name in principal.grants if kind == "repository")
    return frozenset(name for name in named if knows_of(principal, name)) | principal.repositories


def knows_of(principal: Principal, name: str) -> bool:
    """Return whether a caller may know that there is such a repository."""
    return principal.may_read(name) or bool(principal.grants.get(("repository", name)))


def bounds_of(principal: Principal, repositories: Sequence[RepositoryName] | None) -> dict[str, Any]:
    """Return the patterns of the caller's token that bind a job: by repository, as the token has them."""
    bound = {name: principal.patterns_of(name) for name in repositories or ()}
    return {name: patterns.as_meta() for name, patterns in bound.items() if patterns}


def owner_of(principal: Principal) -> str:
    """Return whose idempotency keys these are: callers of two kinds may have one name."""
    return f"{'operator' if principal.may_act else 'registry token'}:{principal.name}"


def _grants_any(principal: Principal, name: str, actions: frozenset[str]) -> bool:
    granted = principal.grants.get(("repository", name), frozenset())
    return "*" in granted or not granted.isdisjoint(actions)
