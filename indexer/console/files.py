"""The files of the console as they are served: read once, with content type, entity tag and a compressed form."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from indexer.inventory.changes import AuditAction, DriftCause, DriftKind
from indexer.jobs.job import JobState
from indexer.jobs.kinds import KINDS
from indexer.oci.kinds import Kind

HERE = Path(__file__).parent
FOLDERS = ("page", "vendor")
INDEX = "page/index.html"
WORDS = "page/words.js"
"""A module that is made here, and not read."""
PLACE = "{console}"
"""In the index: the folder of the files. The name of that folder changes with any of them."""

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""What is served; other files of the folders (licences, the list of origins) are not."""
_VERSION_LENGTH = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFile:
    """One file. ``etag``: quoted, of the bytes that are not compressed."""

    content: bytes
    compressed: bytes
    content_type: str
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of the console. ``version`` depends on the bytes of all of them."""

    version: str
    index: ServedFile
    by_path: Mapping[str, ServedFile]


def read_files(root: Path = HERE) -> Files:
    """Read every file that is served below ``root``.

    A request can only name one of these, so no path of a request ever reaches the file system.
    """
    found = {
        path.relative_to(root).as_posix(): path.read_bytes()
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }
    found[WORDS] = _words()
    version = _version(found)
    index = found.pop(INDEX).replace(PLACE.encode(), f"console/{version}".encode())
    return Files(
        version=version,
        index=_served(INDEX, index),
        by_path={name: _served(name, content) for name, content in found.items()},
    )


def _words() -> bytes:
    """Return a module with the values to choose from in filters: those of this program, so that none is missing."""
    words = {
        "actions": sorted(AuditAction),
        "drift_causes": sorted(DriftCause),
        "drift_kinds": sorted(DriftKind),
        "job_kinds": sorted(KINDS),
        "job_states": list(JobState),
        "kinds": list(Kind),
    }
    return f"export const WORDS = {json.dumps(words)};\n".encode()


def _version(found: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name, content in found.items():
        whole.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return whole.hexdigest()[:_VERSION_LENGTH]


def _served(name: str, content: bytes) -> ServedFile:
    return ServedFile(
        content=content,
        compressed=gzip.compress(content, mtime=0),
        content_type=_TYPES[Path(name).suffix],
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )
