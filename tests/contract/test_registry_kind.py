"""A pull-through cache is told from a registry that keeps what it is given, and asking leaves nothing behind."""

from __future__ import annotations

import pytest

from reconciler.registry.cache import CacheKind
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import IMPATIENT
from tests.fixtures.registries import StartRegistry

READ_ONLY = {"storage": {"maintenance": {"readonly": {"enabled": True}}}}


@pytest.mark.parametrize(
    ("extra", "htpasswd", "nature"),
    [
        pytest.param({}, False, CacheKind.STORE, id="plain"),
        pytest.param(None, False, CacheKind.CACHE, id="cache"),
        pytest.param(READ_ONLY, False, CacheKind.UNKNOWN, id="read-only"),
        pytest.param({}, True, CacheKind.UNKNOWN, id="not-let-in"),
    ],
)
async def test_kind(
    start_registry: StartRegistry,
    registry_version: int,
    *,
    extra: dict[str, object] | None,
    htpasswd: bool,
    nature: CacheKind,
) -> None:
    """By its answer to a push of what cannot be stored; a cache does not ask its upstream for that."""
    upstream = start_registry(3) if extra is None else None
    if upstream is not None:
        extra = {"proxy": {"remoteurl": upstream.url}}
    server = start_registry(registry_version, htpasswd=htpasswd, extra=extra)
    before = upstream.log_path.read_text(encoding="utf-8").count("/v2/") if upstream is not None else 0

    async with RegistryClient(TransportSettings(base_url=server.url, retry=IMPATIENT)) as client:
        kind = await client.kind()

    assert kind.nature is nature
    assert [path for path in server.storage_dir.rglob("*") if path.is_file()] == []
    if upstream is not None:
        assert upstream.log_path.read_text(encoding="utf-8").count("/v2/") == before
