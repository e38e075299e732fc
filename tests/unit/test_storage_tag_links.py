"""Links of tags: read straight from a disk they are what a listing of it says, whatever lies there."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.common.errors import StorageRefused
from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName, TagName
from reconciler.storage import files
from reconciler.storage.files import FileStorage
from reconciler.storage.layout import REVISIONS, ROOT, TAGS, Revision, TagCurrent, TagIndex
from reconciler.storage.objects import TagLinks
from reconciler.storage.tag_links import from_listing
from tests.fixtures.storages import lay, lay_tag
from tests.simulators.storage import MemoryStorage

APP = RepositoryName("team/app")
DIRECTORY = f"repositories/{APP}/{TAGS}"
OLD, NEW = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
LONG = Digest("sha512:" + "3" * 128)
AT = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The root directory of a storage with one tag as usual: it had another digest before."""
    made = tmp_path / "root"
    made.mkdir()
    lay_tag(made, APP, "usual", NEW, AT)
    lay(made, TagIndex(APP, TagName("usual"), OLD), OLD.encode(), AT - timedelta(days=1))
    return made


def tag(root: Path, name: str) -> Path:
    return root / ROOT / DIRECTORY / name


def without_clock(found: Iterator[TagLinks]) -> list[TagLinks]:
    """Return links sorted, without when they were read; what is missing was never written."""
    return sorted(
        each._replace(
            read_at=AT,
            written_at=each.written_at if each.digest is not None else AT,
            earlier=tuple(sorted(each.earlier)),
        )
        for each in found
    )


def listed(storage: FileStorage) -> list[TagLinks]:
    return without_clock(from_listing(storage.list(DIRECTORY), DIRECTORY, storage._read_dated))


def test_usual(root: Path) -> None:
    """A tag is read without listing anything: the digest, when it was written, and what it had before."""
    before = datetime.now(UTC)
    (found,) = FileStorage(root).read_tags(DIRECTORY)
    assert before <= found.read_at <= datetime.now(UTC)
    earlier = ((OLD, AT - timedelta(days=1)),)
    assert TagLinks("usual", NEW, AT, found.read_at, earlier) == found


def odd_trees(root: Path) -> None:
    """Lay tags of which something is missing, broken, a symbolic link, or no registry's."""
    elsewhere = root / ROOT / "elsewhere"
    elsewhere.mkdir()
    for name in (
        "aliased",
        "aliased-current",
        "aliased-link",
        "aliased-index",
        "aliased-digest",
        "aliased-old",
    ):
        lay_tag(root, APP, name, NEW, AT)
        lay(root, TagIndex(APP, TagName(name), OLD), OLD.encode(), AT - timedelta(days=2))
    moves = {
        "aliased": "",
        "aliased-current": "current",
        "aliased-link": "current/link",
        "aliased-index": "index",
        "aliased-digest": "index/sha256",
        "aliased-old": f"index/sha256/{OLD[7:]}",
    }
    for name, moved in moves.items():
        here, there = tag(root, name) / moved, elsewhere / name
        here.rename(there)
        here.symlink_to(os.path.relpath(there, here.parent))
    for name in ("no-current", "empty", "torn", "long", "no-index", "directory", "pipe", "no-link"):
        lay_tag(root, APP, name, NEW, AT)
        lay(root, TagIndex(APP, TagName(name), OLD), OLD.encode(), AT - timedelta(days=3))
    (tag(root, "no-current") / "current/link").unlink()
    lay(root, TagCurrent(APP, TagName("empty")), b"", AT)
    lay(root, TagCurrent(APP, TagName("torn")), NEW[:30].encode(), AT)
    lay(root, TagCurrent(APP, TagName("long")), NEW.encode() * 9, AT)
    (tag(root, "no-index") / "index").rename(elsewhere / "no-index")
    (tag(root, "directory") / "current/link").unlink()
    (tag(root, "directory") / "current/link").mkdir()
    (tag(root, "pipe") / "current/link").unlink()
    os.mkfifo(tag(root, "pipe") / "current/link")
    (tag(root, "no-link") / f"index/sha256/{OLD[7:]}/link").unlink()
    (tag(root, "nothing") / "current").mkdir(parents=True)
    tag(root, "a file").write_bytes(b"")
    lay_tag(root, APP, "long-digest", LONG, AT)
    lay(root, TagIndex(APP, TagName("long-digest"), NEW), NEW.encode(), AT - timedelta(days=4))
    for odd in (
        "index/sha256/abc/link",
        "index/md5/abc/link",
        "index/sha256/link",
        "more/link",
        "current/more",
    ):
        path = tag(root, "usual") / odd
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(NEW.encode())


