"""HEAD, then GET by digest: one pull of the tag, whatever batches they come in; a HEAD alone is a check."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from indexer.audit.seal import Sealer
from indexer.background.housekeeping import Housekeeper, Retention
from indexer.ingest.worker import IngestWorker
from indexer.inventory.own_requests import signed
from indexer.oci.user_agent import user_agent
from indexer.store import inbox, own_requests
from indexer.store.identifiers import event_key
from indexer.store.lookups import Lookups
from indexer.store.own_requests import own_key
from indexer.store.pool import Pool, transaction
from reconciler.pulls.announced import OwnRequests, PullWatch
from tests.fixtures.asking import Api
from tests.fixtures.floods import EPOCH, REPOSITORY, delivery, event, pushes

LONG = timedelta(days=3650)
PATH = f"/api/v1/repositories/{REPOSITORY}"


def asks(
    method: str, seconds: float, *, by_digest: bool = False, address: str = "10.0.0.1:1"
) -> dict[str, Any]:
    at = EPOCH + timedelta(hours=1, seconds=seconds)
    number = f"{method} {seconds} {address}"
    return event("pull", tag="v0", at=at, number=number, method=method, by_digest=by_digest, address=address)


async def apply(pool: Pool, lookups: Lookups, *events: dict[str, Any]) -> None:
    """Apply events, each as a batch of its own."""
    for each in events:
        async with pool.acquire() as connection:
            await inbox.put_deliveries(connection, deliveries=[delivery(each, can_wait=True)])
        await drain(pool, lookups)


async def drain(pool: Pool, lookups: Lookups) -> None:
    worker = IngestWorker(pool, lookups)
    while (await worker.run_once()).items:
        pass


async def push(pool: Pool, lookups: Lookups) -> None:
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=pushes(1))
    await drain(pool, lookups)


def shown(at: str | None) -> float | None:
    if at is None:
        return None
    return (datetime.fromisoformat(at) - EPOCH - timedelta(hours=1)).total_seconds()


async def used(api: Api, path: str) -> tuple[float | None, int | None, float | None]:
    body = await api.json(path)
    return shown(body["last_pulled_at"]), body.get("pull_count"), shown(body["last_checked_at"])


async def test_head_then_get__one_pull_of_the_tag(pool: Pool, lookups: Lookups, api: Api) -> None:
    """Tag, manifest and repository say when each happened last; a second GET finds no check and is of no tag."""
    await push(pool, lookups)
    head, get = asks("HEAD", 1), asks("GET", 2, by_digest=True)
    await apply(pool, lookups, head, get, get)
    assert (2, 1, 1) == await used(api, f"{PATH}/tags/v0")
    assert (2, None, 1) == await used(api, PATH)
    (manifest,) = (await api.json(f"{PATH}/manifests"))["items"]
    assert (2, 1, 1) == await used(api, f"{PATH}/manifests/{manifest['digest']}")
    assert (1, "v0") == (manifest["pull_count"], manifest["tags"][0])
    assert manifest["last_checked_at"] is not None
    (entry,) = (await api.json("/api/v1/audit", action="manifest.pulled"))["items"]
    assert ("v0", {"tag_by": "check"}) == (entry["tag"], entry["detail"])
    await apply(pool, lookups, asks("GET", 3, by_digest=True))
    assert (2, 1, 1) == await used(api, f"{PATH}/tags/v0")
    assert (3, None, 1) == await used(api, PATH)


async def test_head_alone__is_a_check(pool: Pool, lookups: Lookups, api: Api) -> None:
    """It moves no time and no count of pulls; filters on pulls do not see it."""
    await push(pool, lookups)
    await apply(pool, lookups, asks("HEAD", 5), asks("HEAD", 4))
    assert (None, 0, 5) == await used(api, f"{PATH}/tags/v0")
    (listed,) = (await api.json(f"{PATH}/tags", never_pulled=True))["items"]
    assert 5 == shown(listed["last_checked_at"])
    assert (None, None, 5) == await used(api, PATH)
    assert 2 == len((await api.json("/api/v1/audit", action="manifest.checked"))["items"])


async def test_checks__are_coalesced_apart_from_pulls(pool: Pool, lookups: Lookups, api: Api) -> None:
    """An hour of one client is one entry of each kind, and a lone one stays as it is."""
    await push(pool, lookups)
    two_pulls = [asks("GET", seconds, by_digest=True) for seconds in (2, 12)]
    await apply(pool, lookups, *(asks("HEAD", seconds) for seconds in (1, 11, 21)), *two_pulls)
    await apply(pool, lookups, asks("HEAD", 30, address="10.0.0.2:1"))
    day = timedelta(days=1)
    keep = Retention(inbox=LONG, events=LONG, tombstones=LONG, due=LONG, pull_detail=day)
    while (await Housekeeper(pool, keep).run_once()).rest_seconds == 0:
        pass
    while (await Sealer(pool).run_once()).items:
        pass
    entries = (await api.json("/api/v1/audit", action="manifest.checked,manifest.pulled"))["items"]
    found = sorted((entry["action"], entry["tag"], str(entry["detail"])) for entry in entries)
    assert [
        ("manifest.checked", "v0", "{'checks': 3}"),
        ("manifest.checked", "v0", "{}"),
        ("manifest.pulled", "v0", "{'pulls': 2}"),
    ] == found


async def test_checks__that_wait_are_forgotten_by_age(pool: Pool, lookups: Lookups) -> None:
    """What no GET followed does not stay."""
    await push(pool, lookups)
    await apply(pool, lookups, asks("HEAD", 1))
    keep = Retention(inbox=LONG, events=LONG, tombstones=LONG, due=LONG, pull_detail=None)
    await Housekeeper(pool, keep).run_once()
    assert 1 == await pool.fetchval("SELECT count(*) FROM unmatched_check")
    await pool.execute("UPDATE unmatched_check SET stored_at = stored_at - interval '16 minutes'")
    await Housekeeper(pool, keep).run_once()
    assert 0 == await pool.fetchval("SELECT count(*) FROM unmatched_check")


def says(event: dict[str, Any], agent: str) -> dict[str, Any]:
    return event | {"request": event["request"] | {"useragent": agent}}


async def own(pool: Pool, event: dict[str, Any], *, nonce: int) -> dict[str, Any]:
    """The event as our own request makes it."""
    async with pool.acquire() as held:
        key = await own_key(held)
    target = event["target"]
    value = signed(
        key,
        at=datetime.fromisoformat(event["timestamp"]),
        nonce=nonce.to_bytes(16, "big"),
        method=event["request"]["method"],
        path=f"/v2/{target['repository']}/manifests/{target.get('tag', target['digest'])}",
    )
    return says(event, f"{user_agent('1')} {value}")


async def test_own_requests__count_nowhere_and_whoever_imitates_them_does(
    pool: Pool, lookups: Lookups, api: Api
) -> None:
    """What we signed is no pull; our name alone, a copied value and one for another request are, and are logged."""
    await push(pool, lookups)
    mine = [
        await own(pool, asks("HEAD", 1), nonce=1),
        await own(pool, asks("GET", 2, by_digest=True), nonce=2),
        await own(pool, asks("GET", 3), nonce=3),
    ]
    await apply(pool, lookups, *mine, mine[0])
    assert (None, 0, None) == await used(api, f"{PATH}/tags/v0")
    assert [] == (await api.json("/api/v1/audit", action="manifest.pulled,manifest.checked"))["items"]
    others = [
        says(asks("GET", 10), "registry-indexer-reconciler/9"),
        says(asks("GET", 11), mine[2]["request"]["useragent"]),
        says(asks("HEAD", 12), mine[2]["request"]["useragent"]),
        says(asks("HEAD", 3600), mine[0]["request"]["useragent"]),
    ]
    await apply(pool, lookups, *others)
    assert (11, 2, 3600) == await used(api, f"{PATH}/tags/v0")
    entries = (await api.json("/api/v1/audit", action="manifest.pulled,manifest.checked"))["items"][::-1]
    assert ["unsigned", "repeated", "forged", "outdated"] == [
        entry["detail"]["says_it_is_the_reconciler"] for entry in entries
    ]
    assert {"registry-indexer-reconciler/9", user_agent("1")} == {e["request"]["user_agent"] for e in entries}


async def test_own_requests__delivered_again(pool: Pool, lookups: Lookups, api: Api) -> None:
    """An event of our own is known by its signature: again it changes nothing, and another event with it is a pull."""
    await push(pool, lookups)
    known = await pool.fetchval("SELECT count(*) FROM applied_event")
    mine = await own(pool, asks("GET", 1), nonce=1)
    await apply(pool, lookups, mine)
    await apply(pool, lookups, mine)
    assert known == await pool.fetchval("SELECT count(*) FROM applied_event")
    assert (None, 0, None) == await used(api, f"{PATH}/tags/v0")
    imitated = says(asks("GET", 2), mine["request"]["useragent"])
    await apply(pool, lookups, imitated)
    await apply(pool, lookups, imitated)
    await apply(pool, lookups, mine)
    assert (2, 1, None) == await used(api, f"{PATH}/tags/v0")


WAITS_FOR_A_LOCK = """
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
"""


async def pack(pool: Pool) -> int:
    """Pack what was recorded, whenever it was issued."""
    async with pool.acquire() as held:
        return await own_requests.pack_values(held, before=datetime.now(UTC) + timedelta(days=1), limit=1000)


async def test_own_requests__are_known_when_they_are_packed(pool: Pool, lookups: Lookups, api: Api) -> None:
    """Nothing differs: again it changes nothing, another event with its signature is a pull, and so is a third."""
    await push(pool, lookups)
    mine = [await own(pool, asks("GET", second), nonce=second) for second in (1, 2, 70)]
    await apply(pool, lookups, *mine)
    assert 3 == await pack(pool)
    assert 0 == await pool.fetchval("SELECT count(*) FROM own_request")
    assert [2, 1] == [
        len(row["numbers"]) for row in await pool.fetch("SELECT * FROM own_request_pack ORDER BY issued")
    ]
    for _ in range(2):
        await apply(pool, lookups, *mine)
        assert (None, 0, None) == await used(api, f"{PATH}/tags/v0")
    imitated = says(asks("GET", 3), mine[1]["request"]["useragent"])
    await apply(pool, lookups, imitated)
    await apply(pool, lookups, imitated, mine[1])
    assert (3, 1, None) == await used(api, f"{PATH}/tags/v0")
    assert 0 == await pool.fetchval("SELECT count(*) FROM own_request")
    again = await own(pool, asks("GET", 4), nonce=4)
    await apply(pool, lookups, again)
    assert 1 == await pack(pool)
    await apply(pool, lookups, says(asks("GET", 5), again["request"]["useragent"]), again)
    assert (5, 2, None) == await used(api, f"{PATH}/tags/v0")


async def test_own_requests__packed_while_an_event_is_applied(pool: Pool, lookups: Lookups, api: Api) -> None:
    """Whoever records a signature that is being packed waits for that, and finds it packed."""
    await push(pool, lookups)
    mine = await own(pool, asks("GET", 1), nonce=1)
    await apply(pool, lookups, mine)
    async with transaction(pool) as packing:
        await own_requests.pack_values(packing, before=datetime.now(UTC) + timedelta(days=1), limit=1000)
        imitating = asyncio.create_task(
            apply(pool, lookups, says(asks("GET", 2), mine["request"]["useragent"]))
        )
        async with asyncio.timeout(60):
            while not await pool.fetchval(WAITS_FOR_A_LOCK):
                await asyncio.sleep(0.01)
    await imitating
    assert (2, 1, None) == await used(api, f"{PATH}/tags/v0")


async def test_own_requests__are_forgotten_with_the_day(pool: Pool, lookups: Lookups) -> None:
    """Packed or not, they are kept for as long as event ids."""
    await push(pool, lookups)
    await apply(pool, lookups, await own(pool, asks("GET", 1), nonce=1))
    await pack(pool)
    await apply(pool, lookups, await own(pool, asks("GET", 2), nonce=2))
    both = "SELECT (SELECT count(*) FROM own_request) + (SELECT count(*) FROM own_request_pack)"
    for before, left in (
        (datetime.now(UTC) - timedelta(days=1), 2),
        (datetime.now(UTC) + timedelta(days=1), 0),
    ):
        async with pool.acquire() as held:
            await own_requests.trim_values(held, before=before, limit=10)
        assert left == await pool.fetchval(both)


async def test_own_requests__recorded_by_an_earlier_version(pool: Pool, lookups: Lookups, api: Api) -> None:
    """Where a signature's event is not on record its id is, so that a later delivery is known all the same."""
    await push(pool, lookups)
    mine = await own(pool, asks("GET", 1), nonce=1)
    await apply(pool, lookups, mine)
    await pool.execute("UPDATE own_request SET event = NULL")
    await pool.execute(
        "INSERT INTO applied_event (event_key, received_at) VALUES ($1, now())", event_key(mine["id"])
    )
    await apply(pool, lookups, mine)
    assert (None, 0, None) == await used(api, f"{PATH}/tags/v0")
    await apply(pool, lookups, says(asks("GET", 2), mine["request"]["useragent"]))
    assert (2, 1, None) == await used(api, f"{PATH}/tags/v0")


