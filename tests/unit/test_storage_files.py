"""A storage on a disk, read whatever lies there."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from indexer.common.errors import StorageRefused
from reconciler.storage import files
from reconciler.storage.files import FileStorage
from reconciler.storage.objects import instant_of

ROOT = Path("docker/registry/v2")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where the registry keeps everything, with three files."""
    base = tmp_path / "root" / ROOT
    for number, path in enumerate(
        ("blobs/a/data", "repositories/x/_layers/link", "repositories/y/deep/er/link")
    ):
        (base / path).parent.mkdir(parents=True)
        (base / path).write_bytes(b"x" * number)
        os.utime(base / path, (1_700_000_000 + number, 1_700_000_000 + number))
    return base


@pytest.fixture
def storage(base: Path) -> FileStorage:
    return FileStorage(base.parents[2])


def _paths(storage: FileStorage, prefix: str) -> list[str]:
    return sorted(entry.path for chunk in storage.list(prefix) for entry in chunk)


def test_list(storage: FileStorage) -> None:
    """Everything below a directory, with its size and time; of one that is not there, nothing."""
    entries = {entry.path: entry for chunk in storage.list("") for entry in chunk}
    assert {"blobs/a/data", "repositories/x/_layers/link", "repositories/y/deep/er/link"} == set(entries)
    found = entries["repositories/y/deep/er/link"]
    assert (2, datetime(2023, 11, 14, 22, 13, 22, tzinfo=UTC)) == (found.size_bytes, found.modified_at)
    assert ["repositories/x/_layers/link"] == _paths(storage, "repositories/x")
    assert [] == _paths(storage, "repositories/z")
    assert found == storage.stat(found.path)


