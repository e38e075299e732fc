"""GitLab's pages of tags hold while tags come and go."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

from indexer.api.gitlab.markers import make_marker
from tests.fixtures.rows import TagRow, at, put_repository, put_tags
from tests.fixtures.tokens import mint
from tests.fixtures.trusting import Trusting, pull

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import datetime

    from indexer.store.pool import Pool

LARGE = 10_000
APP = "group/app"
TAGS = f"/gitlab/v1/repositories/{APP}/tags/list/"


def generate(count: int) -> Iterator[TagRow]:
    """Tags in no order at all, five to a publish time on average, and two to a manifest."""
    chance = random.Random(count)
    for number in chance.sample(range(count), count):
        yield TagRow(
            name=f"v{number:05}",
            published_at=at(chance.randrange(count // 5)),
            seed=f"{count}-{chance.randrange(count // 2)}",
        )


@pytest.mark.full
@pytest.mark.parametrize("sort", ["published_at", "-published_at"])
async def test_paging__never_skips_or_repeats_an_unchanged_tag(trusting: Trusting, sort: str) -> None:
    """Through 10,000 tags by publish time, while others are pushed, moved and deleted, each unchanged one once."""
    rows = list(generate(LARGE))
    repository_id = await put_repository(trusting.pool, APP, rows)
    others = Others(trusting.pool, repository_id, [row.name for row in ordered(rows)[1:-1]])
    forwards = await walk(trusting, "next", between=others.change, n="250", sort=sort)
    last = next(row for row in rows if row.name == forwards[-1])
    marker = make_marker(last.name, last.published_at)
    backwards = await walk(trusting, "previous", between=others.change, n="250", sort=sort, before=marker)
    changed = others.touched
    assert len(changed) > 500
    unchanged = {row.name for row in rows} - changed
    for seen in (forwards, [*backwards, last.name]):
        names = [name for name in seen if name in unchanged]
        assert len(names) == len(set(names)) == len(unchanged)
    order = {row.name: (row.published_at, row.name) for row in rows if row.name in unchanged}
    expected = sorted(unchanged, key=order.__getitem__, reverse=sort.startswith("-"))
    assert [name for name in forwards if name in unchanged] == expected


async def walk(
    trusting: Trusting, relation: str, *, between: Callable[[], Awaitable[None]], **query: str
) -> list[str]:
    """Follow links in one direction as GitLab does: only the parameters of an address count."""
    token = mint(pull(APP))
    found: list[str] = []
    while True:
        response = await trusting.ask(TAGS, token=token, **query)
        names = [tag["name"] for tag in await response.json()]
        found = found + names if relation == "next" else names + found
        links = dict(read_links(response.headers.get("Link", "")))
        if relation not in links:
            return found
        query = links[relation]
        await between()


def read_links(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for part in header.split(","):
        address, _, relation = part.strip().partition(">; rel=")
        if relation:
            query = parse_qs(address.partition("?")[2])
            yield relation.strip('"'), {name: values[0] for name, values in query.items()}


@dataclass
class Others:
    """Those who push, move and delete tags meanwhile: never the first or the last by publish time."""

    pool: Pool
    repository_id: int
    names: list[str]
    touched: set[str] = field(default_factory=set)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    changes: int = 0

    async def change(self) -> None:
        self.changes += 1
        chosen = self.chance.sample(self.names, 40)
        self.touched |= set(chosen)
        await self.pool.execute(
            "DELETE FROM tag WHERE repository_id = $1 AND name = ANY ($2)", self.repository_id, chosen[:20]
        )
        await self.pool.execute(
            "UPDATE tag SET published_at = $3 WHERE repository_id = $1 AND name = ANY ($2)",
            self.repository_id, chosen[20:], self._instant(),
        )  # fmt: skip
        instant = self._instant()
        new = [
            TagRow(name=f"new-{self.changes}-{n}", published_at=instant, seed=f"new-{self.changes}")
            for n in range(5)
        ]
        async with self.pool.acquire() as held:
            await put_tags(held, self.repository_id, new)

    def _instant(self) -> datetime:
        return at(self.chance.randrange(1, LARGE // 5 - 1))


def ordered(rows: list[TagRow]) -> list[TagRow]:
    return sorted(rows, key=lambda row: (row.published_at, row.name))
