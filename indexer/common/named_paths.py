"""Files and directories that settings name, checked at the start: else the first use finds them wrong, months later."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from indexer.common.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPath:
    """What is at a path: whether something is, whether it is a directory, and what we may do there."""

    there: bool
    directory: bool
    readable: bool
    writable: bool


def inspect(path: Path) -> NamedPath:
    """Look at a path with the rights of this process."""
    directory = path.is_dir()
    needed = os.X_OK if directory else 0  # of a directory, to reach what is in it
    return NamedPath(
        there=path.exists(),
        directory=directory,
        readable=os.access(path, os.R_OK | needed),
        writable=os.access(path, os.W_OK | needed),
    )


def check_directory(setting: str, path: Path) -> None:
    """Raise ``ConfigurationError`` unless files can be made in a directory."""
    _refuse(setting, path, judge_directory(inspect(path)))


def check_place(setting: str, path: Path) -> None:
    """Raise ``ConfigurationError`` unless a file can be put, and replaced, at a path."""
    _refuse(setting, path, "is a directory, not a file" if inspect(path).directory else None)
    _refuse(setting, path.parent, judge_directory(inspect(path.parent)))


def check_log(setting: str, path: Path) -> None:
    """Raise ``ConfigurationError`` unless a file that another program writes can be read, or may still come."""
    _refuse(setting, path, judge_log(inspect(path), inspect(path.parent)))


def judge_directory(found: NamedPath) -> str | None:
    """Say why no file can be made in a directory; None: it can."""
    if not found.there:
        return "does not exist"
    if not found.directory:
        return "is not a directory"
    return None if found.writable else "cannot be written to by this user"


def judge_log(file: NamedPath, parent: NamedPath) -> str | None:
    """Say why a log can never be read; None: it can, or does not exist yet."""
    if file.directory:
        return "is a directory, not a file"
    if file.there:
        return None if file.readable else "cannot be read by this user"
    return None if parent.directory else "does not exist, nor does its directory"


def _refuse(setting: str, path: Path, why: str | None) -> None:
    if why is not None:
        raise ConfigurationError(f"{setting}: {path} {why}")
