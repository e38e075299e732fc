"""Reconcilers of chaos: they are killed, or stopped for longer than their leases last, at any request and statement.

One that is dead sends nothing more and writes nothing more, also where an error is cleaned up after.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, Final, cast

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from indexer.store.pool import Connection, Pool
from reconciler.acting.context import Handler
from reconciler.cleanup.act import LeaseLost
from reconciler.cleanup.settle import Settler
from reconciler.components import Components
from reconciler.jobs.runner import Runner
from reconciler.registry.answers import Deletion
from reconciler.registry.client import RegistryClient
from reconciler.registry.exchange import Once
from reconciler.registry.transport import TransportSettings

LEASE_SECONDS: Final = 8.0
SEND_WITHIN_SECONDS: Final = 5.0
ASLEEP_SECONDS: Final = LEASE_SECONDS + 1.5
KILLED_AT_REQUEST: Final = 0.004
STOPPED_AT_REQUEST: Final = 0.0015
KILLED_AT_STATEMENT: Final = 0.00015
JOBS_AT_ONCE: Final = 3
REST: Final = 0.05


class Killed(BaseException):
    """The process ends here."""


class Life:
    """Of one process. Everything that it does goes through ``step``."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.dead = False
        self.name = f"chaos-{uuid.uuid4().hex[:8]}"
        self.holders: list[uuid.UUID] = []
        """Who has its leases of actions."""
        self.nonces: list[uuid.UUID] = []
        """Of the requests that it sent."""
        self.kills = 0
        self.stops = 0
        self._awake = asyncio.Event()
        self._awake.set()

    async def step(self, killed: float, stopped: float = 0.0) -> None:
        """Go on, or end here, or be stopped for longer than a lease."""
        await self._awake.wait()
        if self.dead:
            raise Killed
        drawn = self.chance.random()
        if drawn < killed:
            self.dead = True
            self.kills += 1
            raise Killed
        if drawn < killed + stopped:
            self.stops += 1
            self._awake.clear()
            await asyncio.sleep(ASLEEP_SECONDS)
            self._awake.set()


LIFE: Final[ContextVar[Life | None]] = ContextVar("life", default=None)
"""Of the process that runs."""


class MortalPool:
    """Connections of a process: none after its end."""

    def __init__(self, pool: Pool, life: Life) -> None:
        self._pool = pool
        self._life = life

    @asynccontextmanager
    async def acquire(self, *, timeout: float | None = None) -> AsyncIterator[Connection]:  # noqa: ASYNC109 - the pool's
        await self._life.step(KILLED_AT_STATEMENT)
        async with self._pool.acquire(timeout=timeout) as held:
            yield held


Before = Callable[[str, RepositoryName, str], Awaitable[None]]
"""What somebody else does right before a request: method, repository, reference."""


class MortalClient(RegistryClient):
    """A process's client of the registry."""

    def __init__(
        self,
        settings: TransportSettings,
        life: Life,
        before: Before,
        never_sent: Callable[[list[uuid.UUID]], Awaitable[None]],
    ) -> None:
        super().__init__(settings)
        self._life = life
        self._before = before
        self._never_sent = never_sent

    async def put_manifest_once(
        self,
        repository: RepositoryName,
        reference: TagName | Digest,
        content: bytes,
        *,
        media_type: str,
        once: Once,
    ) -> Digest:
        async with self._may_be_sent("PUT", repository, reference, once):
            digest = await super().put_manifest_once(
                repository, reference, content, media_type=media_type, once=once
            )
        await self._life.step(KILLED_AT_REQUEST, STOPPED_AT_REQUEST)
        return digest

    async def delete_once(
        self, repository: RepositoryName, reference: TagName | Digest, *, once: Once
    ) -> Deletion:
        async with self._may_be_sent("DELETE", repository, reference, once):
            answer = await super().delete_once(repository, reference, once=once)
        await self._life.step(KILLED_AT_REQUEST, STOPPED_AT_REQUEST)
        return answer

    @asynccontextmanager
    async def _may_be_sent(
        self, method: str, repository: RepositoryName, reference: TagName | Digest, once: Once
    ) -> AsyncIterator[None]:
        self._life.nonces.append(uuid.UUID(bytes=once.nonce))
        try:
            await self._life.step(KILLED_AT_REQUEST, STOPPED_AT_REQUEST)
            await self._before(method, repository, str(reference))
            yield
        except LeaseLost:
            await self._never_sent([uuid.UUID(bytes=once.nonce)])
            raise


