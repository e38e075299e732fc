"""What follows from the answers about a tag that are not all of one instant."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import pytest

from indexer.common.errors import RegistryUnavailable
from indexer.inventory.observations import TagState
from indexer.oci.reference import RepositoryName, TagName
from reconciler.observing.tags import TagQuestion, observe_tags
from reconciler.registry.answers import NotFound, NotFoundCode, TagListing
from reconciler.registry.names import TagNames

if TYPE_CHECKING:
    from reconciler.registry.protocol import Registry

REPOSITORY = RepositoryName("team/app")
TAG = TagName("v1")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Scripted:
    """Answers 404, or 500 (``fails``), for the tag, a second after another; ``listed``: what it lists."""

    listed: tuple[TagName, ...] = (TAG,)
    fails: bool = False
    asked: list[str] = field(default_factory=list)
    listed_at: datetime = BEGIN

    def _now(self, what: str) -> datetime:
        self.asked.append(what)
        return BEGIN + timedelta(seconds=len(self.asked) - 1)

    async def head_tag(self, *_: object, **__: object) -> NotFound:
        now = self._now("tag")
        if self.fails:
            raise RegistryUnavailable("500", status=500)
        return NotFound(observed_at=now, registry_clock=now, code=NotFoundCode.MANIFEST_UNKNOWN)

    async def list_tags(self, *_: object) -> TagListing:
        now = self._now("list")
        self.listed_at = datetime.now(UTC)
        return TagListing(observed_at=now, registry_clock=now, names=TagNames.of(self.listed), complete=True)

    async def ping(self) -> None:
        """It answers."""


@pytest.mark.parametrize(("listed", "outcome"), [((TAG,), TagState.BROKEN), ((), TagState.ABSENT)])
async def test_missing__is_dated_by_the_answer_before_the_listing(
    listed: tuple[TagName, ...], outcome: TagState
) -> None:
    """After the listing the tag may have been deleted: that it was listed tells nothing of the second 404's time."""
    registry = Scripted(listed=listed)
    answered = await observe_tags(
        cast("Registry", registry), REPOSITORY, [TagQuestion(tag=TAG)], limit=asyncio.Semaphore(1)
    )
    assert registry.asked == ["tag", "list", "tag"][: 3 if listed else 2]
    observation = answered.observations[TAG]
    assert (observation.outcome, observation.observed_at, observation.as_of) == (outcome, BEGIN, BEGIN)


async def test_unreadable__is_dated_by_the_answer_before_the_listing() -> None:
    """The same where the registry fails for the tag."""
    registry = Scripted(fails=True)
    answered = await observe_tags(
        cast("Registry", registry),
        REPOSITORY,
        [TagQuestion(tag=TAG, unreadable=True)],
        limit=asyncio.Semaphore(1),
    )
    observation = answered.observations[TAG]
    assert (observation.outcome, observation.unreadable) == (TagState.BROKEN, True)
    assert observation.observed_at == observation.as_of <= registry.listed_at
