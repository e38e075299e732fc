"""Every list but the tags of one repository."""

from __future__ import annotations

import csv
import io
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import pytest_asyncio
from aiohttp import ClientPayloadError

from indexer.api.v1.audit import AuditEntry
from indexer.api.v1.status import Status
from indexer.audit import export as exporting
from indexer.audit.export import export
from indexer.audit.serialize import COLUMNS
from indexer.inventory.changes import AuditAction
from indexer.store.listing import audit as audit_store
from indexer.store.listing import scopes
from indexer.store.listing import tags as tag_store
from indexer.store.listing.audit import AuditFilter
from tests.fixtures.asking import asking
from tests.fixtures.everything import fill
from tests.fixtures.postgres import filled_once
from tests.fixtures.rows import NEVER, TagRow, at, digest, put_repository

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.fixtures.asking import Api
    from tests.fixtures.postgres import PostgresServer

REPOSITORIES = "/api/v1/repositories"
APP = f"{REPOSITORIES}/team/app"


def anything(_item: Any) -> bool:
    return True


def nothing(_item: Any) -> bool:
    return False


async def every_page(api: Api, path: str, *, limit: int = 7, **query: Any) -> list[Any]:
    """Return all items, page after page; the way back is checked to be the same items."""
    items: list[Any] = []
    after: str | None = None
    previous: str | None = None
    last: list[Any] = []
    while True:
        page = await api.json(path, limit=limit, after=after, **query)
        items += page["items"]
        previous, last = page["previous"], page["items"]
        after = page["next"]
        if after is None:
            break
    back = list(last)
    while previous is not None:
        page = await api.json(path, limit=limit, before=previous, **query)
        back = [*page["items"], *back]
        previous = page["previous"]
    assert back == items
    return items


REPOSITORY_KEYS = (
    "name",
    "tag_count",
    "manifest_count",
    "size_bytes",
    "created_at",
    "last_published_at",
    "last_pulled_at",
)


@pytest.fixture(scope="module")
def filled_url(postgres_server: PostgresServer, schema_template: str) -> Iterator[str]:
    with filled_once(postgres_server, schema_template, fill) as url:
        yield url


@pytest_asyncio.fixture
async def filled(filled_url: str) -> AsyncIterator[Api]:
    """The read APIs of a database with something of everything, which the tests share and cannot write."""
    async with asking(filled_url) as serving:
        yield serving


async def put_repositories(api: Api, count: int) -> None:
    chance = random.Random(2)
    rows = [
        (
            f"{chance.choice(['team', 'Team'.lower() + 's', 'x'])}/r{number}",
            chance.randrange(3),
            chance.randrange(4),
            chance.choice([0, 10**12, 5]),
            at(chance.randrange(5)),
            chance.choice([NEVER, at(chance.randrange(5))]),
            chance.choice([NEVER, at(chance.randrange(5))]),
        )
        for number in range(count)
    ]
    await api.pool.executemany(
        "INSERT INTO repository (name, tag_count, manifest_count, size_bytes, created_at, last_published_at, "
        "last_pulled_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        rows,
    )


async def test_repositories__sort_by_every_field_both_ways(api: Api) -> None:
    """Repositories sort by every field, unknown values last, the name breaks ties in the same direction."""
    await put_repositories(api, 45)
    everything = (await api.json(REPOSITORIES, limit=1000))["items"]
    assert len(everything) == 45
    for key in REPOSITORY_KEYS:
        for descending in (False, True):
            known = [item for item in everything if item[key] is not None]
            unknown = [item for item in everything if item[key] is None]
            known.sort(key=lambda item: (item[key], item["name"]), reverse=descending)
            unknown.sort(key=lambda item: item["name"], reverse=descending)
            sort = f"{'-' if descending else ''}{key}"
            assert await every_page(api, REPOSITORIES, sort=sort) == [*known, *unknown], sort