def test_list__in_chunks(storage: FileStorage, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not depend on how much lies there: what is listed comes in pieces."""
    monkeypatch.setattr(files, "CHUNK", 2)
    (base / "blobs/b").write_bytes(b"")
    chunks = list(storage.list(""))
    assert [2, 2] == [len(chunk) for chunk in chunks]


def test_list_names(storage: FileStorage) -> None:
    """One level; of a directory that is not there, or a file, nothing."""
    assert ["x", "y"] == sorted(storage.list_names("repositories"))
    assert ([], []) == (storage.list_names("repositories/z"), storage.list_names("blobs/a/data"))


def test_read(storage: FileStorage) -> None:
    """A file's bytes; longer ones are cut where it shows; of what is no file, nothing."""
    path = "repositories/y/deep/er/link"
    assert (b"xx", b"xx", b"x") == tuple(storage.read(path, limit) for limit in (9, 1, 0))
    assert [None] * 4 == [
        storage.read(path, 9) for path in ("blobs", "blobs/a", "blobs/none", "blobs/a/data/more")
    ]
    assert {"blobs/a/data": b"", "none": None} == dict(storage.read_many(["blobs/a/data", "none"], 5))


def test_read_stream(storage: FileStorage, base: Path) -> None:
    """Large files come in pieces."""
    content = os.urandom(2 * files.STREAM_BYTES + 5)
    (base / "large").write_bytes(content)
    pieces = storage.read_stream("large")
    assert isinstance(pieces, Iterator)
    found = list(pieces)
    assert (3, content) == (len(found), b"".join(found))
    assert storage.read_stream("none") is None


def test_odd_files(storage: FileStorage, base: Path) -> None:
    """Pipes and sockets are no files, and hold nobody up; names that no registry writes are listed all the same."""
    os.mkfifo(base / "pipe")
    (base / "x#1").write_bytes(b"1")
    (base / ".hidden").write_bytes(b"2")
    (base / "\udcff").write_bytes(b"3")
    assert {"x#1", ".hidden", "\udcff"} <= set(_paths(storage, ""))
    assert "pipe" not in _paths(storage, "")
    assert (None, None, b"1") == (storage.read("pipe", 1), storage.stat("pipe"), storage.read("x#1", 1))


@pytest.mark.parametrize("path", ["..", "../secret", "blobs/../../secret", "a/.."])
def test_path__never_out_of_the_root(storage: FileStorage, path: str) -> None:
    """A path that leads upwards is an error of the caller."""
    for ask in (lambda: storage.read(path, 1), lambda: storage.stat(path), lambda: list(storage.list(path))):
        with pytest.raises(ValueError, match="below the root"):
            ask()


def test_link__out_of_the_root(storage: FileStorage, base: Path, tmp_path: Path) -> None:
    """A link that leads out is refused wherever it is met, and nothing behind it is read."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (base / "repositories/z").symlink_to(tmp_path / "outside")
    (base / "blobs/file").symlink_to(tmp_path / "outside" / "secret")
    (base / "blobs/broken").symlink_to("/nowhere/at/all")
    for ask in (
        lambda: list(storage.list("")),
        lambda: list(storage.list("repositories/z")),
        lambda: storage.list_names("repositories/z"),
        lambda: storage.read("repositories/z/secret", 9),
        lambda: storage.stat("repositories/z/secret"),
        lambda: storage.read("blobs/file", 9),
        lambda: storage.stat("blobs/broken"),
    ):
        with pytest.raises(StorageRefused, match="leads out of"):
            ask()


def test_link__within_the_root(storage: FileStorage, base: Path) -> None:
    """A link that stays within is followed, as the registry follows it."""
    (base / "repositories/alias").symlink_to(base / "repositories/y")
    (base / "blobs/again").symlink_to("a/data")
    assert {"repositories/alias/deep/er/link", "blobs/again"} <= set(_paths(storage, ""))
    assert (b"xx", b"") == (
        storage.read("repositories/alias/deep/er/link", 9),
        storage.read("blobs/again", 9),
    )


def test_link__in_a_circle(storage: FileStorage, base: Path) -> None:
    """A circle of links is refused, not walked for ever."""
    (base / "repositories/x/up").symlink_to("..")
    with pytest.raises(StorageRefused, match="circle"):
        list(storage.list(""))
    (base / "repositories/x/up").unlink()
    (base / "repositories/x/other").symlink_to("../y")
    (base / "repositories/y/other").symlink_to("../x")
    with pytest.raises(StorageRefused, match="circle"):
        list(storage.list(""))


def test_root__through_a_link(base: Path, tmp_path: Path) -> None:
    """The root directory itself may be reached through a link: the operator named it."""
    (tmp_path / "link").symlink_to(base.parents[2])
    assert ["x", "y"] == sorted(FileStorage(tmp_path / "link").list_names("repositories"))


def test_root__that_is_none(tmp_path: Path) -> None:
    """A root that is not there, or no directory, is one sentence that says what to do."""
    (tmp_path / "file").write_bytes(b"")
    for path, says in ((tmp_path / "none", "does not exist"), (tmp_path / "file", "is not a directory")):
        with pytest.raises(StorageRefused, match=says):
            FileStorage(path)


def test_root__empty(tmp_path: Path, storage: FileStorage) -> None:
    """An empty root is empty, and no error yet: a new registry has one."""
    assert (True, False) == (FileStorage(tmp_path).is_empty(), storage.is_empty())


def test_rights(storage: FileStorage, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may not be read is refused, with its name; it is never taken for absent."""

    def denied(path: str, *_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        with pytest.raises(StorageRefused, match=r"blobs/a/data may not be read"):
            storage.read("blobs/a/data", 1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", denied)
        with pytest.raises(StorageRefused, match=r"repositories may not be read"):
            storage.list_names("repositories")


def test_appears_later(storage: FileStorage, base: Path) -> None:
    """What was not there when it was first asked for is found once it is."""
    assert storage.read("new/er/file", 5) is None
    (base / "new/er").mkdir(parents=True)
    (base / "new/er/file").write_bytes(b"1")
    assert storage.read("new/er/file", 5) == b"1"


@pytest.mark.parametrize(("seconds", "year"), [(0.0, 1970), (-1e12, 1970), (1e18, 9999), (1.7e9, 2023)])
def test_instant(seconds: float, year: int) -> None:
    """Whatever time a file claims, it is an instant."""
    assert year == instant_of(seconds).year
