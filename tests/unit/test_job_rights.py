"""Who may ask for which job, and who sees and cancels it: tables."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from indexer.api.auth import ANONYMOUS, Principal, Unauthorized
from indexer.api.rights import (
    bounds_of,
    kinds_by_repository,
    may_cancel,
    may_see,
    require_acting,
    require_kind,
    visible_repositories,
)
from indexer.common.errors import CallerError
from indexer.inventory.tag_protection import judge_deletion, judge_push, read_patterns
from indexer.jobs.job import Job, JobState
from indexer.jobs.kinds import DELETE_ACTIONS, KINDS, RECONCILE, RESTORE_ACTIONS, Kind
from indexer.jobs.params import Params
from indexer.oci.reference import RepositoryName, TagName

A, B = RepositoryName("team/a"), RepositoryName("team/b")
DELETING = Kind(
    name="deleting", params=Params, acts=True, repositories=lambda _: None, actions=DELETE_ACTIONS
)
RESTORING = Kind(
    name="restoring", params=Params, acts=True, repositories=lambda _: None, actions=RESTORE_ACTIONS
)


def token(**granted: str) -> Principal:
    """A registry token that grants these comma lists of actions on team/<name>."""
    grants = {
        ("repository", f"team/{name}"): frozenset(filter(None, actions.split(",")))
        for name, actions in granted.items()
    }
    pulls = frozenset(name for (_, name), actions in grants.items() if actions & {"pull", "*"})
    return Principal(name="robot", repositories=pulls, grants=grants)


OPERATOR = Principal(name="ann", may_act=True)
READER = Principal(name="operator")
MISSING, FORBIDDEN = (404, "not_found"), (403, "not_granted")
OPERATOR_ONLY = (403, "operator_token_needed")


@pytest.mark.parametrize(
    ("who", "kind", "repositories", "refused"),
    [
        (OPERATOR, RECONCILE, None, None),
        (OPERATOR, DELETING, [A], None),
        (token(a="delete"), DELETING, [A], None),
        (token(a="*"), DELETING, [A], None),
        (token(a="pull,push"), DELETING, [A], FORBIDDEN),
        (token(a="pull"), DELETING, [A], FORBIDDEN),
        (token(b="delete"), DELETING, [A], MISSING),
        (token(), DELETING, [A], MISSING),
        (token(a="delete", b="delete"), DELETING, [A, B], None),
        (token(a="delete", b="pull"), DELETING, [A, B], FORBIDDEN),
        (token(a="delete"), DELETING, [A, B], MISSING),
        (token(a="push"), RESTORING, [A], None),
        (token(a="delete"), RESTORING, [A], None),
        (token(a="pull"), RESTORING, [A], FORBIDDEN),
        (token(a="delete"), DELETING, None, OPERATOR_ONLY),
        (token(a="*"), RECONCILE, None, OPERATOR_ONLY),
        (token(a="*"), RECONCILE, [A], OPERATOR_ONLY),
        (token(b="*"), RECONCILE, [A], MISSING),
        (token(a=""), DELETING, [A], MISSING),  # as token servers name what they refuse
    ],
)
def test_ask__table(
    who: Principal, kind: Kind, repositories: list[RepositoryName] | None, refused: tuple[int, str] | None
) -> None:
    """An action on every repository lets ask; what a token does not know looks missing; the rest takes an operator."""
    found = None
    try:
        require_kind(who, kind, repositories)
    except CallerError as error:
        found = (error.status, error.code)
    assert refused == found


@pytest.mark.parametrize(
    ("who", "on", "refused"),
    [
        (OPERATOR, True, None),
        (token(a="pull"), True, None),  # what it may not is said once its kind is known
        (READER, True, (403, "read_only_token")),
        (ANONYMOUS, True, (401, "unauthorized")),
        (READER, False, (403, "acting_is_off")),
        (ANONYMOUS, False, (403, "acting_is_off")),
    ],
)
def test_acting__table(who: Principal, on: bool, refused: tuple[int, str] | None) -> None:
    """With nothing switched on nobody may ask; with it a read token may not, and nobody without a token."""
    found = None
    try:
        require_acting(who, acting_is_on=on)
    except (CallerError, Unauthorized) as error:
        found = (error.status, error.code)
    assert refused == found


def job(*repositories: RepositoryName, kind: str = "deleting", bounds: dict[str, Any] | None = None) -> Job:
    return Job(
        number=1,
        id=uuid.UUID(int=1),
        kind=kind,
        state=JobState.WAITING,
        acts=True,
        params={},
        repositories=repositories or None,
        asked_by="x",
        asked_from="x",
        asked_with="x",
        by_policy=False,
        reason=None,
        bounds=bounds or {},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=None,
        ended_at=None,
        not_before=None,
        tries=0,
        progress=None,
        checkpoint=None,
        note=None,
        result=None,
        error=None,
        cancel_asked_at=None,
        cancelled_by=None,
        worker=None,
    )


@pytest.mark.parametrize(
    ("who", "of", "sees", "cancels"),
    [
        (OPERATOR, job(A), True, True),
        (OPERATOR, job(), True, True),
        (OPERATOR, job(A, kind="of-the-future"), True, True),
        (READER, job(A), True, False),
        (READER, job(), True, False),
        (ANONYMOUS, job(), True, False),  # who may read everything without a token
        (token(a="delete"), job(A), True, True),
        (token(a="pull"), job(A), True, False),
        (token(a="push"), job(A), True, False),
        (token(b="delete"), job(A), False, False),
        (token(a="delete"), job(A, B), False, False),
        (token(a="delete", b="delete"), job(A, B), True, True),
        (token(a="delete", b="pull"), job(A, B), True, False),
        (token(a="delete"), job(), False, False),
        (token(a="delete"), job(A, kind="of-the-future"), True, False),
        (token(a="*"), job(A, kind="reconcile"), True, False),
        (token(a=""), job(A), False, False),
        (token(a="", b="delete"), job(A, B), False, False),
    ],
)
def test_see_and_cancel__table(
    monkeypatch: pytest.MonkeyPatch, who: Principal, of: Job, sees: bool, cancels: bool
) -> None:
    """Holders of registry tokens see jobs all of whose repositories they know, and cancel what they may ask for."""
    monkeypatch.setitem(KINDS, "deleting", DELETING)
    assert (sees, cancels) == (may_see(who, of), may_cancel(who, of))
    visible = visible_repositories(who)
    assert sees == (visible is None or (of.repositories is not None and set(of.repositories) <= visible))


def denied(of: Job, repository: RepositoryName, tag: str) -> tuple[bool, bool, bool]:
    """Whether the job must not delete a tag, push it where it exists, or push it anew."""
    patterns, name = read_patterns(of.bounds.get(repository)), TagName(tag)
    return (
        judge_deletion(patterns, [name]) is not None,
        judge_push(patterns, name, exists=True) is not None,
        judge_push(patterns, name, exists=False) is not None,
    )


META = {
    "tag_deny_access_patterns": {"push": ["^rel-"], "delete": ["^prod"]},
    "tag_immutable_patterns": ["^v[0-9]+$"],
}


def test_bounds__bind_the_job_as_the_token() -> None:
    """The patterns of the asking token are kept with the job, and deny the same tags of that repository only."""
    who = Principal(name="robot", repositories=frozenset({A, B}), patterns={A: read_patterns(META)})
    bound = job(A, B, bounds=bounds_of(who, [A, B]))
    assert {A} == bound.bounds.keys()

    assert (False, False, False) == denied(bound, A, "latest")
    assert (True, False, False) == denied(bound, A, "prod-1")
    assert (False, True, True) == denied(bound, A, "rel-1")
    assert (True, True, False) == denied(bound, A, "v1")
    assert (False, False, False) == denied(bound, B, "v1")


def test_bounds__that_cannot_be_read_forbid_everything() -> None:
    """A pattern that is not understood protects every tag, in the job as in the token."""
    who = Principal(name="robot", patterns={A: read_patterns({"tag_immutable_patterns": "v1"})})
    bound = job(A, bounds=bounds_of(who, [A]))
    assert (True, True, True) == denied(bound, A, "any")


def test_bounds__of_an_operator_bind_nothing() -> None:
    """An operator's job is bound by nothing."""
    assert {} == bounds_of(OPERATOR, [A])
    assert (False, False, False) == denied(job(A), A, "v1")


@pytest.mark.parametrize(
    "who",
    [
        OPERATOR,
        READER,
        ANONYMOUS,
        token(),
        token(a="pull"),
        token(a="pull,push"),
        token(a="delete", b="push"),
        token(b="*"),
    ],
)
def test_kinds_by_repository__are_those_that_may_be_asked_for(who: Principal) -> None:
    """For a registry token, exactly the kinds that ``require_kind`` lets it ask for; for everybody else none."""
    found = kinds_by_repository(who)
    for name in (A, B):
        allowed = []
        for kind in KINDS.values():
            try:
                require_acting(who, acting_is_on=True)
                require_kind(who, kind, [name])
            except (CallerError, Unauthorized):
                continue
            allowed.append(kind.name)
        assert found.get(name, []) == ([] if who.may_act else allowed)