async def test_repositories__filters(api: Api) -> None:
    """Prefix, substring and "has tags" leave what they say, alone and together."""
    await put_repositories(api, 45)
    everything = (await api.json(REPOSITORIES, limit=1000))["items"]
    for query, keeps in (
        ({"prefix": "team/"}, lambda item: item["name"].startswith("team/")),
        ({"name": "s/r1"}, lambda item: "s/r1" in item["name"]),
        ({"has_tags": True}, lambda item: item["tag_count"] > 0),
        ({"has_tags": False, "prefix": "x/"}, lambda i: i["tag_count"] == 0 and i["name"].startswith("x/")),
        ({"prefix": "none"}, nothing),
    ):
        kept = [item for item in everything if keeps(item)]
        assert await every_page(api, REPOSITORIES, **query) == kept, query
        assert (await api.json(REPOSITORIES, count="exact", **query))["count"] == len(kept)


async def test_repository__one(filled: Api) -> None:
    """One repository has the fields of the list, and when it was last reconciled, by either name."""
    one = await filled.json(APP)
    (listed,) = (await filled.json(REPOSITORIES, prefix="team/"))["items"]
    reconciled = dict.fromkeys(("last_reconciled_at", "walked_at"), "2026-01-01T01:10:30.000000Z")
    assert one == listed | {"pulls_known": False} | reconciled
    empty = await filled.json(f"{REPOSITORIES}/empty")
    assert (empty["last_published_at"], empty["last_pulled_at"]) == (None, None)


async def test_index__says_how_fresh_the_answer_is(api: Api) -> None:
    """as_of is the oldest waiting delivery's arrival; last_reconciled_at the repository's own, or the registry's."""
    await fill(api.pool)
    for path, expected in (
        (f"{APP}/tags", "2026-01-01T01:10:30.000000Z"),
        (REPOSITORIES, "2026-01-01T01:11:00.000000Z"),
        (f"{REPOSITORIES}/other/tags", None),
    ):
        index = (await api.json(path))["index"]
        assert (expected, expected) == (index["last_reconciled_at"], index["walked_at"]), path
    assert (await api.json(REPOSITORIES))["index"]["as_of"] > "2026-01-02"
    await api.pool.execute(
        "INSERT INTO inbox (received_at, done_at, body) VALUES ($1, NULL, ''), ($2, NULL, ''), ($3, $3, '')",
        at(1), at(2), at(0),
    )  # fmt: skip
    for path in (REPOSITORIES, f"{APP}/tags", "/api/v1/audit"):
        assert (await api.json(path))["index"]["as_of"] == "2026-01-01T00:01:00.000000Z"


async def test_history__every_digest_and_the_one_that_held_then(api: Api) -> None:
    """History is newest first; with an instant it is what held then, start inclusive and end exclusive."""
    await fill(api.pool)
    path = f"{APP}/tags/latest/history"
    now, before = await every_page(api, path, limit=1)
    assert (now["digest"], now["from"], now["to"]) == (digest("two"), "2026-01-01T00:30:00.000000Z", None)
    assert (now["from_source"], now["not_before"]) == ("first-seen", "2026-01-01T00:10:00.000000Z")
    assert (before["digest"], before["actor"]) == (digest("one"), "alice")
    assert before["to"] == now["from"]
    assert before["event_id"] is not None
    assert await every_page(api, path, limit=1, sort="from") == [before, now]
    for instant, held in (
        (at(9), []),
        (at(10), [before]),
        (at(29.99), [before]),
        (at(30), [now]),
        (at(9999), [now]),
    ):
        assert (await api.json(path, at=instant))["items"] == held
    await api.pool.execute("DELETE FROM tag WHERE name = 'latest'")
    assert len((await api.json(path))["items"]) == 2
    assert (await api.problem(f"{APP}/tags/never/history", 404))["code"] == "not_found"


