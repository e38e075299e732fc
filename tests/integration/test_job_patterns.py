"""The patterns of GitLab's tokens (protected and immutable tags) bind each kind of acting job, on a real registry.

A job runs with the reconciler's own account, so the registry itself refuses nothing. Every kind that acts has a row
here: what the holder of a token that excepts tags may ask for, and what comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from indexer.api.routes import ApiSettings, add_api
from indexer.jobs.kinds import KINDS
from indexer.oci.reference import RepositoryName, TagName
from indexer.store import jobs
from indexer.store.lookups import Lookups
from indexer.store.pool import Pool, connection
from reconciler.cleanup.act import Actor, Deleting, Wanted, Why
from reconciler.cleanup.observe import find_way
from reconciler.cleanup.settle import Settler
from reconciler.components import Components
from reconciler.jobs.kinds import HANDLERS
from reconciler.jobs.runner import Runner
from tests.fixtures.acting import Watched, watched
from tests.fixtures.jobs import LASTING, run_all
from tests.fixtures.registries import StartRegistry
from tests.fixtures.tokens import grant, mint, trust_in
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
META = {
    "tag_deny_access_patterns": {"push": ["^pushed-by-few"], "delete": ["^deleted-by-few"]},
    "tag_immutable_patterns": ["^immutable"],
}
FREE, NO_PUSH, NO_DELETE, IMMUTABLE = "free", "pushed-by-few", "deleted-by-few", "immutable"
TAGS = (FREE, NO_PUSH, NO_DELETE, IMMUTABLE)
HERE = "immutable-and-there"
"""Deleted, and pushed again since: another image."""

pytestmark = pytest.mark.usefixtures("hurry")


@dataclass(frozen=True, slots=True)
class Case:
    """``params`` of the job; what comes of each tag; ``prepare``: the registry before; ``refused``: the code."""

    params: Mapping[str, Any]
    outcomes: Mapping[str, str]
    prepare: Callable[[Watched], Awaitable[None]]
    refused: str | None = None


async def push(world: Watched, *tags: str, content: str = "first") -> None:
    for tag in tags:
        await asyncio.to_thread(world.pusher.push, APP, oci_image(f"{content} {tag}"), tag)
    await world.until_known(*tags)


async def all_there(world: Watched) -> None:
    await push(world, *TAGS)


async def all_deleted(world: Watched) -> None:
    """By somebody who may; one of them was pushed again."""
    await push(world, *TAGS, HERE)
    result = Deleting()
    wanted = [Wanted(tag=TagName(tag)) for tag in (*TAGS, HERE)]
    why = Why(source="operator", actor="ann", reason="a test")
    way = await find_way(world.client, APP)
    await Actor(world.pool, world.client).delete_tags(APP, wanted, why, way=way, result=result)
    await Settler(world.pool, world.client).until_settled(result.begun, seconds=60)
    await push(world, HERE, content="second")


def names(*tags: str) -> list[str]:
    return [f"{APP}:{tag}" for tag in tags]


CASES: Mapping[str, Case] = {
    "delete": Case(
        params={"tags": names(*TAGS)},
        outcomes={FREE: "deleted", NO_PUSH: "deleted", NO_DELETE: "denied", IMMUTABLE: "denied"},
        prepare=all_there,
    ),
    "restore": Case(
        params={"tags": names(*TAGS, HERE), "force": True},
        outcomes={
            FREE: "restored",
            NO_PUSH: "denied",
            NO_DELETE: "restored",
            IMMUTABLE: "restored",  # it does not exist: then it may be pushed, once
            HERE: "denied",
        },
        prepare=all_deleted,
    ),
    "cleanup": Case(params={}, outcomes={}, prepare=all_there, refused="operator_token_needed"),
}


def test_kinds__that_act_have_a_case() -> None:
    """A new kind that changes the registry is refused here until it is said how the patterns of a token bind it."""
    assert CASES.keys() == {kind.name for kind in KINDS.values() if kind.acts}


@pytest.mark.parametrize("kind", CASES)
async def test_patterns__bind_the_job(  # noqa: PLR0917 - pytest passes fixtures by name
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    tmp_path: Path,
    kind: str,
) -> None:
    """What the token excepts is not changed and is named, the rest is done; or the kind is for operators only."""
    case = CASES[kind]
    async with (
        watched(pool, lookups, start_registry, registry_version) as world,
        asking(pool, tmp_path) as ask,
    ):
        await case.prepare(world)
        before = await in_registry(world)
        status, answer = await ask({"kind": kind, "params": dict(case.params)})
        if case.refused is not None:
            assert (403, case.refused) == (status, answer["code"])
            assert (0, before) == (await run_all(running(world)), await in_registry(world))
            return
        assert status == 202, answer
        assert await run_all(running(world)) == 1
        async with connection(pool) as held:
            job = await jobs.find_job(held, job_id=UUID(answer["id"]))
        assert job is not None
        assert job.result is not None, job
        assert case.outcomes == {each["tag"]: each["outcome"] for each in job.result["tags"]}
        after = await in_registry(world)
        denied = {tag for tag, outcome in case.outcomes.items() if outcome == "denied"}
        assert denied
        assert {tag: before[tag] for tag in denied} == {tag: after[tag] for tag in denied}
        changed = case.outcomes.keys() - denied
        assert all((before[tag] is None) != (after[tag] is None) for tag in changed), (before, after)


async def in_registry(world: Watched) -> dict[str, str | None]:
    return {tag: await asyncio.to_thread(world.pusher.digest_of, APP, tag) for tag in (*TAGS, HERE)}


def running(world: Watched) -> Runner:
    """What executes jobs of every kind, on the real registry."""
    components = cast("Components", SimpleNamespace(pool=world.pool, registry=world.client))
    return Runner(components, program="test", lasting=LASTING, stop=asyncio.Event(), handlers=HANDLERS)


Asking = Callable[[Mapping[str, Any]], Awaitable[tuple[int, Any]]]


@asynccontextmanager
async def asking(pool: Pool, directory: Path) -> AsyncIterator[Asking]:
    """The API, asked for jobs by the holder of a token that may do everything but what the patterns except."""
    app = web.Application()
    add_api(app, pool=pool, settings=ApiSettings(trust=trust_in(directory)))
    token = mint({**grant(APP, "pull", "push", "delete"), "meta": META})

    async with TestClient(TestServer(app, host="127.0.0.1")) as client:

        async def ask(body: Mapping[str, Any]) -> tuple[int, Any]:
            headers = {"Authorization": f"Bearer {token}"}
            response = await client.post("/api/v1/jobs", json=body, headers=headers)
            return response.status, await response.json(content_type=None)

        yield ask
