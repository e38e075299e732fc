"""Where the registry keeps its content, for what happens behind its back: directories, or an S3."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Protocol

from tools.s3_server import ROOT, Bucket, S3Server

TAGS = "/_manifests/tags/"
REPOSITORIES = "docker/registry/v2/repositories/"


class Storage(Protocol):
    """What the chaos does to a registry's storage."""

    def settings(self) -> dict[str, Any]:
        """Return what the registry's configuration says of it."""
        ...

    def tags(self) -> list[tuple[str, str]]:
        """Return every repository and tag that the storage has anything of, sorted."""
        ...

    def remove_tag(self, repository: str, tag: str) -> None:
        """Take a tag away."""
        ...

    def copy_tag(self, repository: str, tag: str, target: str) -> None:
        """Make another tag of it."""
        ...

    def close(self) -> None:
        """End what it needs."""
        ...


class FilesystemStorage:
    """A directory."""

    def __init__(self, directory: Path) -> None:
        self._top = directory / REPOSITORIES

    def settings(self) -> dict[str, Any]:
        return {}

    def tags(self) -> list[tuple[str, str]]:
        # `os.walk` passes over what goes while it looks; `glob` of Python before 3.13 raises.
        found = (
            (place.removeprefix(f"{self._top}/").removesuffix(TAGS.rstrip("/")), name)
            for place, names, _ in os.walk(self._top)
            for name in names
            if f"{place}/".endswith(TAGS)
        )
        return sorted(found)

    def remove_tag(self, repository: str, tag: str) -> None:
        shutil.rmtree(self._directory(repository, tag), ignore_errors=True)

    def copy_tag(self, repository: str, tag: str, target: str) -> None:
        with suppress(OSError, shutil.Error):
            source = self._directory(repository, tag)
            shutil.copytree(source, source.with_name(target), dirs_exist_ok=True)

    def close(self) -> None:
        """Nothing runs for it."""

    def _directory(self, repository: str, tag: str) -> Path:
        return Path(f"{self._top}/{repository}{TAGS}{tag}")


class S3Storage:
    """A bucket of an S3 of this run's own."""

    def __init__(self, directory: Path) -> None:
        self._server = S3Server(directory / "s3.log")
        self._server.start()
        self._bucket: Bucket = self._server.bucket("chaos")
        self._top = f"{ROOT.lstrip('/')}/{REPOSITORIES}"

    def settings(self) -> dict[str, Any]:
        return self._bucket.storage()

    def tags(self) -> list[tuple[str, str]]:
        return sorted(
            {
                (repository, rest.partition("/")[0])
                for key in self._keys("")
                for repository, at, rest in [key.removeprefix(self._top).partition(TAGS)]
                if at
            }
        )

    def remove_tag(self, repository: str, tag: str) -> None:
        for key in self._keys(f"{repository}{TAGS}{tag}/"):
            self._bucket.delete_object(key)

    def copy_tag(self, repository: str, tag: str, target: str) -> None:
        source = f"{self._top}{repository}{TAGS}{tag}/"
        for key in self._keys(f"{repository}{TAGS}{tag}/"):
            self._bucket.copy_object(key, f"{self._top}{repository}{TAGS}{target}/{key.removeprefix(source)}")

    def close(self) -> None:
        self._server.stop()

    def _keys(self, prefix: str) -> Iterator[str]:
        return iter(self._bucket.list_keys(f"{self._top}{prefix}"))


def choose(storage: Storage, randomness: Random) -> tuple[str, str] | None:
    """Choose a tag, if there is one."""
    found = storage.tags()
    return randomness.choice(found) if found else None