async def test_manifests__of_a_repository(api: Api) -> None:
    """Manifests come newest first with their tags; tagged, kind, subject and the like leave what they say."""
    await fill(api.pool)
    path = f"{APP}/manifests"
    await api.pool.execute(
        "INSERT INTO repository_manifest (repository_id, manifest_id, pushed_at, as_of, deleted_at) "
        "SELECT 1, id, $1, $1, CASE WHEN id % 2 = 0 THEN $1::timestamptz END FROM manifest "
        "ON CONFLICT DO NOTHING",
        at(90),
    )
    everything = await every_page(api, path, limit=2)
    assert [item["pushed_at"] for item in everything] == sorted(
        (item["pushed_at"] for item in everything), reverse=True
    )
    one = next(item for item in everything if item["digest"] == digest("one"))
    assert one["tags"] == ["latest", "v1.0.0"]
    assert await every_page(api, path, limit=2, sort="pushed_at") == everything[::-1]
    await api.pool.execute("DELETE FROM tag WHERE name IN ('latest', 'v1.0.0')")
    untagged = await every_page(api, path, tagged=False)
    assert [item["digest"] for item in untagged] == [digest("one")]
    tagged = {item["digest"] for item in await every_page(api, path, tagged=True)}
    assert tagged == {item["digest"] for item in everything} - {digest("one")}
    assert [item["digest"] for item in await every_page(api, path, kind="sbom")] == [digest("referrer")]
    assert [i["digest"] for i in await every_page(api, path, subject=digest("one"))] == [digest("referrer")]
    assert (await api.json(path, tagged=False, count="exact"))["count"] == 1


async def test_manifest__one(filled: Api) -> None:
    """One manifest has its content and its tags; one that the repository does not hold is not found."""
    one = await filled.json(f"{APP}/manifests/{digest('one')}")
    assert (one["tags"], one["held"], one["repository"]) == (["latest", "v1.0.0"], True, "team/app")
    assert [referrer["digest"] for referrer in one["referrers"]] == [digest("referrer")]
    assert (await filled.problem(f"{REPOSITORIES}/other/manifests/{digest('two')}", 404))[
        "code"
    ] == "not_found"


async def put_many(api: Api, repositories: int) -> list[dict[str, Any]]:
    """Some repositories with tags, and all of these as they should come: newest first."""
    chance = random.Random(8)
    found: list[dict[str, Any]] = []
    for number in range(repositories):
        name = f"{'a' if number % 2 else 'b'}/r{number}"
        tags = [
            TagRow(
                name=f"t{n}",
                published_at=at(chance.randrange(30)),
                seed=chance.choice([None, "base"]),
                kind="image",
            )
            for n in range(chance.randrange(9))
        ]
        number_of = await put_repository(api.pool, name, tags)
        found += [{"id": number_of, "repository": name, "tag": tag} for tag in tags]
    return sorted(found, key=lambda one: (one["tag"].published_at, one["id"], one["tag"].name), reverse=True)


@pytest.mark.parametrize("spread", [300, 0])
async def test_tags_everywhere__newest_first_by_scope_and_filter(
    api: Api, monkeypatch: pytest.MonkeyPatch, spread: int
) -> None:
    """Across repositories tags come newest first; a prefix, a digest, times and names leave what they say."""
    monkeypatch.setattr(scopes, "SPREAD_AT_MOST", spread)
    monkeypatch.setattr(tag_store, "STEP", 5)
    monkeypatch.setattr(tag_store, "SEARCHED_TO_THE_END", 30 if spread else 0)
    everything = await put_many(api, 12)
    for query, keeps in (
        ({}, anything),
        ({"prefix": "a/"}, lambda one: one["repository"].startswith("a/")),
        ({"repository": "b/r4"}, lambda one: one["repository"] == "b/r4"),
        ({"repository": "none"}, nothing),
        ({"digest": digest("base")}, lambda one: one["tag"].seed == "base"),
        (
            {"digest": digest("base"), "prefix": "b/"},
            lambda o: o["tag"].seed == "base" and o["repository"][0] == "b",
        ),
        ({"published_after": at(12)}, lambda one: one["tag"].published_at > at(12)),
        ({"name": "3"}, lambda one: "3" in one["tag"].name),
        (
            {"name_regex": "t[12]", "prefix": "a/"},
            lambda o: o["tag"].name in ("t1", "t2") and o["repository"][0] == "a",
        ),
        ({"name_prefix": "t7"}, lambda one: one["tag"].name.startswith("t7")),
        ({"kind": "sbom"}, nothing),
    ):
        wanted = [(one["repository"], one["tag"].name) for one in everything if keeps(one)]
        found = await every_page(api, "/api/v1/tags", limit=4, **query)
        assert [(item["repository"], item["name"]) for item in found] == wanted, query
        oldest = await every_page(api, "/api/v1/tags", limit=4, sort="published_at", **query)
        assert [(item["repository"], item["name"]) for item in oldest] == wanted[::-1], query
        counted = await api.json("/api/v1/tags", count="exact", limit=1, **query)
        assert counted["count"] == len(wanted), query


