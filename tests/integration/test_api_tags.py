from __future__ import annotations

import random
from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from indexer.api.v1.tags import TagWithContent
from indexer.inventory.semver import semver_key
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.store import repositories
from indexer.store.listing import tags as store
from tests.fixtures.asking import asking
from tests.fixtures.everything import fill
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import NEVER, OCI_INDEX, TagRow, at, digest, put_repository, put_tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from indexer.store.pool import Pool
    from tests.fixtures.asking import Api
    from tests.fixtures.postgres import PostgresServer

PATH = "/api/v1/repositories/team/app/tags"
KEYS = (
    "name",
    "semver",
    "published_at",
    "created_at",
    "size",
    "last_pulled_at",
    "last_checked_at",
    "first_seen_at",
)


def anything(_item: Any) -> bool:
    return True


def nothing(_item: Any) -> bool:
    return False


def generate(count: int, seed: int = 7) -> list[TagRow]:
    """Tags with many ties and many unknown values."""
    chance = random.Random(seed)
    names = {
        f"v{chance.randrange(4)}.{chance.randrange(12)}.{chance.randrange(3)}" for _ in range(count // 3)
    }
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
            last_checked_at=chance.choice([None, at(chance.randrange(10))]),
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
    "last_checked_at": lambda tag: tag.last_checked_at,
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


@pytest.fixture(params=[False, True], ids=["small", "large"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether repositories written by this test are large: then other indexes serve their pages."""
    if request.param:
        monkeypatch.setattr(repositories, "SORTED_WHOLE", 0)
    return bool(request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["small", "large"])
def written_once(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, schema_template: str
) -> Iterator[str]:
    """URL of a database with 83 tags, whose pages are sorted whole or served by the indexes of large repositories."""

    async def fill(pool: Pool) -> None:
        with pytest.MonkeyPatch.context() as patched:
            if request.param:
                patched.setattr(repositories, "SORTED_WHOLE", 0)
            await put_repository(pool, "team/app", generate(83))

    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


@pytest_asyncio.fixture
async def reading(written_once: str) -> AsyncIterator[Api]:
    """The API on it."""
    async with asking(written_once) as api:
        yield api


@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("key", KEYS)
async def test_sort__pages_both_ways_equal_the_sorted_reference(
    reading: Api, key: str, direction: str
) -> None:
    """Each key sorts both ways, unknown values last, and pages forth and back are the whole list once."""
    api, tags = reading, generate(83)
    sort = f"{direction}{key}"
    wanted = expected(tags, sort)
    assert wanted == await forward(api, sort=sort, limit=10)
    everything = await api.json(PATH, sort=sort, limit=82)
    assert wanted[:82] == [item["name"] for item in everything["items"]]
    rest = await api.json(PATH, sort=sort, limit=82, after=everything["next"])
    assert wanted[82:] == [item["name"] for item in rest["items"]]
    assert wanted[:82] == await backward(api, rest["previous"], sort=sort, limit=7)


@pytest.mark.full
@pytest.mark.usefixtures("large")
async def test_sort__several_keys_with_mixed_directions(api: Api) -> None:
    """Any two and some three keys in any directions sort as the reference does, forth and back."""
    tags = generate(60, seed=11)
    await put_repository(api.pool, "team/app", tags)
    chance = random.Random(3)
    sorts = ["-size,name", "size,-name", "-last_pulled_at,created_at", "created_at,-last_pulled_at,-name"]
    sorts += ["last_pulled_at,-last_checked_at", "-last_checked_at,last_pulled_at,size"]
    sorts += [
        ",".join(chance.choice(["", "-"]) + key for key in keys)
        for keys in chance.sample([*permutations(KEYS, 2), *permutations(KEYS, 3)], 40)
    ]
    for sort in sorts:
        assert expected(tags, sort) == await forward(api, sort=sort, limit=9), sort


async def test_sort__by_checks_has_no_index_and_so_an_end(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository of more tags than are sorted for a page is not sorted by checks, and is still filtered by them."""
    tags = generate(60)
    await put_repository(api.pool, "team/app", tags)
    monkeypatch.setattr(store, "SORTED_BY_CHECKS", 59)
    for sort in ("last_checked_at", "-last_checked_at,name"):
        refused = await api.problem(PATH, 400, sort=sort)
        assert (refused["code"], refused["parameter"]) == ("too_many_to_sort", "sort")
        assert "not_checked_since" in refused["allowed"]
    unused = [tag.name for tag in tags if tag.last_checked_at is None or tag.last_checked_at < at(4)]
    assert unused == await forward(api, sort="name", limit=20, not_checked_since=at(4))
    monkeypatch.setattr(store, "SORTED_BY_CHECKS", 60)
    assert expected(tags, "-last_checked_at") == await forward(api, sort="-last_checked_at", limit=20)


async def test_tag__shows_the_fields_of_the_interface(api: Api) -> None:
    """A tag has exactly the promised members, times with microseconds and Z, unknown ones null."""
    tag = TagRow(name="latest", published_at=at(1), pushed_by="alice", verified_at=None, artifact_type="")
    await put_repository(api.pool, "team/app", [tag])
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
        "last_checked_at": None,
        "pull_count": 0,
        "platforms": ["linux/amd64"],
        "config_digest": item["config_digest"],
        "pushed_by": "alice",
        "verified_at": None,
        "broken": False,
        "broken_reason": None,
        "expires": None,
        "protected_by": [],
    }
    assert page["next"] is None
    assert page["previous"] is None
    assert page["index"]["walked_at"] is None


async def test_tag__shows_when_cleanup_deletes_it(api: Api) -> None:
    """What is planned and open for the digest that the tag points to, in the list, across repositories and alone."""
    tags = [TagRow(name=name, published_at=at(1)) for name in ("planned", "moved", "cancelled", "kept")]
    number = await put_repository(api.pool, "team/app", tags)
    await put_repository(api.pool, "team/other", [replace(tags[0], seed="of another")])
    for tag, pointed_to, ended in (
        ("planned", tags[0].digest, None),
        ("moved", digest("earlier"), None),
        ("cancelled", tags[2].digest, at(2)),
    ):
        await api.pool.execute(
            "INSERT INTO cleanup_planned (first_at, due_at, named_at, ended_at, outcome, repository_id, policy, tag, "
            "digest, rule, reason) VALUES ($1, $2, $1, $3, $4, $5, 'team', $6, $7, 'old', 'delete.old')",
            at(1), at(3), ended, ended and "cancelled", number, tag, digest_to_bytes(Digest(pointed_to)),
        )  # fmt: skip
    expiry = {"at": "2026-01-01T00:03:00.000000Z", "policy": "team", "rule": "old"}
    shown = {item["name"]: item["expires"] for item in (await api.json(PATH))["items"]}
    assert shown == {"planned": expiry, "moved": None, "cancelled": None, "kept": None}
    everywhere = (await api.json("/api/v1/tags", name="planned"))["items"]
    assert {item["repository"]: item["expires"] for item in everywhere} == {
        "team/app": expiry,
        "team/other": None,
    }
    assert (await api.json(f"{PATH}/planned"))["expires"] == expiry
    assert (await api.json(f"{PATH}/moved"))["expires"] is None


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"name": "ain-1"}, lambda t: "ain-1" in t.name),
    ({"name": "%"}, nothing),
    ({"name": "_"}, lambda t: "_" in t.name),
    ({"name_prefix": "v1."}, lambda t: t.name.startswith("v1.")),
    ({"name_prefix": "é"}, nothing),
    ({"name_glob": "v?.1*"}, lambda t: t.name[0] == "v" and t.name[2:4] == ".1"),
    ({"name_glob": "*-rc.*"}, lambda t: "-rc." in t.name),
    ({"name_glob": "main-*"}, lambda t: t.name.startswith("main-")),
    ({"name_glob": "**"}, anything),
    ({"name_regex": "v[0-2]\\..*"}, lambda t: t.name[0] == "v" and t.name[1] in "012"),
    ({"name_regex": "main"}, lambda t: t.name == "main"),
    ({"name_regex": "(?i)build-[0-9]+|.*rc.*"}, lambda t: t.name.startswith("Build-") or "rc" in t.name),
    ({"digest": digest("shared-1")}, lambda t: t.seed == "shared-1"),
    ({"digest": digest("nothing")}, nothing),
    ({"kind": "image"}, lambda t: t.kind == "image"),
    ({"kind": "sbom"}, lambda t: t.kind == "sbom"),
    ({"kind": "sbom,index"}, lambda t: t.kind in ("sbom", "index")),
    ({"platform": "linux/arm64,linux/s390x"}, lambda t: "linux/arm64" in t.platforms),
    ({"media_type": f"{OCI_INDEX},x"}, lambda t: t.media_type == OCI_INDEX),
    ({"since": at(7)}, lambda t: t.published_at > at(7)),
    ({"before_time": "2026-01-02"}, anything),
    ({"published_after": "2026-01-02"}, nothing),
    ({"published_after": "1s"}, nothing),
    ({"published_after": "999999w"}, anything),
    ({"size_min": "1KiB"}, lambda t: t.size_bytes >= 1024),
    ({"kind": "signature"}, nothing),
    ({"media_type": OCI_INDEX}, lambda t: t.media_type == OCI_INDEX),
    ({"artifact_type": "application/spdx+json"}, lambda t: t.artifact_type == "application/spdx+json"),
    ({"platform": "linux/arm64"}, lambda t: "linux/arm64" in t.platforms),
    ({"platform": "linux/arm64/v8"}, lambda t: "linux/arm64" in t.platforms),
    ({"pushed_by": "alice"}, lambda t: t.pushed_by == "alice"),
    ({"pushed_by": "nobody"}, nothing),
    ({"published_after": at(7)}, lambda t: t.published_at > at(7)),
    ({"published_before": at(7)}, lambda t: t.published_at < at(7)),
    ({"published_after": at(3), "published_before": at(9)}, lambda t: at(3) < t.published_at < at(9)),
    ({"created_after": at(4)}, lambda t: t.created_at is not None and t.created_at > at(4)),
    ({"created_before": at(4)}, lambda t: t.created_at is not None and t.created_at < at(4)),
    ({"pulled_after": at(4)}, lambda t: t.last_pulled_at is not None and t.last_pulled_at > at(4)),
    ({"pulled_before": at(4)}, lambda t: t.last_pulled_at is not None and t.last_pulled_at < at(4)),
    ({"checked_after": at(4)}, lambda t: t.last_checked_at is not None and t.last_checked_at > at(4)),
    ({"checked_before": at(4)}, lambda t: t.last_checked_at is not None and t.last_checked_at < at(4)),
    ({"not_checked_since": at(4)}, lambda t: t.last_checked_at is None or t.last_checked_at < at(4)),
    (
        {"not_checked_since": at(6), "not_pulled_since": at(6)},
        lambda t: all(used is None or used < at(6) for used in (t.last_pulled_at, t.last_checked_at)),
    ),
    (
        {"checked_after": at(2), "pulled_before": at(8)},
        lambda t: (t.last_checked_at or NEVER) > at(2) and (t.last_pulled_at or at(9)) < at(8),
    ),
    ({"size_min": 200}, lambda t: t.size_bytes >= 200),
    ({"size_max": 200}, lambda t: t.size_bytes <= 200),
    ({"size_min": 100, "size_max": 200}, lambda t: 100 <= t.size_bytes <= 200),
    ({"broken": True}, lambda t: t.broken_reason is not None),
    ({"broken": False}, lambda t: t.broken_reason is None),
    ({"verified": True}, lambda t: t.verified_at is not None),
    ({"verified": False}, lambda t: t.verified_at is None),
    (
        {"name": "1", "size_min": 200, "pushed_by": "bob"},
        lambda t: "1" in t.name and t.size_bytes >= 200 and t.pushed_by == "bob",
    ),
]  # fmt: skip


