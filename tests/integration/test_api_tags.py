from __future__ import annotations

import random
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from indexer.inventory.semver import semver_key
from tests.fixtures.rows import NEVER, TagRow, at, put_repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.fixtures.asking import Api

PATH = "/api/v1/repositories/team/app/tags"
KEYS = ("name", "semver", "published_at", "created_at", "size", "last_pulled_at", "first_seen_at")


def generate(count: int, seed: int = 7) -> list[TagRow]:
    """Tags with many ties and many unknown values."""
    chance = random.Random(seed)
    names = {f"v{chance.randrange(4)}.{chance.randrange(12)}.{chance.randrange(3)}" for _ in range(count // 3)}
    names |= {f"1.{chance.randrange(9)}-rc.{chance.randrange(12)}" for _ in range(count // 6)}
    while len(names) < count:
        names.add(f"{chance.choice(['main', 'feature', 'Build'])}-{chance.randrange(10_000)}")
    return [
        TagRow(
            name=name,
            size_bytes=chance.choice([0, 100, 200, 300, 10**12]),
            published_at=at(chance.randrange(20)),
            created_at=chance.choice([None, None, at(chance.randrange(10))]),
            first_seen_at=at(chance.randrange(40)),
            last_pulled_at=chance.choice([None, at(chance.randrange(10))]),
            pull_count=chance.randrange(5),
            seed=chance.choice([None, "shared-1", "shared-2"]),
            verified_at=chance.choice([None, at(5)]),
            pushed_by=chance.choice([None, "alice", "bob"]),
        )
        for name in sorted(names)
    ]


VALUES: dict[str, Any] = {
    "name": lambda tag: tag.name.encode(),
    "semver": lambda tag: semver_key(tag.name) or None,
    "published_at": lambda tag: tag.published_at,
    "created_at": lambda tag: tag.created_at,
    "size": lambda tag: tag.size_bytes,
    "last_pulled_at": lambda tag: tag.last_pulled_at,
    "first_seen_at": lambda tag: tag.first_seen_at,
}


def expected(tags: Sequence[TagRow], sort: str) -> list[str]:
    """Sort as interfaces say: key by key, unknown last, name as tie in the direction of the last key."""
    keys = [(key.removeprefix("-"), key.startswith("-")) for key in sort.split(",")]
    if all(name != "name" for name, _ in keys):
        keys.append(("name", keys[-1][1]))
    ordered = list(tags)
    for name, descending in reversed(keys):
        value = VALUES[name]
        known = [tag for tag in ordered if value(tag) is not None]
        unknown = [tag for tag in ordered if value(tag) is None]
        ordered = [*sorted(known, key=value, reverse=descending), *unknown]
    return [tag.name for tag in ordered]


async def forward(api: Api, **query: Any) -> list[str]:
    """Every name, page after page; each page's own way back is checked on the way."""
    names: list[str] = []
    after: str | None = None
    while True:
        page = await api.json(PATH, after=after, **query)
        if after is not None and page["items"]:
            back = await api.json(PATH, before=page["previous"], **query)
            assert [item["name"] for item in back["items"]] == names[-query["limit"] :]
        names += [item["name"] for item in page["items"]]
        after = page["next"]
        if after is None:
            return names


async def backward(api: Api, last: str, **query: Any) -> list[str]:
    """Every name before the cursor, page before page, in the list's order."""
    names: list[str] = []
    before: str | None = last
    while before is not None:
        page = await api.json(PATH, before=before, **query)
        names = [*(item["name"] for item in page["items"]), *names]
        before = page["previous"]
    return names


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("key", KEYS)
async def test_sort__pages_both_ways_equal_the_sorted_reference(api: Api, key: str, direction: str) -> None:
    """Each key sorts both ways, unknown values last, and pages forth and back are the whole list once."""
    tags = generate(83)
    await put_repository(api.pool, "team/app", tags)  # type: ignore[arg-type]  # a pool runs statements too
    sort = f"{direction}{key}"
    wanted = expected(tags, sort)
    assert wanted == await forward(api, sort=sort, limit=10)
    everything = await api.json(PATH, sort=sort, limit=82)
    assert wanted[:82] == [item["name"] for item in everything["items"]]
    rest = await api.json(PATH, sort=sort, limit=82, after=everything["next"])
    assert wanted[82:] == [item["name"] for item in rest["items"]]
    assert wanted[:82] == await backward(api, rest["previous"], sort=sort, limit=7)


async def test_sort__several_keys_with_mixed_directions(api: Api) -> None:
    """Any two and some three keys in any directions sort as the reference does, forth and back."""
    tags = generate(60, seed=11)
    await put_repository(api.pool, "team/app", tags)  # type: ignore[arg-type]
    chance = random.Random(3)
    sorts = ["-size,name", "size,-name", "-last_pulled_at,created_at", "created_at,-last_pulled_at,-name"]
    sorts += [
        ",".join(chance.choice(["", "-"]) + key for key in keys)
        for keys in chance.sample([*permutations(KEYS, 2), *permutations(KEYS, 3)], 40)
    ]
    for sort in sorts:
        assert expected(tags, sort) == await forward(api, sort=sort, limit=9), sort


async def test_tag__shows_the_fields_of_the_interface(api: Api) -> None:
    """A tag has exactly the promised members, times with microseconds and Z, unknown ones null."""
    tag = TagRow(name="latest", published_at=at(1), pushed_by="alice", verified_at=None, artifact_type="")
    await put_repository(api.pool, "team/app", [tag])  # type: ignore[arg-type]
    page = await api.json(PATH)
    (item,) = page["items"]
    assert item == {
        "name": "latest",
        "digest": tag.digest,
        "media_type": tag.media_type,
        "artifact_type": None,
        "kind": "image",
        "size_bytes": 1000,
        "published_at": "2026-01-01T00:01:00.000000Z",
        "published_at_source": "event",
        "created_at": None,
        "first_seen_at": "2026-01-01T00:00:00.000000Z",
        "last_pulled_at": None,
        "pull_count": 0,
        "platforms": ["linux/amd64"],
        "config_digest": item["config_digest"],
        "pushed_by": "alice",
        "verified_at": None,
        "broken": False,
    }
    assert page["next"] is None
    assert page["previous"] is None
    assert page["index"]["walked_at"] is None
    assert NEVER.year == 1
