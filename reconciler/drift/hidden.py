"""Completes tag listings where the registry hides tags, within a bound on requests; see ``registry.hidden_tags``.

Each run finds out again whether the registry hides tags, by its listings and one request: the registry may have been
replaced since. The result is stored as a trait of the registry, which the status shows.
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
"""Requests for hidden tags of one repository in one run, give or take a few. A range of tags costs as many HEADs."""

WITHOUT_EVIDENCE: Final = 20
"""The same limit while nothing shows yet whether the registry hides tags."""

AT_A_TIME: Final = 8

REQUESTS = Counter(
    "reconciler_hidden_tag_requests_total", "Pages requested to find tags that tags/list hides."
)
FOUND = Counter(
    "reconciler_hidden_tags_found_total", "Tags that tags/list hides and that a reconcile found all the same."
)

Remember = Callable[[bool, str], Awaitable[None]]
"""Stores whether the registry hides tags, and the evidence as text."""


@dataclass(slots=True)
class _Search:
    """The search in one repository: tags still to ask about, hidden tags found, requests sent."""

    repository: RepositoryName
    listing: TagListing
    waiting: list[TagName]
    found: set[TagName]
    requests: int = 0


class HiddenTags:
    """Finds hidden tags for one run.

    ``requests``: how many the run may send for it in all; 0: it searches for none.
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
        """Return the listing with the hidden tags found; raise ``RegistryUnavailable`` without an answer."""
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
        except RegistryError as error:  # denied to us, for example: nothing is learned
            await raise_if_down(self._registry, error)
            return
        if listing.unknown_repository:
            await self._learn(
                hides=False, because="it answers NAME_UNKNOWN for a repository that never existed"
            )
        else:
            self._suspected = True

    async def _search(self, repository: RepositoryName, listing: TagListing) -> set[TagName]:
        waiting = await asyncio.to_thread(
            hidden_tags.worth_asking, listing.names, most=self._most, chance=self._chance
        )
        search = _Search(repository, listing, waiting, set())
        while (
            search.waiting and not self._hides_nothing() and search.requests < self._most and self._left > 0
        ):
            size = min(AT_A_TIME, self._most - search.requests, self._left)
            batch, search.waiting = search.waiting[:size], search.waiting[size:]
            try:
                async with TaskGroup() as group:
                    for tag in batch:
                        group.create_task(self._ask(search, tag))
            except ExceptionGroup as failures:
                raise first_unavailable(failures) or failures from failures
        if search.waiting and self._hides:
            log.warning("hidden_tags_search_cut", repository=repository, tags=len(search.waiting))
        return set() if self._hides_nothing() else search.found

    @property
    def _most(self) -> int:
        return PER_REPOSITORY if self._hides or self._suspected else WITHOUT_EVIDENCE

    async def _ask(self, search: _Search, tag: TagName) -> None:
        """Ask for the names behind one tag. A hidden tag found may hide more, so it is asked about, too."""
        last: str | None = hidden_tags.behind(tag)
        while last is not None and self._left > 0:
            try:
                page = await self._page(search, last)
            except RegistryError as error:  # nothing is learned about this tag
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
                await self._confirm(search.repository, hidden[0], tag)
            search.found.update(hidden)
            search.waiting[:0] = hidden
            last = hidden_tags.next_behind(page, tag=tag)

    async def _confirm(self, repository: RepositoryName, hidden: TagName, tag: TagName) -> None:
        """List the repository again: a tag that the first listing lacks may have been pushed after it."""
        async with self._limit:
            again = await self._registry.list_tags(repository)
        if hidden not in again.names and tag in again.names:
            await self._learn(hides=True, because=f"{repository}:{hidden} is not listed beside {tag}")

    async def _page(self, search: _Search, last: str) -> Sequence[TagName]:
        self._left -= 1
        search.requests += 1
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
    """Return a function that stores whether the registry hides tags."""

    async def remember(hides: bool, because: str) -> None:
        async with connection(pool) as held:
            await note_trait(held, trait=Trait.HIDES_TAGS, holds=hides, because=because, at=datetime.now(UTC))

    return remember
