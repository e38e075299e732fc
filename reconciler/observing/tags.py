"""Observes tags: turns the registry's answers into observations for ``inventory.apply_tag_observation``.

A 404 alone is no observation: the tag may be deleted, or its link may point to a manifest that is gone. A listing made
after the 404 distinguishes the two. A tag in that listing is asked for once more, since it may have been pushed in
between. If the answer is 404 again, that tells of the time before the listing only: the tag may be deleted since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from indexer.common.errors import RegistryDenied, RegistryError, RegistryUnavailable
from indexer.common.task_group import TaskGroup
from indexer.inventory.observations import TagObservation, TagState
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
"""Questions about one repository under way at once; the caller's limit bounds the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagQuestion:
    """How to ask about one tag.

    ``if_digest``: a conditional HEAD, for which the registry reads the tag's link alone; None: one that reads the
    manifest. ``on_record``: the digest on record. ``unreadable``: a 500 counts as an answer, since the tag is on record
    as broken or has answered 500 often enough; if it is listed, it is broken.
    """

    tag: TagName
    if_digest: Digest | None = None
    on_record: Digest | None = None
    unreadable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A question from whose answer nothing follows: why (``reason``, for an operator), and the kind of reason."""

    tag: TagName
    reason: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable(Undecided):
    """500 for this tag, though the registry answers others. An empty or damaged link answers so for ever."""

    observed_at: datetime


Missing = NotFound | Unreadable
"""Answers that need a listing before anything follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Observations of tags of one repository. ``vanished``: the registry does not know the repository."""

    observations: Mapping[TagName, TagObservation]
    undecided: tuple[Undecided, ...] = ()
    vanished: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstAnswers:
    """The first answer for each tag. ``missing``: 404, or 500 where it counts; see :func:`confirm_missing`."""

    answered: Answered
    missing: Mapping[TagName, Missing]


async def observe_tags(
    registry: Registry,
    repository: RepositoryName,
    questions: Sequence[TagQuestion],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    """Observe tags of one repository, ``limit`` at a time; raise ``RegistryUnavailable`` if it does not answer."""
    first = await observe_tags_once(registry, repository, questions, limit=limit)
    if not first.missing:
        return first.answered
    confirmed = await confirm_missing(registry, repository, first.missing, limit=limit)
    return Answered(
        observations={**first.answered.observations, **confirmed.observations},
        undecided=first.answered.undecided + confirmed.undecided,
        vanished=confirmed.vanished,
    )


async def observe_tags_once(
    registry: Registry,
    repository: RepositoryName,
    questions: Sequence[TagQuestion],
    *,
    limit: asyncio.Semaphore,
) -> FirstAnswers:
    """Ask once about each tag; raise ``RegistryUnavailable`` if the registry does not answer."""
    answers = await _head_all(registry, repository, questions, limit=limit)
    observations = {
        tag: observation
        for tag, answer in answers.items()
        if (observation := _observation(repository, tag, answer)) is not None
    }
    unreadable = {question.tag for question in questions if question.unreadable}
    missing = {
        tag: answer
        for tag, answer in answers.items()
        if isinstance(answer, NotFound) or (isinstance(answer, Unreadable) and tag in unreadable)
    }
    undecided = tuple(
        answer for tag, answer in answers.items() if isinstance(answer, Undecided) and tag not in missing
    )
    return FirstAnswers(answered=Answered(observations=observations, undecided=undecided), missing=missing)


async def confirm_missing(
    registry: Registry,
    repository: RepositoryName,
    missing: Mapping[TagName, Missing],
    *,
    limit: asyncio.Semaphore,
) -> Answered:
    """Decide by a listing made now whether tags that answered 404, or 500, are absent or broken.

    Raises ``RegistryUnavailable`` if the registry does not answer.
    """
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
        answer: TagAnswer | Undecided = again.get(tag, first)
        if isinstance(first, Unreadable) and isinstance(answer, Unreadable) and tag in listed:
            observations[tag] = TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.BROKEN,
                observed_at=first.observed_at,
                as_of=first.observed_at,
                unreadable=True,
            )
        elif isinstance(answer, Undecided):
            undecided.append(answer)
        elif isinstance(answer, NotFound) and tag not in listed and not listing.complete:
            reason = "; ".join(listing.reasons) or "listing incomplete"
            undecided.append(Undecided(tag=tag, reason=reason, kind=LISTING_INCOMPLETE))
        elif isinstance(answer, NotFound):
            outcome = TagState.BROKEN if tag in listed else TagState.ABSENT
            observations[tag] = TagObservation(
                repository=repository,
                tag=tag,
                outcome=outcome,
                observed_at=first.observed_at,
                as_of=first.as_of if isinstance(first, NotFound) else first.observed_at,
            )
        elif (observation := _observation(repository, tag, answer)) is not None:
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
    async def head(question: TagQuestion) -> TagAnswer | Undecided:
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

    answers: dict[TagName, TagAnswer | Undecided] = {}
    waiting = iter(questions)

    async def work() -> None:
        for question in waiting:
            answers[question.tag] = await head(question)

    # A few tasks that share the questions: one task each would be half a million for the largest repositories.
    async with TaskGroup() as group:
        for _ in range(min(WORKERS, len(questions))):
            group.create_task(work())
    return answers


def _observation(
    repository: RepositoryName, tag: TagName, answer: TagAnswer | Undecided
) -> TagObservation | None:
    match answer:
        case Found():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.POINTS,
                observed_at=answer.observed_at,
                as_of=answer.as_of,
                digest=answer.digest,
                media_type=answer.media_type,
                size_bytes=answer.size,
            )
        case Confirmed():
            return TagObservation(
                repository=repository,
                tag=tag,
                outcome=TagState.CONFIRMED,
                observed_at=answer.observed_at,
                as_of=answer.as_of,
                digest=answer.digest,
            )
        case _:
            return None  # a 404, or no answer


def undecided_by(tag: TagName, error: RegistryError) -> Undecided:
    """Return a question that ended with an error: nothing follows from it."""
    return Undecided(tag=tag, reason=str(error), kind=kind_of(error))


def answers_500(error: RegistryError) -> bool:
    """Return whether the registry itself answered 500; 502, 503 and 504 are a proxy's, or pass."""
    return isinstance(error, RegistryUnavailable) and error.status == _FAILED


def kind_of(error: RegistryError) -> str:
    """Return the kind of reason why a question has no answer."""
    match error:
        case RegistryUnavailable():
            return NO_ANSWER
        case RegistryDenied():
            return DENIED
        case _:
            return NONSENSE


async def raise_if_down(registry: Registry, error: RegistryError) -> None:
    """Raise ``error`` if the registry as a whole does not answer; return if only this question has no answer.

    An empty link file, left by a crash, answers 500 for ever (distribution issue 4489): one such tag must not make
    every run fail.
    """
    if isinstance(error, RegistryUnavailable):
        try:
            await registry.ping()
        except RegistryError:
            raise error from None


def first_unavailable(group: BaseExceptionGroup[BaseException]) -> RegistryUnavailable | None:
    """Return the first ``RegistryUnavailable`` of an exception group."""
    for error in group.exceptions:
        if isinstance(error, RegistryUnavailable):
            return error
        if isinstance(error, BaseExceptionGroup) and (found := first_unavailable(error)) is not None:
            return found
    return None