async def test_own_requests__a_value_counts_once_within_a_batch(
    pool: Pool, lookups: Lookups, api: Api
) -> None:
    """Two events with one value in one batch: the first is ours."""
    await push(pool, lookups)
    first = await own(pool, asks("GET", 1), nonce=1)
    second = says(asks("GET", 2), first["request"]["useragent"])
    async with pool.acquire() as connection:
        await inbox.put_deliveries(connection, deliveries=[delivery(first, second, can_wait=True)])
    await drain(pool, lookups)
    assert (2, 1, None) == await used(api, f"{PATH}/tags/v0")


async def test_pulls_known__by_an_announced_pull_and_no_more_by_one_passed_over(
    pool: Pool, lookups: Lookups, api: Api
) -> None:
    """Every answer about pulls says whether they are announced: a pull of our own shows it, a silent one ends it."""

    async def known() -> set[bool]:
        (manifest,) = (await api.json(f"{PATH}/manifests"))["items"]
        things = [
            await api.json(path)
            for path in (PATH, f"{PATH}/tags/v0", f"{PATH}/manifests/{manifest['digest']}")
        ]
        lists = [await api.json(path, **query) for path, query in LISTS]
        return {thing["pulls_known"] for thing in things} | {body["index"]["pulls_known"] for body in lists}

    await push(pool, lookups)
    assert {False} == await known()
    await apply(pool, lookups, await own(pool, asks("HEAD", 1), nonce=1))
    assert {True} == await known()
    asked = OwnRequests()
    asked.note(datetime.now(UTC) - timedelta(hours=1))
    await pool.execute("UPDATE registry_trait SET observed_at = observed_at - interval '2 hours'")
    await PullWatch(pool, asked).run_once()
    assert {False} == await known()
    assert asked.since is None


LISTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (f"{PATH}/tags", {"never_pulled": True}),
    (f"{PATH}/tags", {"not_pulled_since": "30d"}),
    (f"{PATH}/manifests", {}),
    ("/api/v1/tags", {"sort": "last_pulled_at"}),
    ("/api/v1/repositories", {}),
)
