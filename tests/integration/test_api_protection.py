"""What keeps tags from cleanup, and when it deletes them: fields and filters of the lists of tags."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from indexer.store import holds, in_use, policies_in_force
from indexer.store.operators import Operator
from indexer.store.pool import Pool, connection
from tests.fixtures.asking import Api
from tests.fixtures.cleanup_rows import Rows, ago, d

ANN = Operator(name="ann", host="here", command="a test")
PATH = "/api/v1/repositories/team/app/tags"
FILE = b"""version: 1
cleanup:
  - id: team
    scope: {repositories: {any: ["team/**"]}}
    protect: [{id: releases, tags: {glob: ["v*"]}}, {id: running, in_use: {source: any}}]
    delete: [{id: old, tags: {glob: ["**"]}, older: {pushed: 30d}}]
"""


@pytest.fixture
async def api(api: Api) -> Api:
    """An index with a child, images named by digest, config and tag, and two that nothing is said of."""
    async with connection(api.pool) as held:
        rows = Rows(held)
        await rows.begin()
        await rows.manifest("child")
        await rows.manifest("index", children=["child"])
        await rows.manifest("configured", config_digest=_packed("config"))
        for tag, manifest in (
            ("v1", "release"),
            ("index", "index"),
            ("child", "child"),
            ("configured", "configured"),
            ("named", "named"),
            ("sibling", "named"),
            ("plain", "plain"),
            ("held", "held"),
        ):
            await rows.tag(tag, manifest, ago(40))
        await rows.tag("named", "elsewhere", ago(40), repository="other/app")
        await policies_in_force.put_in_force(held, content=FILE, at=ago(1), by=None)
    return api


def _packed(name: str) -> bytes:
    from indexer.oci.digest import digest_to_bytes  # noqa: PLC0415

    return digest_to_bytes(d(name))


async def report(pool: Pool, *images: tuple[str, str]) -> None:
    async with connection(pool) as held:
        await in_use.take_report(
            held,
            source="cluster",
            images=images,
            at=datetime.now(UTC),
            valid_until=datetime.now(UTC) + timedelta(days=1),
            confirm=False,
        )


async def protected(api: Api, **query: Any) -> dict[str, list[tuple[str, str]]]:
    items = (await api.json(PATH, **query))["items"]
    return {item["name"]: [(each["kind"], each["by"]) for each in item["protected_by"]] for item in items}


async def test_protected_by__rules_holds_and_what_is_in_use(api: Api) -> None:
    """Each reason that a policy would give first; another repository's tag of the same name has none."""
    await report(api.pool, ("", d("child")), ("", d("config")), ("team/app", "named"))
    async with connection(api.pool) as held:
        until = datetime.now(UTC) + timedelta(days=1)
        for tag, ends in (("held", None), ("plain", datetime.now(UTC) - timedelta(days=1))):
            await holds.add_hold(
                held, owner="ann", reason="r", repository="team/app", tag=tag, digest=None, until=ends,
                at=ago(0), operator=ANN,
            )  # fmt: skip
        await holds.add_hold(
            held, owner="bob", reason="r", repository=None, tag=None, digest=d("index"), until=until,
            at=ago(0), operator=ANN,
        )  # fmt: skip
    cluster, bob = ("in_use", "cluster"), ("hold", "bob")
    assert {
        "v1": [("rule", "team")],
        "index": [bob, cluster],
        "child": [bob, cluster],
        "configured": [cluster],
        "named": [cluster],
        "sibling": [cluster],
        "plain": [],
        "held": [("hold", "ann")],
    } == await protected(api)
    everywhere = (await api.json("/api/v1/tags", repository="other/app"))["items"]
    assert [[]] == [item["protected_by"] for item in everywhere]
    one = await api.json(f"{PATH}/v1")
    assert [{"kind": "rule", "by": "team", "rule": "releases", "until": None}] == one["protected_by"]
    used = {"index", "child", "configured", "named", "sibling"}
    assert used == set(await protected(api, in_use="true"))
    assert {"v1", "plain", "held"} == set(await protected(api, in_use="false"))
    everywhere = (await api.json("/api/v1/tags", in_use="true"))["items"]
    assert {("team/app", name) for name in used} == {
        (each["repository"], each["name"]) for each in everywhere
    }


async def test_in_use__nothing_reported(api: Api) -> None:
    """Where no source reports anything, nothing is in use; what is named in an unknown repository is not here."""
    assert {} == await protected(api, in_use="true")
    assert 8 == len(await protected(api, in_use="false"))
    await report(api.pool, ("nobody/knows", "v1"), ("nobody/knows", d("plain")))
    assert {} == await protected(api, in_use="true")


async def test_expires_before(api: Api) -> None:
    """What is planned and open for the digest that the tag has, and due before the time."""
    now = datetime.now(UTC)
    async with connection(api.pool) as held:
        for tag, digest, days in (("plain", "plain", 1), ("child", "child", 3), ("named", "before", 1)):
            await held.execute(
                "INSERT INTO cleanup_planned (first_at, due_at, named_at, repository_id, policy, tag, digest, rule,"
                " reason)"
                " SELECT $1, $2, $1, id, 'team', $3, $4, 'old', 'delete.old' FROM repository WHERE name = 'team/app'",
                now, now + timedelta(days=days), tag, _packed(digest),
            )  # fmt: skip
    for later, expected in ((0.5, set()), (2.0, {"plain"}), (4.0, {"plain", "child"})):
        before = (now + timedelta(days=later)).isoformat().replace("+00:00", "Z")
        assert expected == set(await protected(api, expires_before=before))
        listed = (await api.json("/api/v1/tags", expires_before=before))["items"]
        assert expected == {item["name"] for item in listed}
