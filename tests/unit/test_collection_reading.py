"""A storage is read as the registry's collector reads it: what a link and a file among the blobs stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconciler.collection.decide import Mode, collect
from reconciler.collection.reading import digest_of_data, parse_link, read_snapshot
from reconciler.collection.references import References, Release
from reconciler.storage.files import FileStorage
from tests.simulators.layouts import Layout, digest_of, image, write

HEX = "ab" + "0" * 62
A, B = image("a"), image("b")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"blobs/sha256/ab/{HEX}/data", f"sha256:{HEX}"),
        (f"blobs/sha256/{HEX}/data", f"sha256:{HEX}"),
        (f"blobs/sha512/ab/{HEX}{HEX}/data", f"sha512:{HEX}{HEX}"),
        (f"blobs/sha384/ab/{HEX}{'0' * 32}/data", f"sha384:{HEX}{'0' * 32}"),
        (f"blobs/sha256/cd/{HEX}/data", None),
        ("blobs/sha256/ab/data", None),
        ("blobs/data", None),
        (f"blobs/md5/ab/{HEX}/data", None),
        (f"blobs/sha256/AB/{HEX.upper()}/data", None),
    ],
)
def test_digest_of_data(path: str, expected: str | None) -> None:
    """A file stands for the digest in its path; the directory of two digits may be missing, not another one."""
    assert digest_of_data(path) == expected


@pytest.mark.parametrize(
    ("content", "is_digest"),
    [
        (f"sha256:{HEX}".encode(), True),
        (f"sha512:{HEX}{HEX}".encode(), True),
        (f"sha256:{HEX}\n".encode(), False),
        (f" sha256:{HEX}".encode(), False),
        (f"sha256:{HEX.upper()}".encode(), False),
        (f"sha256:{HEX[:-1]}".encode(), False),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_parse_link(content: bytes, is_digest: bool) -> None:
    """A link is read byte by byte: neither blanks nor capitals pass."""
    assert parse_link(content) == (content.decode() if is_digest else None)


def test_read_snapshot(tmp_path: Path) -> None:
    """Directories without files, tags without links, uploads and links that name something else are all seen."""
    layout = Layout(tmp_path)
    layout.push("app", A, "v1", "v2")
    (layout.tag_directory("app", "v2") / "current" / "link").unlink()
    layout.push("app/below", B)
    write(layout.revision("app/below", A.digest) / "link", B.digest.encode())
    write(layout.repository("app") / "_uploads" / "one" / "data", b"")
    write(layout.repository("app") / "_uploads" / "one" / "startedat", b"")
    (layout.repository("bare") / "_manifests" / "tags").mkdir(parents=True)

    snapshot = read_snapshot(FileStorage(layout.root), Release.V3)
    app, below, bare = snapshot.repositories

    assert [each.name for each in snapshot.repositories] == ["app", "app/below", "bare"]
    assert (app.has_manifests, app.has_layers, app.has_tags, app.uploads) == (True, True, True, 1)
    assert app.tags == {"v1": A.digest}
    assert app.revisions.straight == {A.digest}
    assert not below.has_tags
    assert below.revisions.straight == {B.digest}
    assert below.revisions.odd == {f"{A.digest.replace(':', '/')}/link": B.digest}
    assert [path for path, _ in below.revisions.in_order()] == sorted(
        f"{each.digest.replace(':', '/')}/link" for each in (A, B)
    )
    assert (bare.has_manifests, bare.has_layers, bare.has_tags) == (True, False, True)
    assert set(snapshot.contents) == {A.digest, B.digest}
    assert all(isinstance(each, References) for each in snapshot.contents.values())


def test_read_snapshot__a_manifest_linked_as_a_layer(tmp_path: Path) -> None:
    """2.8 follows the layer link of a manifest without a revision link of its own; what that leads to is read, too."""
    layout = Layout(tmp_path)
    layout.push("app", A, "v1")
    missing = digest_of(b"missing")
    write(layout.revision("app", missing) / "link", missing.encode())
    write(layout.revision("app", digest_of(b"other")) / "link", B.digest.encode())
    for each in (B.data, *B.blobs):
        layout.put_blob(each)
    write(layout.layer("app", B.digest) / "link", B.digest.encode())

    found = collect(read_snapshot(FileStorage(layout.root), Release.V2), Mode(Release.V2))

    assert found.aborts is None
    assert ("app", B.digest) in found.marked_manifests
    assert found.blobs == frozenset()
    assert collect(read_snapshot(FileStorage(layout.root), Release.V3), Mode(Release.V3)).blobs == {
        B.digest,
        *map(digest_of, B.blobs),
    }
