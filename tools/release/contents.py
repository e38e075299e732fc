"""What the archives of a release must hold, to the file."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from typing import TYPE_CHECKING, Final

from tools.release import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PACKAGES: Final = ("indexer", "reconciler")
BESIDE_PACKAGES: Final = frozenset(
    {"schema.sql", "README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "pyproject.toml"}
)
BY_THE_BACKEND: Final = frozenset({"PKG-INFO", ".gitignore"})
SCHEMA_IN_WHEEL: Final = "indexer/store/schema.sql"
METADATA: Final = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE")


def files_of_packages(root: Path) -> set[str]:
    """List every file of the packages in a source tree, by its path from the root; not what Python compiled."""
    found = (path for package in PACKAGES for path in (root / package).rglob("*"))
    return {str(path.relative_to(root)) for path in found if path.is_file() and path.suffix != ".pyc"}


def check_sdist(path: Path, root: Path) -> None:
    """Raise ``ReleaseError`` unless the archive holds what a wheel is built from, and nothing else."""
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    compare(path.name, names - BY_THE_BACKEND, files_of_packages(root) | BESIDE_PACKAGES)


def check_wheel(path: Path, root: Path) -> None:
    """Raise ``ReleaseError`` unless the wheel holds the packages, the schema and its metadata, and nothing else."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    metadata = "-".join(path.name.split("-")[:2]) + ".dist-info"
    expected = files_of_packages(root) | {SCHEMA_IN_WHEEL} | {f"{metadata}/{name}" for name in METADATA}
    compare(path.name, names, expected)


def compare(archive: str, names: set[str], expected: set[str]) -> None:
    """Raise ``ReleaseError`` with every file that lacks or is too many."""
    lacks, extra = sorted(expected - names), sorted(names - expected)
    said = [f"lacks {', '.join(lacks)}"] * bool(lacks) + [f"holds also {', '.join(extra)}"] * bool(extra)
    if said:
        raise ReleaseError(f"{archive} {'; '.join(said)}")


def sha256(path: Path) -> str:
    """Return the hash of a file, in hex."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def checksums(paths: Iterable[Path]) -> str:
    """Return the text of SHA256SUMS, as ``sha256sum --check`` reads it."""
    return "".join(f"{sha256(path)}  {path.name}\n" for path in sorted(paths))
