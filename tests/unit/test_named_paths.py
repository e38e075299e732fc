"""Files and directories that settings name are wrong at the start, not when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from indexer.app import _check_files
from indexer.common.errors import ConfigurationError
from indexer.common.named_paths import NamedPath, judge_directory, judge_log
from indexer.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

ABSENT = NamedPath(there=False, directory=False, readable=False, writable=False)
DIRECTORY = NamedPath(there=True, directory=True, readable=True, writable=True)
FOREIGN = NamedPath(there=True, directory=True, readable=True, writable=False)
FILE = NamedPath(there=True, directory=False, readable=True, writable=True)
SECRET = NamedPath(there=True, directory=False, readable=False, writable=False)


def settings(tmp_path: Path, **given: str) -> Settings:
    return Settings.read({"INDEXER_DATA_DIR": str(tmp_path), **given})


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (DIRECTORY, None),
        (ABSENT, "does not exist"),
        (FILE, "not a directory"),
        (FOREIGN, "cannot be written to"),
    ],
)
def test_directory__files_are_made_in_it(found: NamedPath, says: str | None) -> None:
    """It is there, is one, and is ours to write to."""
    said = judge_directory(found)
    assert (said is None) if says is None else (says in (said or ""))


@pytest.mark.parametrize(
    ("file", "parent", "says"),
    [
        (FILE, DIRECTORY, None),
        (ABSENT, FOREIGN, None),
        (ABSENT, ABSENT, "nor does its directory"),
        (SECRET, FOREIGN, "cannot be read"),
        (DIRECTORY, DIRECTORY, "is a directory"),
    ],
)
def test_log__is_read_or_may_still_come(file: NamedPath, parent: NamedPath, says: str | None) -> None:
    """A log that its writer has not begun is waited for; one that we may not read never comes."""
    said = judge_log(file, parent)
    assert (said is None) if says is None else (says in (said or ""))


@pytest.mark.parametrize(
    "name", ["INDEXER_AUDIT_ARCHIVE_DIR", "INDEXER_AUDIT_CHECKPOINT_FILE", "INDEXER_ACCESS_LOG"]
)
def test_setting__that_names_nothing_usable_stops_the_start(tmp_path: Path, name: str) -> None:
    """Each setting is held to it, by name; what is right is taken."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=name):
        _check_files(settings(tmp_path, **{name: str(tmp_path / "no" / "such")}))
    with pytest.raises(ConfigurationError, match=name):
        _check_files(settings(tmp_path, **{name: str(tmp_path / "file" / "within")}))
    good = tmp_path if name.endswith("_DIR") else tmp_path / "file"
    _check_files(settings(tmp_path, **{name: str(good)}))
