"""Completes listings of tags where the registry hides some, within a bound on the requests; see ``hidden_tags``.

What the registry is like is found out anew by each walk, at the cost of one request and of what the listings show:
it may have been replaced since. What was found is remembered for whoever asks for the status.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter

from indexer.common.errors import RegistryError
from indexer.common.task_group import TaskGroup
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Pool, connection
from indexer.store.traits import Trait, note_trait
from reconciler.observing.tags import first_unavailable, raise_if_down
from reconciler.registry import hidden_tags
from reconciler.registry.answers import TagListing
from reconciler.registry.hidden_tags import PAGE
from reconciler.registry.protocol import Registry

log = structlog.get_logger()

PER_REPOSITORY: Final = 1000
"""Requests for hidden tags of one repository in one walk, give or take a few: as many as a part has tags, each of which
is asked for anyway."""

WITHOUT_EVIDENCE: Final = 20
"""The same while the registry has shown neither that it hides tags nor that it does not."""

AT_A_TIME: Final = 8

REQUESTS = Counter(
    "reconciler_hidden_tag_requests_total", "Pages asked for to find tags that tags/list hides."
)
FOUND = Counter(
    "reconciler_hidden_tags_found_total", "Tags that tags/list hides and a walk found all the same."
)

Remember = Callable[[bool, str], Awaitable[None]]
"""Takes whether the registry hides tags, and the evidence in words."""


@dataclass(slots=True)
class _Search:
    """The search through one repository: what is still to be asked about, what was found, what it may cost."""

    repository: RepositoryName
    listing: TagListing
    waiting: list[TagName]
    found: set[TagName]
    asked: int = 0


class HiddenTags:
    """What one walk knows of a registry's listings.

    ``requests``: how many it may send for hidden tags in all; 0: none are looked for.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        requests: int,
        limit: asyncio.Semaphore,
        remember: Remember | None = None,
        chance: random.Random | None = None,
    ) -> None:
        self._registry = registry
        self._left = requests
        self._limit = limit
        self._remember = remember
        self._chance = chance or random.Random()  # noqa: S311 - guards nothing
        self._hides: bool | None = None
        self._suspected = False
        self._learning = asyncio.Lock()

    async def complete(self, repository: RepositoryName, listing: TagListing) -> TagListing:
        """Return the listing with the hidden tags that were found; raise ``RegistryUnavailable`` without an answer."""
        if not listing.names or self._left <= 0 or self._hides_nothing():
            return listing
        if await asyncio.to_thread(hidden_tags.shows_what_could_hide, listing.names):
            await self._learn(hides=False, because=f"{repository} is listed with tags that would be hidden")
            return listing
        async with self._learning:
            if self._hides is None and not self._suspected:
                await self._try_never_there()
        if self._hides_nothing():
            return listing
        found = await self._search(repository, listing)
        if not found:
            return listing
        FOUND.inc(len(found))
        log.info("hidden_tags_found", repository=repository, listed=len(listing.names), hidden=len(found))
        return replace(listing, names=await asyncio.to_thread(hidden_tags.merged, listing.names, found))

    def _hides_nothing(self) -> bool:
        return self._hides is False

    async def _try_never_there(self) -> None:
        self._left -= 1
        REQUESTS.inc()
        try:
            async with self._limit:
                listing = await self._registry.list_tags(hidden_tags.NEVER_THERE)
        except RegistryError as error:  # not ours to see
            await raise_if_down(self._registry, error)
            return
        if listing.unknown_repository:
            await self._learn(hides=False, because="a repository that never was is unknown to it")
        else:
            self._suspected = True

    async def _search(self, repository: RepositoryName, listing: TagListing) -> set[TagName]:
        waiting = await asyncio.to_thread(
            hidden_tags.worth_asking, listing.names, most=self._most, chance=self._chance
        )
        search = _Search(repository, listing, waiting, set())
        while search.waiting and not self._hides_nothing() and search.asked < self._most and self._left > 0:
            room = min(AT_A_TIME, self._most - search.asked, self._left)
            batch, search.waiting = search.waiting[:room], search.waiting[room:]
            try:
                async with TaskGroup() as group:
                    for tag in batch:
                        group.create_task(self._ask(search, tag))
            except ExceptionGroup as failures:
                raise first_unavailable(failures) or failures from failures
        if search.waiting and self._hides:
            log.warning("hidden_tags_unasked", repository=repository, tags=len(search.waiting))
        return set() if self._hides_nothing() else search.found

    @property
    def _most(self) -> int:
        return PER_REPOSITORY if self._hides or self._suspected else WITHOUT_EVIDENCE

    async def _ask(self, search: _Search, tag: TagName) -> None:
        """Ask what is behind one tag. What is found may hide more, and is asked about in its turn."""
        last: str | None = hidden_tags.behind(tag)
        while last is not None and self._left > 0:
            try:
                page = await self._page(search, last)
            except RegistryError as error:  # nothing follows for this tag
                await raise_if_down(self._registry, error)
                return
            if hidden_tags.ignores_last(page, last=last):
                await self._learn(hides=False, because="its tags/list has no pages")
                return
            hidden = [
                name
                for name in hidden_tags.hidden_in(page, tag=tag, listed=search.listing.names)
                if name not in search.found
            ]
            if hidden and not self._hides:
                await self._believe(search.repository, hidden[0], tag)
            search.found.update(hidden)
            search.waiting[:0] = hidden
            last = hidden_tags.next_behind(page, tag=tag)

    async def _believe(self, repository: RepositoryName, hidden: TagName, tag: TagName) -> None:
        """What is not listed may have been pushed after the listing: ask once more for all."""
        async with self._limit:
            again = await self._registry.list_tags(repository)
        if hidden not in again.names and tag in again.names:
            await self._learn(hides=True, because=f"{repository}:{hidden} is not listed beside {tag}")

    async def _page(self, search: _Search, last: str) -> Sequence[TagName]:
        self._left -= 1
        search.asked += 1
        REQUESTS.inc()
        async with self._limit:
            return await self._registry.list_tags_behind(search.repository, last=last, size=PAGE)

    async def _learn(self, *, hides: bool, because: str) -> None:
        if self._hides is hides:
            return
        self._hides = hides
        if hides:
            log.warning("registry_hides_tags", because=because)
        if self._remember is not None:
            await self._remember(hides, because)


def remembering(pool: Pool) -> Remember:
    """Return what writes down whether the registry hides tags."""

    async def remember(hides: bool, because: str) -> None:
        async with connection(pool) as held:
            await note_trait(held, trait=Trait.HIDES_TAGS, holds=hides, because=because, at=datetime.now(UTC))

    return remember
