"""The OpenAPI document describes the API truly: schemathesis asks what it allows and what it forbids."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from indexer.api.openapi import document
from indexer.api.routes import ApiSettings, add_api
from indexer.httpserver.limits import Limits
from indexer.httpserver.runner import MeasuredRunner
from indexer.store.in_use import take_report
from indexer.store.policies_in_force import put_in_force
from indexer.store.pool import Pool, open_pool, transaction
from tests.fixtures.everything import APP, fill
from tests.fixtures.jobs import ended
from tests.fixtures.rows import digest
from tests.fixtures.selection import examples

if TYPE_CHECKING:
    from schemathesis import GenerationMode

TOKEN = "operator-token-of-the-tests"
CHECKS = (
    "content_type_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
)
"""Of what schemathesis can check, beside that nothing is a server's error."""
UNGUESSABLE = ("after", "before", "name_regex", "from", "wait", "fields", "policy")
"""Cursors come from pages, positions from the log, policies from a file, RE2's syntax is no JSON schema, nobody wants
to wait, and items of chosen members are not what a whole item is: they have tests of their own."""

EXISTING = {"repository": APP, "tag": "latest", "digest": digest("one"), "source": "cluster", "feed": "siem"}
"""Of what is in the database, since nobody guesses it."""

POLICIES = b"""version: 1
cleanup: [{id: a, scope: {repositories: {any: ["**"]}}, delete: [{id: old, tags: {glob: ["**"]}, older: {pushed: 0s}}]}]
"""

PROVABLE = {"position": 3, "size": 20, "first": 7, "second": 20, "after_position": 2, "until": 9}
"""Of the log that is in the database."""


def guessable() -> dict[str, Any]:
    """The document without what cannot be guessed, and without other names of parameters.

    By two of its names at once a parameter is given twice, which no schema can say.
    """
    described = copy.deepcopy(document())
    for methods in described["paths"].values():
        for operation in methods.values():
            operation["parameters"] = [
                parameter
                for parameter in operation["parameters"]
                if parameter["name"] not in UNGUESSABLE and not parameter.get("deprecated")
            ]
    return described


async def _put_cleanup(pool: Pool, number: str) -> None:
    """Policies in force, a plan and a hold of one id, a source that reported, and a feed with a dead letter."""
    async with transaction(pool) as held:
        await put_in_force(held, content=POLICIES, at=datetime.now(UTC), by=None)
        await held.execute(
            "INSERT INTO cleanup_plan (id, made_at, confirmed_at, position, engine, policies_sha256, content_sha256)"
            " VALUES ($1, now(), now(), 1, 1, '', '')",
            number,
        )
        await held.execute(
            "INSERT INTO cleanup_hold (id, created_at, owner, reason, repository, created_by)"
            " VALUES ($1, now(), 'ann', 'x', $2, 'ann')",
            number,
            APP,
        )
        now = datetime.now(UTC)
        await held.execute("INSERT INTO feed (name, kind, position) VALUES ('siem', 'http', 2)")
        await held.execute(
            "INSERT INTO feed_dead_letter (feed, position, refused_at, reason) VALUES ('siem', 2, now(), 'no')"
        )
        await take_report(held, source="cluster", images=[], at=now, valid_until=now, confirm=False)


@pytest.fixture
def address(database_url: str) -> Iterator[str]:
    """The API in a thread of its own, with something of everything in the database."""
    ready: Future[str] = Future()
    done = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        pool = await open_pool(database_url, size=6, application="tests")
        await fill(pool)
        EXISTING["id"] = await ended(pool, kind="cleanup")
        await _put_cleanup(pool, EXISTING["id"])
        app = web.Application()
        add_api(app, pool=pool, settings=ApiSettings(api_tokens=frozenset({TOKEN})))
        runner = MeasuredRunner(
            app, limits=Limits(), idle_seconds=75, shutdown_timeout=1
        )  # as `indexer serve`
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await done.wait()
        await runner.cleanup()
        await pool.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    yield ready.result(timeout=60)
    loop.call_soon_threadsafe(done.set)
    thread.join(timeout=60)
    loop.close()


@pytest.mark.full
@pytest.mark.slow
def test_document__every_operation_does_what_it_says(address: str) -> None:
    """No question that the document allows or forbids gets an answer that it does not describe."""
    import schemathesis  # noqa: PLC0415 - half a second in every process that collects the tests, for this one
    from schemathesis.checks import not_a_server_error  # noqa: PLC0415
    from schemathesis.specs.openapi import checks  # noqa: PLC0415

    chosen = [not_a_server_error, *(getattr(checks, name) for name in CHECKS)]
    schema = schemathesis.openapi.from_dict(guessable())
    schema.config.update(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"})

    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # an invalid operation fails right here
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            _ask(operation, mode, chosen)


def _expected(case: Any) -> int:
    """Return how a question that is allowed is answered. The token only reads, so commands are refused for that."""
    if case.method == "GET":
        return 200
    return (
        404 if case.operation.path == "/api/v1/session" else 403
    )  # no realm is known here, so nobody signs in


def _ask(operation: Any, mode: GenerationMode, chosen: Sequence[Any]) -> None:
    allowed = mode.is_positive

    @settings(
        max_examples=examples(25),
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        (case.headers or {}).pop("Last-Event-ID", None)
        if allowed and case.path_parameters:
            case.path_parameters = {name: EXISTING[name] for name in case.path_parameters}
        if allowed and "/audit/proof/" in case.path:
            case.query = {name: PROVABLE[name] for name in case.query or {}}
        response = case.call_and_validate(checks=list(chosen))
        assert not allowed or response.status_code == _expected(case), (case.method, case.path)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong about a question without parameters
        ask()