class Reconcilers:
    """Processes that execute jobs and settle actions, until told to stop; for one that dies, another begins."""

    def __init__(
        self,
        pool: Pool,
        settings: TransportSettings,
        chance: random.Random,
        *,
        handlers: Mapping[str, Handler],
        before: Before,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._chance = chance
        self._handlers = handlers
        self._before = before
        self._stopping = False
        self.lives: list[Life] = []

    @property
    def kills(self) -> int:
        """How many processes were killed."""
        return sum(life.kills for life in self.lives)

    @property
    def stops(self) -> int:
        """How often one was stopped beyond its leases."""
        return sum(life.stops for life in self.lives)

    @asynccontextmanager
    async def running(self, number: int) -> AsyncIterator[None]:
        """Have so many of them at a time."""
        tasks = [asyncio.create_task(self._one_after_the_other()) for _ in range(number)]
        try:
            yield
        finally:
            self._stopping = True
            await asyncio.gather(*tasks)

    async def _one_after_the_other(self) -> None:
        while not self._stopping:
            life = Life(self._chance)
            LIFE.set(life)
            self.lives.append(life)
            pool = cast("Pool", MortalPool(self._pool, life))
            async with MortalClient(self._settings, life, self._before, self._never_sent) as client:
                loops = [self._execute(pool, client, life.name) for _ in range(JOBS_AT_ONCE)]
                ended = await asyncio.gather(self._settle(pool, client), *loops, return_exceptions=True)
            for error in ended:
                if error is not None and not isinstance(error, Killed):
                    raise error
            await self._let_its_leases_end(life)

    async def _execute(self, pool: Pool, client: RegistryClient, name: str) -> None:
        components: Any = SimpleNamespace(pool=pool, registry=client)
        runner = Runner(
            cast("Components", components),
            program=name,
            lasting=timedelta(seconds=LEASE_SECONDS),
            stop=asyncio.Event(),
            handlers=self._handlers,
        )
        while not self._stopping:
            taken = await runner.take()
            if taken is None:
                await asyncio.sleep(REST)
            else:
                await runner.execute(taken)

    async def _settle(self, pool: Pool, client: RegistryClient) -> None:
        settler = Settler(pool, client)
        while not self._stopping:
            if not await settler.settle():
                await asyncio.sleep(REST)

    async def _let_its_leases_end(self, life: Life) -> None:
        """Let the time pass until others take what a process had that sends nothing any more."""
        await self._never_sent(life.nonces)
        await self._pool.execute(
            "UPDATE tag_action SET lease_until = '-infinity', due_at = least(due_at, now())"
            " WHERE holder = ANY($1::uuid[]) AND lease_until > now()",
            life.holders,
        )
        await self._pool.execute(
            "UPDATE job SET leased_until = now() WHERE worker LIKE $1 || ' %' AND state = 'running'",
            life.name,
        )

    async def _never_sent(self, nonces: list[uuid.UUID]) -> None:
        """Let the time pass in which requests may be on their way: these were answered, or never sent."""
        await self._pool.execute(
            "UPDATE tag_action SET requested_at = requested_at - interval '3 minutes' WHERE state = 'requested'"
            " AND id IN (SELECT action_id FROM tag_action_request WHERE nonce = ANY($1::uuid[]))",
            nonces,
        )