AUDIT_FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({}, anything),
    ({"repository": "team/app"}, lambda e: e["repository"] == "team/app"),
    ({"prefix": "team/"}, lambda e: e["repository"].startswith("team/")),
    ({"repository": "other"}, nothing),
    ({"tag": "latest"}, lambda e: e["tag"] == "latest"),
    ({"digest": digest("one")}, lambda e: e["digest"] == digest("one")),
    ({"digest": digest("layer")}, lambda e: e["digest"] == digest("layer")),
    ({"digest": digest("unknown")}, nothing),
    ({"action": "tag.moved"}, lambda e: e["action"] == "tag.moved"),
    ({"action": "tag.moved,blob.mounted"}, lambda e: e["action"] in ("tag.moved", "blob.mounted")),
    ({"source": "walk,notification"}, lambda e: e["source"] in ("walk", "notification")),
    ({"repository": "team/app,other"}, lambda e: e["repository"] in ("team/app", "other")),
    ({"occurred_after": at(10)}, lambda e: e["occurred_at"] > "2026-01-01T00:10:00.000000Z"),
    (
        {"since": at(10), "until": at(20)},
        lambda e: "2026-01-01T00:10:00.000000Z" < e["occurred_at"] < "2026-01-01T00:20:00.000000Z",
    ),
    ({"action": "blob.mounted"}, lambda e: e["action"] == "blob.mounted"),
    ({"actor": "alice"}, lambda e: e["actor"] == {"name": "alice"}),
    ({"actor": "nobody"}, nothing),
    ({"source": "walk"}, lambda e: e["source"] == "walk"),
    ({"source": "reconcile"}, lambda e: e["source"] == "walk"),
    ({"source": "reconcile,notification"}, lambda e: e["source"] in ("walk", "notification")),
    ({"address": "192.0.2.7"}, lambda e: e["request"] is not None),
    ({"after_time": at(10)}, lambda e: e["occurred_at"] > "2026-01-01T00:10:00.000000Z"),
    ({"before_time": at(10)}, lambda e: e["occurred_at"] < "2026-01-01T00:10:00.000000Z"),
    (
        {"repository": "team/app", "action": "manifest.pushed", "source": "notification"},
        lambda e: e["action"] == "manifest.pushed" and e["source"] == "notification",
    ),
]


@pytest.mark.parametrize(("spread", "step"), [(300, 100_000), (0, 6)])
async def test_audit__newest_first_sealed_or_not_by_every_filter(
    filled: Api, monkeypatch: pytest.MonkeyPatch, spread: int, step: int
) -> None:
    """Entries come newest first, sealed or not, each once; every filter leaves what a reference leaves."""
    monkeypatch.setattr(scopes, "SPREAD_AT_MOST", spread)
    monkeypatch.setattr(audit_store, "STEP", step)
    everything = (await filled.json("/api/v1/audit", limit=1000))["items"]
    assert [entry["id"] for entry in everything] == list(range(40, 0, -1))
    assert [entry["position"] for entry in everything] == [None] * 20 + list(range(20, 0, -1))
    for query, keeps in AUDIT_FILTERS:
        kept = [entry for entry in everything if keeps(entry)]
        assert await every_page(filled, "/api/v1/audit", **query) == kept, query
        assert (await filled.json("/api/v1/audit", count="exact", **query))["count"] == len(kept), query