def assorted(count: int = 120) -> list[TagRow]:
    """Tags of many kinds; tags that share a manifest share what it says."""
    chance = random.Random(23)
    kinds: list[dict[str, Any]] = [
        {},
        {"kind": "sbom", "artifact_type": "application/spdx+json", "platforms": ()},
        {"kind": "index", "media_type": OCI_INDEX, "platforms": ("linux/amd64", "linux/arm64")},
    ]
    return [
        replace(
            tag,
            broken_reason="dangling_tag" if chance.random() < 0.1 else None,
            **({} if tag.seed else chance.choice(kinds)),
        )
        for tag in generate(count, seed=5)
    ]


@pytest.mark.full
async def test_filters__leave_what_a_reference_leaves(api: Api) -> None:
    """Each filter leaves exactly what a plain test in Python leaves, under several sorts, page by page."""
    tags = assorted()
    await put_repository(api.pool, "team/app", tags)
    for query, keeps in FILTERS:
        kept = [tag for tag in tags if keeps(tag)]
        for sort in (
            "name",
            "-published_at",
            "created_at",
            "-last_pulled_at",
            "-last_checked_at",
            "-size,name",
        ):
            assert expected(kept, sort) == await forward(api, sort=sort, limit=11, **query), (query, sort)
        counted = await api.json(PATH, count="exact", limit=1, **query)
        assert counted["count"] == len(kept), query


