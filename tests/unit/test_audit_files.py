"""Files that exports are written to: nothing that stands there is lost, and nothing half written has a name."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from indexer.audit.files import FileStanding, appended, find_standing, whole
from indexer.commands.audit.export import _begin
from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import BinaryIO


def line(position: int, **more: object) -> bytes:
    members = "".join(f',"{name}":{value}' for name, value in more.items())
    return f'{{"position":{position}{members}}}\n'.encode()


def test_standing__is_read_from_the_first_and_last_line(tmp_path: Path) -> None:
    """However long the file and its lines are."""
    file = tmp_path / "log.ndjson"
    file.write_bytes(line(7, commitments={}, salts={}))
    one = find_standing(file, format="ndjson")
    assert one is not None
    assert (7, 7, True) == (one.first, one.last, one.provable)
    long = '"' + "x" * 200_000 + '"'
    file.write_bytes(line(7) + b"".join(line(n) for n in range(8, 500)) + line(500, tag=long))
    many = find_standing(file, format="ndjson")
    assert many is not None
    assert (7, 500, False) == (many.first, many.last, many.provable)


def test_standing__of_a_table(tmp_path: Path) -> None:
    """CSV counts with its line of names and without; a table of names only holds nothing."""
    file = tmp_path / "log.csv"
    for text, found in ((b"position,id\r\n4,9\r\n5,10\r\n", (4, 5)), (b"4,9\r\n", (4, 4))):
        file.write_bytes(text)
        standing = find_standing(file, format="csv")
        assert standing is not None
        assert found == (standing.first, standing.last)
    for text in (b"position,id\r\n", b""):
        file.write_bytes(text)
        assert find_standing(file, format="csv") is None


@pytest.mark.parametrize(
    "text",
    [b"notes\n", b"[]\n", b'{"position":"1"}\n', line(3) + line(2), line(1) + b'{"posi', b'{"position":1}'],
)
def test_standing__what_is_no_export_is_refused(tmp_path: Path, text: bytes) -> None:
    """Somebody's notes, the other format, a line that was cut off: nothing is written behind these."""
    file = tmp_path / "log.ndjson"
    file.write_bytes(text)
    with pytest.raises(ConfigurationError, match=r"log\.ndjson"):
        find_standing(file, format="ndjson")


TO_500 = FileStanding(first=1, last=500)


@pytest.mark.parametrize(
    ("standing", "given", "begin"),
    [
        (None, {}, 0),
        (None, {"after": 20}, 20),
        (None, {"append": True}, 0),
        (None, {"append": True, "after": 20}, 20),
        (TO_500, {}, None),
        (TO_500, {"until": 600}, None),
        (TO_500, {"append": True}, 500),
        (TO_500, {"after": 500}, 500),
        (TO_500, {"after": 0}, None),
        (TO_500, {"after": 499}, None),
        (TO_500, {"after": 501}, None),
        (TO_500, {"after": 501, "filtered": True}, 501),
        (TO_500, {"after": 499, "filtered": True}, None),
        (TO_500, {"append": True, "until": 400}, None),
    ],
)
def test_begin__a_file_stays_one_export(
    tmp_path: Path, standing: FileStanding | None, given: dict[str, int], begin: int | None
) -> None:
    """A file that holds entries is gone on with where it ends, by an explicit word, or not touched."""
    asked = {"after": None, "until": None, "append": False, "filtered": False} | given

    def ask() -> int:
        return _begin(tmp_path / "log.ndjson", standing, **asked)  # type: ignore[arg-type]

    if begin is None:
        with pytest.raises(ConfigurationError, match="ends with entry 500"):
            ask()
    else:
        assert begin == ask()


def test_whole__has_its_name_when_it_is_whole(tmp_path: Path) -> None:
    """What fails midway leaves what stood there, and nothing beside it; who may read it is not left to chance."""
    file = tmp_path / "log.proof"
    before = os.umask(0)
    try:
        with whole(file) as out:
            out.write(b"first")
            assert not file.exists()
    finally:
        os.umask(before)
    assert 0o640 == stat.S_IMODE(file.stat().st_mode)

    def fail() -> None:
        with whole(file) as out:
            out.write(b"second")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (b"first", [file]) == (file.read_bytes(), list(tmp_path.iterdir()))
    link = tmp_path / "link"
    link.symlink_to(file)
    with whole(link) as out:
        out.write(b"third")
    assert (b"third", True) == (file.read_bytes(), link.is_symlink())


def test_appended__what_is_not_whole_is_taken_back(tmp_path: Path) -> None:
    """An export that fails midway can be taken up again: the file ends where it ended."""
    file = tmp_path / "log.ndjson"
    file.write_bytes(line(1))

    def fail() -> None:
        with appended(file) as out:
            out.write(line(2) + b'{"pos')
            out.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert line(1) == file.read_bytes()
    with appended(file) as out:
        out.write(line(2))
    assert line(1) + line(2) == file.read_bytes()


@pytest.mark.parametrize("write", [whole, appended])
def test_file__that_cannot_be_written_is_one_line(
    tmp_path: Path, write: Callable[[Path], AbstractContextManager[BinaryIO]]
) -> None:
    """A directory that is not there is told by its path, without a traceback."""
    with (
        pytest.raises(ConfigurationError, match="cannot be written: No such"),
        write(tmp_path / "no" / "log"),
    ):
        pass
