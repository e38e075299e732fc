"""The caches of ids of words, while other tasks change them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from indexer.store import lookups
from indexer.store.lookups import Lookups


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> Lookups:
    @asynccontextmanager
    async def connection(_pool: Any) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr("indexer.store.lookups.pools.connection", connection)
    return Lookups(None)  # type: ignore[arg-type]  # no statement is made


def fetching(meanwhile: Callable[[], None]) -> Any:
    async def fetch(_connection: Any, missing: list[str]) -> dict[str, int]:
        found = {word: len(word) for word in missing}
        meanwhile()
        return found

    return fetch


async def test_ids__survive_a_cache_that_is_emptied_meanwhile(words: Lookups) -> None:
    """Another task's words may fill the cache, or an erasure empty it, while this one asks the database."""
    cache = {"ada": 3}
    assert await words._ids(cache, {"ada", "grace"}, fetching(cache.clear)) == {"ada": 3, "grace": 5}


async def test_ids__of_people_erased_meanwhile_are_not_kept(words: Lookups) -> None:
    """What was read before an erasure is not put into the cache behind it."""
    cache: dict[str, int] = {}

    def erased() -> None:
        words._erasures += 1
        cache.clear()

    assert await words._ids(cache, {"alice"}, fetching(erased)) == {"alice": 5}
    assert cache == {}
    assert await words._ids(cache, {"alice"}, fetching(lambda: None)) == {"alice": 5}
    assert cache == {"alice": 5}


async def test_ids__a_full_cache_is_emptied_and_answers(
    words: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More words than it may hold: all are answered, and the newest are kept."""
    monkeypatch.setattr(lookups, "CACHE_ENTRIES", 2)
    cache = {"ada": 3, "bob": 3}
    assert await words._ids(cache, {"ada", "grace"}, fetching(lambda: None)) == {"ada": 3, "grace": 5}
    assert cache == {"grace": 5}
