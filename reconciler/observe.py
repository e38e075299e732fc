"""Looks at tags: the registry's answers, made into observations that `inventory.seen` can judge.

A 404 is not yet an observation: the tag may be gone, or its link may dangle. Which of the two, only a listing
that was made after the look tells; and a name that such a listing has is looked at once more, since it may have
been pushed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.errors import RegistryDenied, RegistryError, RegistryUnavailable
from indexer.inventory.seen import Outcome, TagObservation
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.task_group import TaskGroup
from reconciler.registry.answers import Confirmed, Found, NotFound, TagLook
from reconciler.registry.protocol import Registry

NO_ANSWER = "no_answer"
DENIED = "denied"
NONSENSE = "nonsense"
LISTING_INCOMPLETE = "listing_incomplete"

WORKERS = 64
"""Looks of one repository under way; how many requests that makes is the caller's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Look at one tag. With ``if_digest`` the cheap look at the link; without, one that reads the manifest.

    ``on_record``: where it is thought to point.
    """

    tag: TagName
    if_digest: Digest | None = None
    on_record: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A look from which nothing follows, and why: in full, and the kind of reason in a word."""

    tag: TagName
    reason: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What looks at tags of one repository found. ``vanished``: the registry does not know the repository."""

    observations: Mapping[TagName, TagObservation]
    undecided: tuple[Undecided, ...] = ()
    vanished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What one look each came to; ``missing`` answered 404, which is for :func:`settle_missing` to judge."""

    answered: Answered
    missing: Mapping[TagName, NotFound]


async def observe_tags(
    registry: Registry, repository: RepositoryName, questions: Sequence[Question], *, limit: asyncio.Semaphore
) -> Answered:
    """Look at tags of one repository, ``limit`` at a time; raise ``RegistryUnavailable`` if it does not answer."""
    looked = await look_at_tags(registry, repository, questions, limit=limit)
    if not looked.missing:
        return looked.answered
    settled = await settle_missing(registry, repository, looked.missing, limit=limit)
    return Answered(
        observations={**looked.answered.observations, **settled.observations},
        undecided=looked.answered.undecided + settled.undecided,
        vanished=settled.vanished,
    )


async def look_at_tags(
    registry: Registry, repository: RepositoryName, questions: Sequence[Question], *, limit: asyncio.Semaphore
) -> Looked:
    """Look once at each tag; raise ``RegistryUnavailable`` if the registry does not answer."""
    looks = await _look_at_all(registry, repository, questions, limit=limit)
    observations = {
        tag: observation
        for tag, look in looks.items()
        if (observation := _observation(repository, tag, look)) is not None
    }
    undecided = tuple(look for look in looks.values() if isinstance(look, Undecided))
    return Looked(
        answered=Answered(observations=observations, undecided=undecided),
        missing={tag: look for tag, look in looks.items() if isinstance(look, NotFound)},
    )


async def settle_missing(
    registry: Registry,
    repository: RepositoryName,
    missing: Mapping[TagName, NotFound],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    """Tell what tags that answered 404 are, by a listing made after it."""
    async with limit:
        try:
            listing = await registry.list_tags(repository)
        except RegistryError as error:
            await raise_if_down(registry, error)
            return Answered(observations={}, undecided=tuple(undecided_by(tag, error) for tag in missing))
    listed = listing.names
    again = await _look_at_all(
        registry, repository, [Question(tag=tag) for tag in missing if tag in listed], limit=limit
    )
    observations: dict[TagName, TagObservation] = {}
    undecided: list[Undecided] = []
    for tag, first in missing.items():
        look: TagLook | Undecided = again.get(tag, first)
        if isinstance(look, Undecided):
            undecided.append(look)
        elif isinstance(look, NotFound) and tag not in listed and not listing.complete:
            reason = "; ".join(listing.reasons) or "listing incomplete"
            undecided.append(Undecided(tag=tag, reason=reason, kind=LISTING_INCOMPLETE))
        elif isinstance(look, NotFound):
            outcome = Outcome.BROKEN if tag in listed else Outcome.ABSENT
            observations[tag] = TagObservation(
                repository=repository, tag=tag, outcome=outcome, looked_at=look.looked_at, as_of=look.as_of
            )
        elif (observation := _observation(repository, tag, look)) is not None:
            observations[tag] = observation
    return Answered(
        observations=observations, undecided=tuple(undecided), vanished=listing.unknown_repository
    )


async def _look_at_all(
    registry: Registry, repository: RepositoryName, questions: Sequence[Question], *, limit: asyncio.Semaphore
) -> dict[TagName, TagLook | Undecided]:
    async def look(question: Question) -> TagLook | Undecided:
        async with limit:
            try:
                return await registry.look_at_tag(
                    repository, question.tag, if_digest=question.if_digest, on_record=question.on_record
                )
            except RegistryError as error:
                await raise_if_down(registry, error)
                return undecided_by(question.tag, error)

    looks: dict[TagName, TagLook | Undecided] = {}
    waiting = iter(questions)

    async def work() -> None:
        for question in waiting:
            looks[question.tag] = await look(question)

    # A few tasks that share the questions: one task each would be half a million for the largest repositories.
    async with TaskGroup() as group:
        for _ in range(min(WORKERS, len(questions))):
            group.create_task(work())
    return looks


def _observation(
    repository: RepositoryName, tag: TagName, look: TagLook | Undecided
) -> TagObservation | None:
    match look:
        case Found():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=Outcome.POINTS,
                looked_at=look.looked_at,
                as_of=look.as_of,
                digest=look.digest,
                media_type=look.media_type,
                size_bytes=look.size,
            )
        case Confirmed():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=Outcome.CONFIRMED,
                looked_at=look.looked_at,
                as_of=look.as_of,
                digest=look.digest,
            )
        case _:
            return None


def undecided_by(tag: TagName, error: RegistryError) -> Undecided:
    """Nothing follows from a look that ended so."""
    return Undecided(tag=tag, reason=str(error), kind=kind_of(error))


def kind_of(error: RegistryError) -> str:
    """Return in a word why a question has no answer."""
    match error:
        case RegistryUnavailable():
            return NO_ANSWER
        case RegistryDenied():
            return DENIED
        case _:
            return NONSENSE


async def raise_if_down(registry: Registry, error: RegistryError) -> None:
    """Raise ``error`` if the registry as a whole does not answer; return if only this question has no answer.

    An empty link file, left by a crash, answers 500 for ever (distribution issue 4489): one such tag must not
    end every walk.
    """
    if isinstance(error, RegistryUnavailable):
        try:
            await registry.ping()
        except RegistryError:
            raise error from None


def first_unavailable(group: BaseExceptionGroup[BaseException]) -> RegistryUnavailable | None:
    """Return the first "the registry does not answer" among what failed together."""
    for error in group.exceptions:
        if isinstance(error, RegistryUnavailable):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := first_unavailable(error)) is not None:
            return found
    return None