def test_as_listed(root: Path) -> None:
    """Whatever lies there, straight from the disk comes what a listing of it says; of some names, those."""
    odd_trees(root)
    storage = FileStorage(root)
    expected = listed(storage)
    assert expected == without_clock(storage.read_tags(DIRECTORY))
    by_name = {each.tag: each for each in expected}
    assert {"nothing", "a file"}.isdisjoint(by_name)
    missing = {name for name, each in by_name.items() if each.digest is None}
    assert {"no-current", "empty", "torn", "long", "directory", "pipe"} == missing
    aliased = [name for name in by_name if name.startswith("aliased")]
    earlier = ((OLD, AT - timedelta(days=2)),)
    assert [(NEW, AT, earlier)] * 6 == [by_name[name][1:3] + by_name[name][4:] for name in aliased]
    some = ["usual", "torn", "aliased-index", "none", "a file"]
    assert sorted(by_name[name] for name in some[:3]) == without_clock(storage.read_tags(DIRECTORY, some))


@pytest.mark.parametrize(
    "step", ["", "current", "current/link", "index", "index/sha256", f"index/sha256/{OLD[7:]}", "tags"]
)
def test_link__out_of_the_root(root: Path, tmp_path: Path, step: str) -> None:
    """A symbolic link that leads out is refused at every step."""
    here = tag(root, "usual").parent if step == "tags" else tag(root, "usual") / step
    here.rename(tmp_path / "outside")
    here.symlink_to(tmp_path / "outside")
    storage = FileStorage(root)
    with pytest.raises(StorageRefused, match="leads out of"):
        list(storage.read_tags(DIRECTORY))
    with pytest.raises(StorageRefused, match="leads out of"):
        list(storage.read_tags(DIRECTORY, ["usual"]))


def test_nothing(root: Path) -> None:
    """A repository without tags has none."""
    assert [] == list(FileStorage(root).read_tags(f"repositories/other/{TAGS}"))
    assert [] == list(FileStorage(root).read_tags(f"repositories/other/{TAGS}", ["latest"]))
    assert [] == list(FileStorage(root).list_each(f"repositories/other/{REVISIONS}/sha256", "link"))


def test_rights(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that may not be read is refused with its name, and never taken for absent."""
    real = os.open

    def denied(path: str, *options: object, **more: object) -> int:
        if path.endswith("current/link"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *options, **more)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(StorageRefused, match=r"usual/current/link may not be read"):
        list(FileStorage(root).read_tags(DIRECTORY))


def test_pushed_meanwhile() -> None:
    """Between listing and reading the tag was pushed again: the time is that of the link that was read."""
    storage = MemoryStorage()
    path = f"{DIRECTORY}/latest/current/link"
    storage.files = {
        path: (OLD.encode(), AT - timedelta(days=9)),
        f"{DIRECTORY}/latest/index/sha256/{OLD[7:]}/link": (OLD.encode(), AT - timedelta(days=9)),
    }

    def push(_path: str) -> None:
        storage.files[path] = (NEW.encode(), AT)

    storage.before_read = push
    (found,) = storage.read_tags(DIRECTORY)
    assert (NEW, AT, ((OLD, AT - timedelta(days=9)),)) == (found.digest, found.written_at, found.earlier)


def test_each(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of a name in every directory of a directory is what a listing says of it, in chunks."""
    monkeypatch.setattr(files, "CHUNK", 2)
    for digest in (OLD, Digest("sha256:" + "4" * 64), Digest("sha256:" + "5" * 64)):
        lay(root, Revision(APP, digest), digest.encode(), AT - timedelta(days=1))
    directory = f"repositories/{APP}/{REVISIONS}/sha256"
    here = root / ROOT / directory
    (here / ("4" * 64)).rename(root / ROOT / "elsewhere")
    (here / ("4" * 64)).symlink_to(root / ROOT / "elsewhere")
    (here / ("5" * 64) / "link").rename(root / ROOT / "another")
    (here / ("5" * 64) / "link").symlink_to(root / ROOT / "another")
    (here / ("6" * 64) / "link").mkdir(parents=True)
    (here / "file").write_bytes(b"")
    (here / OLD[7:] / "more").write_bytes(b"")
    storage = FileStorage(root)
    chunks = list(storage.list_each(directory, "link"))
    assert [2, 2] == [len(chunk) for chunk in chunks]
    found = sorted(entry for chunk in chunks for entry in chunk)
    expected = sorted(
        entry for chunk in storage.list(directory) for entry in chunk if entry.path.endswith("/link")
    )
    assert expected == found
    assert {OLD[7:], NEW[7:], "4" * 64, "5" * 64} == {entry.path.split("/")[-2] for entry in found}
    (here / ("7" * 64)).symlink_to("/etc")
    with pytest.raises(StorageRefused, match="leads out of"):
        list(storage.list_each(directory, "hostname"))
