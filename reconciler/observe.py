"""Looks at tags: the registry's answers, made into observations that `inventory.seen` can judge.

A 404 is not yet an observation: the tag may be gone, or its link may dangle. Which of the two, only a listing
that was made after the look tells; and a name that such a listing has is looked at once more, since it may have
been pushed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from indexer.errors import RegistryError, RegistryUnavailable
from indexer.inventory.seen import Outcome, TagObservation
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Found, NotFound, TagLook
from reconciler.registry.protocol import Registry

WORKERS = 64
"""Looks of one repository under way; how many requests that makes is the caller's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Look at one tag. With ``if_digest`` the cheap look at the link; without, one that reads the manifest."""

    tag: TagName
    if_digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A look from which nothing follows, and why."""

    tag: TagName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What looks at tags of one repository found. ``vanished``: the registry does not know the repository."""

    observations: Mapping[TagName, TagObservation]
    undecided: tuple[Undecided, ...] = ()
    vanished: bool = False


async def observe_tags(
    registry: Registry, repository: RepositoryName, questions: Sequence[Question], *, limit: asyncio.Semaphore
) -> Answered:
    """Look at tags of one repository, ``limit`` at a time; raise ``RegistryUnavailable`` if it does not answer."""
    looks = await _look_at_all(registry, repository, questions, limit=limit)
    missing = [tag for tag, look in looks.items() if isinstance(look, NotFound)]
    observations = {
        tag: observation
        for tag, look in looks.items()
        if (observation := _observation(repository, tag, look)) is not None
    }
    undecided = [look for look in looks.values() if isinstance(look, Undecided)]
    vanished = False
    if missing:
        settled = await _settle_missing(
            registry, repository, {tag: looks[tag] for tag in missing}, limit=limit
        )
        observations |= settled.observations
        undecided += settled.undecided
        vanished = settled.vanished
    return Answered(observations=observations, undecided=tuple(undecided), vanished=vanished)


async def _settle_missing(
    registry: Registry,
    repository: RepositoryName,
    looks: Mapping[TagName, TagLook | Undecided],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    async with limit:
        try:
            listing = await registry.list_tags(repository)
        except RegistryError as error:
            await raise_if_down(registry, error)
            return Answered(
                observations={}, undecided=tuple(Undecided(tag=tag, reason=str(error)) for tag in looks)
            )
    listed = set(listing.names)
    again = await _look_at_all(
        registry, repository, [Question(tag=tag) for tag in looks if tag in listed], limit=limit
    )
    observations: dict[TagName, TagObservation] = {}
    undecided: list[Undecided] = []
    for tag, first in looks.items():
        look = again.get(tag, first)
        if isinstance(look, Undecided):
            undecided.append(look)
        elif isinstance(look, NotFound) and tag not in listed and not listing.complete:
            undecided.append(Undecided(tag=tag, reason="; ".join(listing.reasons) or "listing incomplete"))
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
                return await registry.look_at_tag(repository, question.tag, if_digest=question.if_digest)
            except RegistryError as error:
                await raise_if_down(registry, error)
                return Undecided(tag=question.tag, reason=str(error))

    looks: dict[TagName, TagLook | Undecided] = {}
    waiting = iter(questions)

    async def work() -> None:
        for question in waiting:
            looks[question.tag] = await look(question)

    # A few tasks that share the questions: one task each would be half a million for the largest repositories.
    async with asyncio.TaskGroup() as group:
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
