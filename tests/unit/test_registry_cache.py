"""Is the registry a pull-through cache: judged by its answer to what nobody can store."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from indexer.common.errors import RegistryUnavailable
from reconciler.registry import cache
from reconciler.registry.cache import CacheKind, CacheWatch
from reconciler.registry.client import RegistryClient
from reconciler.registry.exchange import RegistryResponse
from reconciler.registry.retrying import RetryPolicy
from reconciler.registry.transport import Transport, TransportSettings
from tests.simulators.faults import Fault
from tests.simulators.registry import SimulatedRegistry


@pytest.fixture
async def simulated() -> AsyncIterator[SimulatedRegistry]:
    """A registry over HTTP, that keeps what is pushed to it."""
    async with SimulatedRegistry() as registry:
        yield registry


@pytest.fixture
async def transport(simulated: SimulatedRegistry) -> AsyncIterator[Transport]:
    """A connection to it that gives up at once."""
    settings = TransportSettings(base_url=simulated.url, retry=RetryPolicy(attempts=1))
    async with Transport(settings) as connected:
        yield connected


def answer(status: int, body: Any) -> RegistryResponse:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RegistryResponse(
        observed_at=datetime.now(UTC),
        registry_clock=None,
        status=status,
        headers=CIMultiDictProxy(CIMultiDict()),
        content=content,
        request_line="PUT …",
    )


def errors(code: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": "…"}]}


@pytest.mark.parametrize(
    ("status", "body", "nature"),
    [
        pytest.param(405, errors("UNSUPPORTED"), CacheKind.CACHE, id="a cache"),
        pytest.param(400, errors("MANIFEST_BLOB_UNKNOWN"), CacheKind.STORE, id="a registry"),
        pytest.param(400, errors("MANIFEST_INVALID"), CacheKind.STORE, id="one that reads more closely"),
        pytest.param(404, errors("NAME_UNKNOWN"), CacheKind.STORE, id="one that wants projects first"),
        pytest.param(405, b"Method not allowed\n", CacheKind.UNKNOWN, id="read-only"),
        pytest.param(405, b"<html>405</html>", CacheKind.UNKNOWN, id="a proxy that takes no PUT"),
        pytest.param(405, errors("DENIED"), CacheKind.UNKNOWN, id="405 for another reason"),
        pytest.param(404, b"not found", CacheKind.UNKNOWN, id="no registry there"),
    ],
)
def test_judge__by_the_registrys_own_words(status: int, body: Any, nature: CacheKind) -> None:
    """Only the registry's own refusal makes it a cache; what stands before it cannot."""
    assert cache.judge(answer(status, body)).nature is nature


async def test_kind__leaves_nothing_behind(simulated: SimulatedRegistry, transport: Transport) -> None:
    """A registry that is no cache is told from one by something that it cannot store."""
    kind = await CacheWatch(transport, configured=None).kind()

    assert (kind.nature, kind.is_cache) == (CacheKind.STORE, False)
    assert simulated.state.repositories == {}


async def test_kind__of_a_cache(simulated: SimulatedRegistry, transport: Transport) -> None:
    """It is asked once an hour, unless asked to ask; a registry may become one, and cease to be one."""
    now = 0.0
    watch = CacheWatch(transport, configured=None, clock=lambda: now)
    assert not (await watch.kind()).is_cache
    simulated.is_cache = True

    assert not (await watch.kind()).is_cache
    assert (await watch.kind(afresh=True)).is_cache
    simulated.is_cache = False
    now += cache.ASK_AGAIN_AFTER_SECONDS - 1
    assert (await watch.kind()).is_cache
    now += 1
    assert not (await watch.kind()).is_cache
    assert [method for method, _, _ in simulated.seen] == ["PUT"] * 3


@pytest.mark.parametrize("said", [True, False])
async def test_kind__as_the_operator_says(
    simulated: SimulatedRegistry, transport: Transport, *, said: bool
) -> None:
    """Where it is said, nothing is asked."""
    simulated.is_cache = not said

    assert (await CacheWatch(transport, configured=said).kind()).is_cache is said
    assert simulated.seen == []


@pytest.mark.parametrize("status", [401, 403, 500, 503])
async def test_kind__not_ours_to_push_to(
    simulated: SimulatedRegistry, transport: Transport, status: int
) -> None:
    """Where only the push has no answer, the registry is treated as one that keeps what it is given."""
    simulated.faults.append(Fault(method="PUT", status=status, times=2))

    kind = await CacheWatch(transport, configured=None).kind()

    assert (kind.nature, kind.is_cache) == (CacheKind.UNKNOWN, False)
    assert str(status) in kind.because


@pytest.mark.parametrize("status", [401, 404])
async def test_kind__of_what_lets_nobody_in(
    simulated: SimulatedRegistry, transport: Transport, status: int
) -> None:
    """An answer is one, also that of something that is no registry: whoever asks more of it is told why."""
    simulated.faults.append(Fault(status=status, times=9))

    assert (await CacheWatch(transport, configured=None).kind()).nature is CacheKind.UNKNOWN


async def test_kind__a_registry_that_is_away(simulated: SimulatedRegistry, transport: Transport) -> None:
    """Where nothing is answered nothing is concluded, and it is asked again."""
    simulated.is_cache = True
    simulated.faults.append(Fault(status=503, times=2))
    watch = CacheWatch(transport, configured=None)

    with pytest.raises(RegistryUnavailable):
        await watch.kind()
    assert (await watch.kind()).is_cache


def test_client__is_made_where_no_event_loop_runs() -> None:
    """Whoever tries settings makes a client of them before anything is asked."""
    assert RegistryClient(TransportSettings(base_url="http://127.0.0.1:1")) is not None