@pytest.mark.parametrize("step", [100_000, 4])
async def test_audit__of_one_instant_by_id(api: Api, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """What occurred at one instant, which no index tells apart, is paged through each once, by its id."""
    monkeypatch.setattr(audit_store, "STEP", step)
    await fill(api.pool)
    for table in ("audit_entry", "audit_staged"):
        await api.pool.execute(f"UPDATE {table} SET occurred_at = $1 WHERE id % 3 > 0 AND id > 8", at(7))
    ids = [n for n in range(40, 8, -1) if n % 3 == 0]
    ids += [n for n in range(40, 7, -1) if n % 3 or n == 8] + list(range(7, 0, -1))
    everything = (await api.json("/api/v1/audit", limit=1000))["items"]
    assert ids == [entry["id"] for entry in everything]
    for query, keeps in AUDIT_FILTERS:
        kept = [entry for entry in everything if keeps(entry)]
        assert kept == await every_page(api, "/api/v1/audit", limit=3, **query), query


async def test_audit__an_entry_as_it_is_shown(filled: Api) -> None:
    """An entry shows who, from where, through which registry and when, or between when."""
    entries = {entry["id"]: entry for entry in (await filled.json("/api/v1/audit", limit=100))["items"]}
    for entry in entries.values():
        AuditEntry.model_validate(entry)
    told = entries[2]
    assert told["request"] == {
        "id": "00000000-0000-0000-0000-0000000003e9",
        "address": "192.0.2.7",
        "port": 4711,
        "host": "registry.example",
        "method": "PUT",
        "user_agent": "docker/27",
    }
    assert told["registry"] == {"address": "reg:5000", "instance_id": "inst-1"}
    assert (told["event_id"], told["actor"]) == ("00000000-0000-0000-0000-000000000001", {"name": "alice"})
    assert (told["tag"], told["previous_digest"], told["occurred_between"]) == ("latest", digest("one"), None)
    seen = entries[3]
    assert (seen["request"], seen["registry"], seen["actor"], seen["event_id"]) == (None, None, None, None)
    assert seen["occurred_between"] == ["2026-01-01T00:01:00.000000Z", "2026-01-01T00:02:00.000000Z"]
    assert entries[5]["digest"] == digest("layer")
    assert entries[7]["request"]["id"] == "not-a-uuid"


async def test_audit_export__ndjson_is_the_log_by_position(
    filled: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export is the sealed entries by position, complete and in order, to be taken up again anywhere."""
    monkeypatch.setattr(exporting, "BATCH", 3)
    monkeypatch.setattr(exporting, "WINDOW", 8)
    listed = [e for e in (await filled.json("/api/v1/audit", limit=100))["items"] if e["position"]]
    listed.reverse()
    response = await filled.get("/api/v1/audit/export")
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert [orjson.loads(line) for line in (await response.read()).splitlines()] == listed
    for query, kept in (
        ({"after_position": 7}, listed[7:]),
        ({"after_position": 7, "until": 12}, listed[7:12]),
        ({"after_position": 99}, []),
        ({"action": "tag.moved"}, [e for e in listed if e["action"] == "tag.moved"]),
        ({"repository": "other"}, []),
        ({"source": "walk", "after_position": 3}, [e for e in listed[3:] if e["source"] == "walk"]),
        ({"source": "reconcile", "after_position": 3}, [e for e in listed[3:] if e["source"] == "walk"]),
    ):
        response = await filled.get("/api/v1/audit/export", **query)
        assert [orjson.loads(line) for line in (await response.read()).splitlines()] == kept, query


async def test_audit_export__a_failure_on_the_way_cuts_it_off(
    filled: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that fails after it began never looks complete, and what was received is good to go on from."""
    monkeypatch.setattr(exporting, "BATCH", 3)
    read = audit_store.sealed_entries

    async def fail_later(connection: Any, *, after: int, **asked: Any) -> Any:
        if after >= 6:
            raise RuntimeError("the disk is on fire")
        return await read(connection, after=after, **asked)

    monkeypatch.setattr(exporting, "sealed_entries", fail_later)
    response = await filled.get("/api/v1/audit/export")
    received = b""
    with suppress(ClientPayloadError):
        async for chunk in response.content.iter_any():
            received += chunk
        pytest.fail("the export looks complete")
    assert b"fire" not in received
    assert [orjson.loads(line)["position"] for line in received.splitlines()] == [1, 2, 3, 4, 5, 6]
    assert (await filled.get("/api/v1/status")).status == 200

    async def fail_at_once(_connection: Any) -> int:
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(exporting, "head_position", fail_at_once)
    assert (await filled.problem("/api/v1/audit/export", 500))["code"] == "internal"


async def test_audit_export__csv(filled: Api) -> None:
    """CSV has a line of names and a line for each entry; taken up again it has no names."""
    response = await filled.get("/api/v1/audit/export", format="csv")
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    names, *rows = csv.reader(io.StringIO(await response.text(), newline=""))
    assert tuple(names) == COLUMNS
    assert [row[0] for row in rows] == [str(n) for n in range(1, 21)]
    resumed = await filled.get("/api/v1/audit/export", format="csv", after_position=19)
    assert (await resumed.text()).startswith("20,20,2026-01-01T00:19:00.000000Z,")


async def test_export__says_how_far_it_came(filled: Api) -> None:
    """The export for the command line returns the position to go on from, whatever a filter leaves out."""
    written: list[bytes] = []

    async def out(data: bytes) -> None:
        written.append(data)

    nothing = AuditFilter(actions=(AuditAction.TAG_DELETED,))
    assert await export(filled.pool, format="ndjson", after_position=0, filters=nothing, out=out) == 20
    assert written == []
    assert await export(filled.pool, format="ndjson", after_position=5, until=9, out=out) == 9
    assert len(b"".join(written).splitlines()) == 4


async def test_drift__findings_and_runs(filled: Api) -> None:
    """Findings come newest first with their run, and the newest runs beside them."""
    page = await filled.json("/api/v1/drift", limit=3)
    assert [(run["mode"], run["outcome"], run["repositories"]) for run in page["runs"]] == [
        ("once", "interrupted", ["team/app"]),
        ("run", "complete", None),
    ]
    assert page["runs"][1]["findings"] == 8
    assert page["runs"][1]["undecided"] == {"denied": {"count": 2, "examples": ["team/app:x: 403"]}}
    everything = await every_page(filled, "/api/v1/drift", limit=5)
    assert [item["tag"] for item in everything] == [f"tag-{n}" for n in range(11, -1, -1)]
    for query, keeps in (
        ({"kind": "tag_stale"}, lambda f: f["kind"] == "tag_stale"),
        ({"cause": "race"}, lambda f: f["cause"] == "race"),
        ({"repaired": False}, lambda f: f["repaired_at"] is None),
        ({"run": 1}, lambda f: f["run_id"] == 1),
        ({"tag": "tag-3"}, lambda f: f["tag"] == "tag-3"),
        ({"repository": "other"}, nothing),
        ({"prefix": "te"}, anything),
        ({"after_time": at(72)}, lambda f: f["detected_at"] > "2026-01-01T01:12:00.000000Z"),
    ):
        assert await every_page(filled, "/api/v1/drift", **query) == [f for f in everything if keeps(f)], (
            query
        )


async def test_status__says_how_everything_is(api: Api) -> None:
    """The status shows what waits, who told us, how far the log is sealed and how well tags are verified."""
    await fill(api.pool)
    await api.pool.execute("INSERT INTO inbox (received_at, body) VALUES (now() - interval '1 minute', '')")
    status = await api.json("/api/v1/status")
    Status.model_validate(status)
    assert (status["inbox"], status["quarantine"]) == (1, 1)
    assert 60 <= status["ingest_lag_seconds"] < 90
    assert (status["repositories"], status["tags"]) == (3, 7)
    assert status["backlog"]["verify"]["waiting"] == 1
    assert status["backlog"]["resolve"] == {
        "waiting": 0,
        "due": 0,
        "failing": 0,
        "since": None,
        "age_seconds": None,
    }
    assert (status["audit_position"], status["unsealed"]["entries"]) == (20, 20)
    assert [one["instance_id"] for one in status["instances"]] == ["inst-1"]
    at_last = "2026-01-01T01:11:00.000000Z"
    assert at_last == status["last_reconciled_at"] == status["last_reconcile"]["finished_at"]
    assert (at_last, status["last_reconcile"]) == (status["walked_at"], status["last_walk"])
    assert [(one["tags"], one["found"], one["repaired"], one["undecided"]) for one in status["trend"]] == [
        (7, 5, 0, {"denied": 2})
    ]
    assert status["verification"] == {
        "verified": round(6 / 7, 6),
        "within_15_minutes": 0.0,
        "within_24_hours": 0.0,
        "broken": round(1 / 7, 6),
        "sampled": False,
        "push_to_verified": {"pushes": 0, "median_seconds": None, "p99_seconds": None},
    }
    assert [loop["loop"] for loop in status["loops"]] == ["ingest"]
