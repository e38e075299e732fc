"""Is the registry a pull-through cache (``proxy:`` in its configuration)? Then whatever is asked of it, it may fetch.

How a cache behaves (seen on 2.8.2 and 3.1.1), and why none but its own events may be gone by:

- ``tags/list`` is the upstream's, the catalog its own. A HEAD or GET of a tag asks the upstream each time, and stores
  the manifest; so does one of a digest that it does not hold. Only what it holds is served without asking.
- A tag that it cannot get is 404 ``MANIFEST_UNKNOWN``, also where the upstream is down: absence means nothing.
- It announces nothing but pulls.

How it is recognised: it takes no writes. A manifest whose config was never uploaded is 400 ``MANIFEST_BLOB_UNKNOWN`` to
every registry that could store one, and 405 ``UNSUPPORTED`` to a cache, which does not ask the upstream before. A
read-only registry says 405 in plain text, a proxy in front of it whatever it likes; neither is the cache's answer.
Nothing is stored by any of them. (An empty manifest is 400 to a cache, too; uploads would leave one behind elsewhere.)
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
from reconciler.registry.transport import SMALL_LIMIT_BYTES, RegistryResponse, Request, Transport

PROBED: Final = RepositoryName("registry-indexer-doctor/never-there")
"""Whatever its name: neither answer depends on whether it exists."""

ASK_AGAIN_AFTER_SECONDS: Final = 3600.0
"""A registry becomes a cache by a restart with another configuration: not often."""

_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_NOT_ALLOWED: Final = 405


@unique
class CacheKind(Enum):
    """What the registry is, as far as can be told."""

    CACHE = "cache"
    STORE = "store"
    """It keeps what is pushed to it."""
    UNKNOWN = "unknown"
    """Its answer is that of neither; it is treated as a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryKind:
    """What the registry is, and how we know, in words for an operator."""

    nature: CacheKind
    because: str

    @property
    def is_cache(self) -> bool:
        """Tell whether nothing may be asked of it but what was pulled through it."""
        return self.nature is CacheKind.CACHE


def judge(answer: RegistryResponse) -> RegistryKind:
    """Tell by the answer to a manifest without its config what the registry is."""
    codes = answer.error_codes()
    if answer.status == _NOT_ALLOWED and codes == ("UNSUPPORTED",):
        return RegistryKind(nature=CacheKind.CACHE, because="it supports no pushes (405 UNSUPPORTED)")
    if answer.status in {_BAD_REQUEST, _NOT_FOUND} and codes is not None:
        return RegistryKind(
            nature=CacheKind.STORE, because=f"it looks at what is pushed ({answer.status} {', '.join(codes)})"
        )
    return RegistryKind(
        nature=CacheKind.UNKNOWN,
        because=f"a push is answered {answer.status}, and not by the registry itself",
    )


async def ask(transport: Transport) -> RegistryKind:
    """Push a manifest that nothing stores, and tell by the answer; raise ``RegistryError`` without one."""
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
    """Return a manifest of a config that nobody has: it is of random bytes that were thrown away."""
    missing = digest_of(secrets.token_bytes(32))
    config = {"mediaType": media_types.OCI_EMPTY, "digest": missing, "size": 32}
    manifest = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": []}
    return orjson.dumps(manifest)


class CacheWatch:
    """Knows what the registry is: as the operator said, else as it answered within the last hour."""

    def __init__(
        self, transport: Transport, *, said: bool | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._transport = transport
        self._said = said
        self._clock = clock
        self._known: RegistryKind | None = None
        self._asked_at = 0.0
        self._asking = asyncio.Lock()

    async def kind(self, *, afresh: bool = False) -> RegistryKind:
        """Return what the registry is; raise ``RegistryUnavailable`` where it does not answer at all.

        ``afresh``: ask, however lately it was asked.
        """
        if self._said is not None:
            nature = CacheKind.CACHE if self._said else CacheKind.STORE
            return RegistryKind(nature=nature, because="RECONCILER_REGISTRY_IS_CACHE says so")
        async with self._asking:
            if afresh or self._known is None or self._clock() - self._asked_at >= ASK_AGAIN_AFTER_SECONDS:
                self._known, self._asked_at = await self._ask(), self._clock()
            return self._known

    async def _ask(self) -> RegistryKind:
        try:
            return await ask(self._transport)
        except RegistryError as error:
            # Not ours to push to, or something between takes no pushes. If nothing is answered at all, this raises.
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
