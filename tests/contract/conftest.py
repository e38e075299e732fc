"""The registries that one suite is run against: simulated 2.8 and 3.x, real 2.8 and 3.x."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from indexer.oci.digest import Digest, parse_digest
from indexer.oci.reference import parse_repository_name, parse_tag_name
from reconciler.registry.auth import Credentials
from reconciler.registry.client import RegistryClient
from reconciler.registry.retrying import RetryPolicy
from reconciler.registry.transport import TransportSettings
from tests.fixtures.storage import revision_of
from tests.simulators.events import Version
from tests.simulators.registry import SimulatedRegistry
from tests.simulators.state import RegistryState
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER, RegistryServer
from tools.sample_images import Image

IMPATIENT = RetryPolicy(first_wait_seconds=0.01, longest_wait_seconds=0.1)
"""Retries that a test need not wait for."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One registry under test."""

    url: str
    version: Version
    simulated: SimulatedRegistry | None
    server: RegistryServer | None
    client: RegistryClient

    def break_tag(self, repository: str, digest: Digest) -> None:
        """Take a manifest away under its tags, as a push racing a delete does."""
        if self.simulated is not None:
            del self.simulated.state.repositories[repository].manifests[digest]
        if self.server is not None:
            shutil.rmtree(revision_of(self.server, repository, digest))


class StartSubject(Protocol):
    """Starts the registry under test; what is not said is Distribution's default, with deletes allowed."""

    def __call__(
        self,
        *,
        users: bool = False,
        max_entries: int | None = None,
        max_tags: int | None = None,
        can_delete: bool = True,
        credentials: Credentials | None = None,
    ) -> Awaitable[Subject]: ...


@pytest.fixture(
    params=[
        pytest.param((Version.V2_8, False), id="simulated-2.8"),
        pytest.param((Version.V3, False), id="simulated-3.x"),
        pytest.param((Version.V2_8, True), id="real-2.8", marks=pytest.mark.registry),
        pytest.param((Version.V3, True), id="real-3.x", marks=pytest.mark.registry),
    ]
)
async def start_subject(request: pytest.FixtureRequest) -> AsyncIterator[StartSubject]:
    """A function that starts the registry under test and a client of it."""
    version, is_real = request.param
    start_registry: Callable[..., RegistryServer] | None = None
    if is_real:
        start_registry = request.getfixturevalue("start_registry")
    async with AsyncExitStack() as stack:

        async def start(
            *,
            users: bool = False,
            max_entries: int | None = None,
            max_tags: int | None = None,
            can_delete: bool = True,
            credentials: Credentials | None = None,
        ) -> Subject:
            server = simulated = None
            if start_registry is not None:
                extra = _configuration(version, max_entries, max_tags, can_delete=can_delete)
                server = start_registry(2 if version is Version.V2_8 else 3, htpasswd=users, extra=extra)
                url = server.url
            else:
                simulated = await stack.enter_async_context(SimulatedRegistry(RegistryState(version)))
                simulated.users = {HTPASSWD_USER: HTPASSWD_PASSWORD} if users else {}
                simulated.max_entries = max_entries or simulated.max_entries
                simulated.max_tags = max_tags or simulated.max_tags
                simulated.can_delete = can_delete
                url = simulated.url
            settings = TransportSettings(base_url=url, credentials=credentials, retry=IMPATIENT)
            client = await stack.enter_async_context(RegistryClient(settings))
            return Subject(url, version, simulated, server, client)

        yield start


@pytest.fixture
async def subject(start_subject: StartSubject) -> Subject:
    """A plain registry, empty."""
    return await start_subject()


def _configuration(
    version: Version, max_entries: int | None, max_tags: int | None, *, can_delete: bool
) -> dict[str, Any]:
    extra: dict[str, Any] = {"storage": {"delete": {"enabled": can_delete}}}
    if max_entries is not None:
        extra["catalog"] = {"maxentries": max_entries}
    if max_tags is not None and version is Version.V3:
        extra["tags"] = {"maxtags": max_tags}
    return extra


async def push(client: RegistryClient, repository: str, image: Image, tag: str | None = None) -> Digest:
    """Push an image with everything below it, by tag or by digest."""
    name = parse_repository_name(repository)
    for child in image.children:
        await push(client, repository, child)
    for blob in image.blobs:
        await client.put_blob(name, blob.data)
    reference = parse_digest(image.digest) if tag is None else parse_tag_name(tag)
    return await client.put_manifest(name, reference, image.manifest.data, media_type=image.media_type)