@pytest.mark.full
async def test_filters__long_repositories_are_searched_in_steps(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a repository is too long for one search, short pages lead to the same tags, forth and back."""
    tags = assorted()
    await put_repository(api.pool, "team/app", tags)
    monkeypatch.setattr(store, "SEARCHED_TO_THE_END", 50)
    monkeypatch.setattr(store, "STEP", 7)
    for query, keeps in FILTERS:
        wanted = [tag for tag in tags if keeps(tag)]
        for sort in ("name", "-created_at", "created_at", "last_pulled_at"):
            names, after, last = [], None, None
            for _ in range(100):
                page = await api.json(PATH, sort=sort, limit=5, after=after, **query)
                names += [item["name"] for item in page["items"]]
                last, after = page["previous"] or last, page["next"]
                if after is None:
                    break
            assert expected(wanted, sort) == names, (query, sort)
            if last is not None:
                page = await api.json(PATH, sort=sort, limit=5, before=last, **query)
                assert [item["name"] for item in page["items"]] == [
                    name for name in names if name in {item["name"] for item in page["items"]}
                ]


async def test_filters__a_search_in_steps_goes_back_over_the_same_tags(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going back from the end of a searched list in short pages meets every match once."""
    tags = assorted()
    await put_repository(api.pool, "team/app", tags)
    monkeypatch.setattr(store, "SEARCHED_TO_THE_END", 50)
    monkeypatch.setattr(store, "STEP", 7)
    for query in ({"kind": "sbom"}, {"name_regex": "main.*"}):
        names, after, previous = [], None, None
        while True:
            page = await api.json(PATH, sort="-published_at", limit=3, after=after, **query)
            names += [item["name"] for item in page["items"]]
            previous = page["previous"]
            if page["next"] is None:
                break
            after = page["next"]
        seen = [item["name"] for item in page["items"]]
        while previous is not None:
            page = await api.json(PATH, sort="-published_at", limit=3, before=previous, **query)
            seen = [*(item["name"] for item in page["items"]), *seen]
            previous = page["previous"]
        assert seen == names


async def test_paging__unchanged_tags_are_neither_skipped_nor_repeated(api: Api) -> None:
    """While tags come, go and move underneath, every tag that stays as it is appears exactly once."""
    tags = generate(200, seed=31)
    number = await put_repository(api.pool, "team/app", tags)
    chance = random.Random(1)
    for sort in ("name", "-published_at", "created_at", "-last_pulled_at", "-size,name", "semver"):
        stay = {tag.name for tag in tags if tag.name.endswith(tuple("13579"))}
        names: list[str] = []
        after = None
        while True:
            page = await api.json(PATH, sort=sort, limit=8, after=after)
            names += [item["name"] for item in page["items"]]
            after = page["next"]
            if after is None:
                break
            await disturb(api, number, stay, chance)
        assert sorted(name for name in names if name in stay) == sorted(stay), sort


async def disturb(api: Api, repository_id: int, stay: set[str], chance: random.Random) -> None:
    """Add a tag, move one and delete one, none of those that stay; no other tag's sort keys change."""
    fresh = TagRow(
        name=f"new-{chance.randrange(10**9)}0",
        published_at=at(chance.randrange(20)),
        created_at=at(chance.randrange(10)),
        size_bytes=chance.choice([0, 100, 300]),
    )
    await put_tags(api.pool, repository_id, [fresh])
    await api.pool.execute(
        "UPDATE tag SET published_at = $3, image_created = $3, size_bytes = $4 WHERE (repository_id, name) = "
        "(SELECT repository_id, name FROM tag WHERE repository_id = $1 AND NOT name = ANY ($2) "
        "ORDER BY md5(name || $5) LIMIT 1)",
        repository_id, list(stay), at(chance.randrange(20)), chance.randrange(400), str(chance.random()),
    )  # fmt: skip
    await api.pool.execute(
        "DELETE FROM tag WHERE (repository_id, name) = (SELECT repository_id, name FROM tag WHERE "
        "repository_id = $1 AND NOT name = ANY ($2) ORDER BY md5(name || $3) LIMIT 1)",
        repository_id, list(stay), str(chance.random()),
    )  # fmt: skip


async def test_paging__the_page_after_an_empty_one_leads_back(api: Api) -> None:
    """Where everything after a cursor is gone, the empty page still leads back to all that is left."""
    await put_repository(api.pool, "team/app", [TagRow(name=name) for name in "abcd"])
    first = await api.json(PATH, limit=2)
    await api.pool.execute("DELETE FROM tag WHERE name IN ('c', 'd')")
    empty = await api.json(PATH, limit=2, after=first["next"])
    assert (empty["items"], empty["next"]) == ([], None)
    back = await api.json(PATH, limit=5, before=empty["previous"])
    assert [item["name"] for item in back["items"]] == ["a", "b"]
    assert back["previous"] is None
    again = await api.json(PATH, limit=5, after=back["next"])
    assert again["items"] == []


async def test_count__is_there_only_where_asked_for(api: Api) -> None:
    """The default is no count; exact and estimate add one."""
    await put_repository(api.pool, "team/app", generate(50))
    assert "count" not in await api.json(PATH)
    assert (await api.json(PATH, count="exact"))["count"] == 50
    assert (await api.json(PATH, count="exact", name_regex=".*"))["count"] == 50
    assert 10 <= (await api.json(PATH, count="estimate"))["count"] <= 250


async def test_tag__one_with_what_it_points_to(api: Api) -> None:
    """One tag comes with config, layers, children, annotations, referrers and siblings."""
    await fill(api.pool)
    tag = await api.json(f"{PATH}/latest")
    assert tag["repository"] == "team/app"
    assert tag["sibling_tags"] == ["v1.0.0"]
    assert [one["digest"] for one in tag["referrers"]] == [digest("referrer")]
    assert tag["referrers"][0]["annotations"] == {"org.example": "yes"}
    assert [layer["digest"] for layer in tag["manifest"]["layers"]] == [digest("layer")]
    assert tag["manifest"]["layers"][0] == {
        "media_type": "application/layer",
        "digest": digest("layer"),
        "size_bytes": 700,
    }
    assert tag["manifest"]["parents"] == [digest("index")]
    multi = await api.json(f"{PATH}/multi")
    assert [(c["digest"], c["platform"]) for c in multi["manifest"]["children"]] == [
        (digest("one"), "linux/amd64")
    ]
    TagWithContent.model_validate(tag)
    assert (await api.problem(f"{PATH}/missing", 404))["code"] == "not_found"


async def test_tag__broken_and_never_announced(api: Api) -> None:
    """A tag that the registry lists but cannot serve, and never announced, is shown without a digest."""
    number = await put_repository(api.pool, "team/app", [TagRow(name="ghost", broken_reason="dangling_tag")])
    await api.pool.execute("UPDATE tag SET manifest_id = NULL WHERE repository_id = $1", number)
    (item,) = (await api.json(PATH))["items"]
    assert (item["digest"], item["broken"], item["config_digest"]) == (None, True, None)
    tag = await api.json(f"{PATH}/ghost")
    assert (tag["digest"], tag["manifest"], tag["sibling_tags"]) == (None, None, [])
    assert (tag["broken"], tag["broken_reason"]) == (True, "dangling_tag")


async def test_tags__say_why_they_are_broken(api: Api) -> None:
    """What the reconciler found is shown in the list of a repository, across repositories, and of one tag."""
    reasons = {"dangling": "dangling_tag", "failing": "unreadable_tag", "good": None}
    rows = [TagRow(name=name, broken_reason=reason) for name, reason in reasons.items()]
    await put_repository(api.pool, "team/app", rows)
    for path in (PATH, "/api/v1/tags", f"{PATH}?sort=last_pulled_at"):
        items = (await api.json(path))["items"]
        assert {item["name"]: item["broken_reason"] for item in items} == reasons
    assert (await api.json(f"{PATH}/failing"))["broken_reason"] == "unreadable_tag"
