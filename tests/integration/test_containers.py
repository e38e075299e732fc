"""The parts in containers, as a deployment runs them: PostgreSQL's own image and Distribution's."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import asyncpg
import pytest

from indexer.store.migrate import migrate
from tools.registry_binary import ENGINE_ANSWERS_WITHIN_SECONDS, IMAGES, from_engine, succeeds
from tools.registry_server import RegistryServer, RegistrySettings
from tools.sample_images import Pusher, oci_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.container
POSTGRES_IMAGE = "postgres:18"


@pytest.fixture(scope="session")
def engine() -> str:
    """The container engine of this machine; skips with the reason where none answers."""
    for name in ("docker", "podman"):
        if shutil.which(name) and succeeds([name, "info"], ENGINE_ANSWERS_WITHIN_SECONDS):
            return name
    pytest.skip("no container engine (docker, podman) answers within two seconds")


@pytest.fixture(scope="session")
def docker_api(engine: str) -> str:
    """The same, for testcontainers: it speaks to a socket, which podman opens only when asked to."""
    if engine != "docker" and not os.environ.get("DOCKER_HOST"):
        pytest.skip("testcontainers needs a Docker API: run 'podman system service' and set DOCKER_HOST")
    return engine


def require_image(engine: str, image: str) -> None:
    """Skip where an image is neither present nor to be had."""
    if not any(
        succeeds([engine, *words, image], 120) for words in (["image", "inspect"], ["pull", "--quiet"])
    ):
        pytest.skip(f"{image} is not here and {engine} cannot pull it")


async def test_postgres_container__takes_the_migrations(docker_api: str) -> None:
    """PostgreSQL's own image takes every migration."""
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - slow, rarely needed

    require_image(docker_api, POSTGRES_IMAGE)
    with PostgresContainer(POSTGRES_IMAGE) as container:
        url = container.get_connection_url(driver=None)
        assert await migrate(url) != []
        assert await migrate(url) == []
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("SELECT count(*) FROM tag") == 0
        finally:
            await connection.close()


def test_registry_container__takes_an_image(engine: str, tmp_path: Path) -> None:
    """Distribution's own image, configured as the demo does it, takes a push and keeps it over a restart."""
    require_image(engine, IMAGES[3])
    found = from_engine(3, [])
    assert found is not None
    directory = tmp_path / "registry"
    directory.mkdir()
    server = RegistryServer(found, RegistrySettings(directory))
    server.start()
    try:
        with closing(Pusher(server.url)) as pusher:
            digest = pusher.push("app", oci_image("contained"), "v1")
            server.restart()
            assert pusher.digest_of("app", "v1") == digest
    finally:
        server.stop()
