"""Recognises a pull-through cache (``proxy:`` in the registry's configuration), which fetches what it is asked for.

How a cache behaves (observed on 2.8.2 and 3.1.1), and why only its events are reliable:

- ``tags/list`` is the upstream's, the catalog its own. A HEAD or GET of a tag asks the upstream each time and stores
  the manifest; so does one of a digest that the cache does not have. Only a digest that it has is served without
  asking.
- A tag that it cannot fetch is 404 ``MANIFEST_UNKNOWN``, also while the upstream is down: a 404 proves nothing.
- It sends events of pulls alone.

How it is recognised: it refuses writes. A PUT of a manifest whose config was never uploaded is 400
``MANIFEST_BLOB_UNKNOWN`` from every registry that stores manifests, and 405 ``UNSUPPORTED`` from a cache, which does
not ask the upstream before. A read-only registry answers 405 in plain text, a proxy answers anything else. None of them
stores anything. (An empty manifest is 400 from a cache, too; a blob upload would leave data behind elsewhere.)
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

import orjson

from indexer.common.errors import RegistryDenied, RegistryError, RegistryMisbehaved
from indexer.oci import media_types
from indexer.oci.digest import digest_of
from indexer.oci.reference import RepositoryName
from reconciler.registry.auth import repository_scope
from reconciler.registry.exchange import SMALL_LIMIT_BYTES, RegistryResponse, Request
from reconciler.registry.transport import Transport

PROBED: Final = RepositoryName("registry-indexer-doctor/never-there")
"""Any name would do: neither answer depends on whether the repository exists."""

ASK_AGAIN_AFTER_SECONDS: Final = 3600.0
"""A registry becomes a cache only by a restart with another configuration."""

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405


@unique
class CacheKind(Enum):
    """What kind of registry it is."""

    CACHE = "cache"
    STORE = "store"
    """It stores what is pushed to it."""
    UNKNOWN = "unknown"
    """Its answer is that of neither; it is treated as ``STORE``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryKind:
    """The kind of registry, and how it is known, for an operator."""

    nature: CacheKind
    because: str

    @property
    def is_cache(self) -> bool:
        """Whether it may be asked only for manifests that were pulled through it."""
        return self.nature is CacheKind.CACHE


def judge(answer: RegistryResponse) -> RegistryKind:
    """Return the kind of registry by its answer to the PUT of a manifest without its config."""
    codes = answer.error_codes()
    if answer.status == _NOT_ALLOWED and codes == ("UNSUPPORTED",):
        return RegistryKind(nature=CacheKind.CACHE, because="it supports no pushes (405 UNSUPPORTED)")
    if answer.status in {_BAD_REQUEST, _NOT_FOUND} and codes is not None:
        return RegistryKind(
            nature=CacheKind.STORE, because=f"it validates pushes ({answer.status} {', '.join(codes)})"
        )
    return RegistryKind(
        nature=CacheKind.UNKNOWN,
        because=f"a push is answered {answer.status}, and not by the registry itself",
    )


async def ask(transport: Transport) -> RegistryKind:
    """Push a manifest that no registry stores, and judge the answer; raise ``RegistryError`` without one."""
    request = Request(
        method="PUT",
        path=f"/v2/{PROBED}/manifests/nothing",
        scope=repository_scope(PROBED, "pull", "push"),
        expect=frozenset({_BAD_REQUEST, _NOT_FOUND, _NOT_ALLOWED}),
        limit=SMALL_LIMIT_BYTES,
        headers={"Content-Type": media_types.OCI_MANIFEST},
        body=_unstorable(),
    )
    return judge(await transport.send(request))


def _unstorable() -> bytes:
    """Return a manifest whose config does not exist: the digest is of random bytes that are not kept."""
    missing = digest_of(secrets.token_bytes(32))
    config = {"mediaType": media_types.OCI_EMPTY, "digest": missing, "size": 32}
    manifest = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}
    return orjson.dumps(manifest)


class CacheWatch:
    """Knows the kind of registry: as configured, else by its answer within the last hour."""

    def __init__(
        self, transport: Transport, *, configured: bool | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._configured = configured
        self._clock = clock
        self._known: RegistryKind | None = None
        self._asked_at = 0.0
        self._asking = asyncio.Lock()

    async def kind(self, *, afresh: bool = False) -> RegistryKind:
        """Return the kind of registry; raise ``RegistryUnavailable`` if it does not answer at all.

        ``afresh``: ask again even if it was asked within the last hour.
        """
        if self._configured is not None:
            nature = CacheKind.CACHE if self._configured else CacheKind.STORE
            return RegistryKind(nature=nature, because="RECONCILER_REGISTRY_IS_CACHE says so")
        async with self._asking:
            if afresh or self._known is None or self._clock() - self._asked_at >= ASK_AGAIN_AFTER_SECONDS:
                self._known, self._asked_at = await self._ask(), self._clock()
            return self._known

    async def _ask(self) -> RegistryKind:
        try:
            return await ask(self._transport)
        except RegistryError as error:
            # Our user may not push, or a proxy refuses pushes. If there is no answer at all, this raises.
            with suppress(RegistryDenied, RegistryMisbehaved):
                await self._ping()
            return RegistryKind(nature=CacheKind.UNKNOWN, because=str(error))

    async def _ping(self) -> None:
        await self._transport.send(
            Request(
                method="GET",
                path="/v2/",
                scope="",
                expect=frozenset({200}),
                limit=SMALL_LIMIT_BYTES,
            )
        )
