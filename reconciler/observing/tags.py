"""Looks at tags: the registry's answers, made into observations that `inventory.seen` can judge.

A 404 is not yet an observation: the tag may be gone, or its link may dangle. Which of the two, only a listing
that was made after the look tells; and a name that such a listing has is looked at once more, since it may have
been pushed in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from indexer.common.errors import RegistryDenied, RegistryError, RegistryUnavailable
from indexer.common.task_group import TaskGroup
from indexer.inventory.apply_observation import TagObservation, TagState
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import Confirmed, Found, NotFound, TagAnswer
from reconciler.registry.protocol import Registry

NO_ANSWER = "no_answer"
DENIED = "denied"
NONSENSE = "nonsense"
UNREADABLE = "unreadable"
"""The registry answered 500 for this tag, though it answers."""
MANIFEST_UNREADABLE = "manifest_unreadable"
LISTING_INCOMPLETE = "listing_incomplete"

_FAILED = 500

WORKERS = 64
"""Looks of one repository under way; how many requests that makes is the caller's limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagQuestion:
    """Look at one tag. With ``if_digest`` the cheap look at the link; without, one that reads the manifest.

    ``on_record``: where it is thought to point. ``unreadable``: a 500 for this tag is an answer by now, since it is on
    record as broken or has answered so often enough; if it is listed, it is broken.
    """

    tag: TagName
    if_digest: Digest | None = None
    on_record: Digest | None = None
    unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A look from which nothing follows, and why: in full, and the kind of reason in a word."""

    tag: TagName
    reason: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable(Undecided):
    """The registry answered 500 for this tag, though it answers. An empty or damaged link does that for ever."""

    observed_at: datetime


Missing = NotFound | Unreadable
"""What a listing has to judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What looks at tags of one repository found. ``vanished``: the registry does not know the repository."""

    observations: Mapping[TagName, TagObservation]
    undecided: tuple[Undecided, ...] = ()
    vanished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAnswers:
    """What one look each came to; ``missing`` answered 404, or 500 where that is an answer by now.

    These are for :func:`confirm_missing` to judge.
    """

    answered: Answered
    missing: Mapping[TagName, Missing]


async def observe_tags(
    registry: Registry,
    repository: RepositoryName,
    questions: Sequence[TagQuestion],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    """Look at tags of one repository, ``limit`` at a time; raise ``RegistryUnavailable`` if it does not answer."""
    looked = await observe_tags_once(registry, repository, questions, limit=limit)
    if not looked.missing:
        return looked.answered
    settled = await confirm_missing(registry, repository, looked.missing, limit=limit)
    return Answered(
        observations={**looked.answered.observations, **settled.observations},
        undecided=looked.answered.undecided + settled.undecided,
        vanished=settled.vanished,
    )


async def observe_tags_once(
    registry: Registry,
    repository: RepositoryName,
    questions: Sequence[TagQuestion],
    *,
    limit: asyncio.Semaphore,
) -> FirstAnswers:
    """Look once at each tag; raise ``RegistryUnavailable`` if the registry does not answer."""
    looks = await _head_all(registry, repository, questions, limit=limit)
    observations = {
        tag: observation
        for tag, look in looks.items()
        if (observation := _observation(repository, tag, look)) is not None
    }
    answers = {question.tag for question in questions if question.unreadable}
    missing = {
        tag: look
        for tag, look in looks.items()
        if isinstance(look, NotFound) or (isinstance(look, Unreadable) and tag in answers)
    }
    undecided = tuple(
        look for tag, look in looks.items() if isinstance(look, Undecided) and tag not in missing
    )
    return FirstAnswers(answered=Answered(observations=observations, undecided=undecided), missing=missing)


async def confirm_missing(
    registry: Registry,
    repository: RepositoryName,
    missing: Mapping[TagName, Missing],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    """Tell what tags that answered 404, or 500 once more, are, by a listing made after it."""
    async with limit:
        try:
            listing = await registry.list_tags(repository)
        except RegistryError as error:
            await raise_if_down(registry, error)
            return Answered(observations={}, undecided=tuple(undecided_by(tag, error) for tag in missing))
    listed = listing.names
    again = await _head_all(
        registry, repository, [TagQuestion(tag=tag) for tag in missing if tag in listed], limit=limit
    )
    observations: dict[TagName, TagObservation] = {}
    undecided: list[Undecided] = []
    for tag, first in missing.items():
        look: TagAnswer | Undecided = again.get(tag, first)
        if isinstance(first, Unreadable) and isinstance(look, Unreadable) and tag in listed:
            observations[tag] = TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.BROKEN,
                observed_at=look.observed_at,
                as_of=look.observed_at,
                unreadable=True,
            )
        elif isinstance(look, Undecided):
            undecided.append(look)
        elif isinstance(look, NotFound) and tag not in listed and not listing.complete:
            reason = "; ".join(listing.reasons) or "listing incomplete"
            undecided.append(Undecided(tag=tag, reason=reason, kind=LISTING_INCOMPLETE))
        elif isinstance(look, NotFound):
            outcome = TagState.BROKEN if tag in listed else TagState.ABSENT
            observations[tag] = TagObservation(
                repository=repository,
                tag=tag,
                outcome=outcome,
                observed_at=look.observed_at,
                as_of=look.as_of,
            )
        elif (observation := _observation(repository, tag, look)) is not None:
            observations[tag] = observation
    return Answered(
        observations=observations, undecided=tuple(undecided), vanished=listing.unknown_repository
    )


async def _head_all(
    registry: Registry,
    repository: RepositoryName,
    questions: Sequence[TagQuestion],
    *,
    limit: asyncio.Semaphore,
) -> dict[TagName, TagAnswer | Undecided]:
    async def look(question: TagQuestion) -> TagAnswer | Undecided:
        async with limit:
            observed_at = datetime.now(UTC)
            try:
                return await registry.head_tag(
                    repository, question.tag, if_digest=question.if_digest, on_record=question.on_record
                )
            except RegistryError as error:
                await raise_if_down(registry, error)
                if answers_500(error):
                    return Unreadable(
                        tag=question.tag, reason=str(error), kind=UNREADABLE, observed_at=observed_at
                    )
                return undecided_by(question.tag, error)

    looks: dict[TagName, TagAnswer | Undecided] = {}
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
    repository: RepositoryName, tag: TagName, look: TagAnswer | Undecided
) -> TagObservation | None:
    match look:
        case Found():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.POINTS,
                observed_at=look.observed_at,
                as_of=look.as_of,
                digest=look.digest,
                media_type=look.media_type,
                size_bytes=look.size,
            )
        case Confirmed():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.CONFIRMED,
                observed_at=look.observed_at,
                as_of=look.as_of,
                digest=look.digest,
            )
        case _:
            return None  # a 404, or no answer


def undecided_by(tag: TagName, error: RegistryError) -> Undecided:
    """Nothing follows from a look that ended so."""
    return Undecided(tag=tag, reason=str(error), kind=kind_of(error))


def answers_500(error: RegistryError) -> bool:
    """Tell whether the registry itself answered that it failed; 502, 503 and 504 are a proxy's, or pass."""
    return isinstance(error, RegistryUnavailable) and error.status == _FAILED


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
