"""What a collection would damage is named before it runs, in the terms of who runs it; what is sound is not accused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.collection.decide import Mode, collect
from reconciler.collection.hazards import Code, Hazard, find_hazards
from reconciler.collection.reading import read_snapshot
from reconciler.collection.references import Release
from reconciler.storage.files import FileStorage
from tests.simulators.layouts import Layout, digest_of, image, index, referrer, schema1, write

A, B = image("a"), image("b", layers=(b"one", b"two"))
LATER = datetime.now(UTC) + timedelta(days=2)
V2, V3 = Mode(Release.V2), Mode(Release.V3)
V2_UNTAGGED, V3_UNTAGGED = Mode(Release.V2, delete_untagged=True), Mode(Release.V3, delete_untagged=True)
EVERY_MODE = pytest.mark.parametrize(
    "mode",
    [V2, V3, V2_UNTAGGED, V3_UNTAGGED],
    ids=lambda mode: f"{mode.release.value}-{mode.delete_untagged}",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "root")


def hazards(layout: Layout, mode: Mode, *, now: datetime = LATER) -> list[Hazard]:
    snapshot = read_snapshot(FileStorage(layout.root), mode.release)
    return list(find_hazards(snapshot, collect(snapshot, mode), mode, now=now))


def codes(layout: Layout, mode: Mode) -> list[str]:
    return [each.code for each in hazards(layout, mode)]


@EVERY_MODE
def test_find_hazards__none(layout: Layout, mode: Mode) -> None:
    """Tagged images, blobs that nothing needs and a second repository with the same image are no hazard."""
    layout.push("app", A, "v1")
    layout.push("app", B, "v2", "v3")
    layout.push("copy", A, "v1")
    layout.put_blob(b"loose")

    assert hazards(layout, mode) == []


@pytest.mark.parametrize("nested", [False, True])
def test_find_hazards__children(layout: Layout, nested: bool) -> None:
    """H1: 2.8 deletes the children of a tagged index, however deep they are; the index is named by its tag."""
    layout.push("app", index((index((A,)),)) if nested else index((A,)), "v1")

    found = hazards(layout, V2_UNTAGGED)

    assert [each.code for each in found] == [Code.INDEX_CHILD] * (2 if nested else 1)
    assert ("app", A.digest) in {(each.repository, each.digest) for each in found}
    assert all("app:v1" in each.text for each in found)
    assert hazards(layout, V3_UNTAGGED) == hazards(layout, V2) == []


def test_find_hazards__never_tagged(layout: Layout) -> None:
    """H2 and H3: a repository that never had a tag ends a collection of 2.8, and loses its content to 3.x."""
    layout.push("app", A, "v1")
    layout.push("cache", B)

    [failing] = hazards(layout, V2_UNTAGGED)
    [losing] = hazards(layout, V3_UNTAGGED)

    assert (failing.code, failing.repository) == (Code.NEVER_TAGGED_FAILS, "cache")
    assert "fails" in failing.text
    assert (losing.code, losing.repository) == (Code.NEVER_TAGGED_LOSES, "cache")
    assert hazards(layout, V2) == hazards(layout, V3) == []


@pytest.mark.parametrize("mode", [V2_UNTAGGED, V3_UNTAGGED])
def test_find_hazards__referrers(layout: Layout, mode: Mode) -> None:
    """H4: what is attached by digest is lost though its subject stays; not if the subject goes, too."""
    layout.push("app", A, "v1")
    attached = layout.push("app", referrer("sbom", A))
    layout.push("app", B)
    layout.push("app", referrer("of another", B))

    [found] = hazards(layout, mode)

    assert (found.code, found.repository, found.digest) == (Code.REFERRER, "app", attached)
    assert "app:v1" in found.text


def test_find_hazards__kept_by_a_later_repository(layout: Layout) -> None:
    """H5: an untagged manifest that a later repository keeps loses its layer links; of an earlier one, none."""
    layout.push("a", A, "keep")
    layout.push("a", B)
    layout.push("b", B, "v1")

    [found] = hazards(layout, V3_UNTAGGED)

    assert (found.code, found.repository, found.digest) == (Code.LAYER_LINK_LOST, "a", B.digest)
    assert "3 blobs" in found.text
    layout.push("0", B, "v1")
    assert hazards(layout, V3_UNTAGGED) == []


def test_find_hazards__damage_that_spreads(layout: Layout) -> None:
    """H6: an index whose child is missing in one repository costs a later repository the layers of that child."""
    stored = index((B,))
    layout.push("a", stored, "v1")
    layout.push("b", stored, "v1")
    assert hazards(layout, V3_UNTAGGED) == []
    layout.unlink("a", B.digest)

    [found] = hazards(layout, V3_UNTAGGED)

    assert (found.code, found.repository, found.digest) == (Code.LAYER_LOST, "b", B.digest)


@EVERY_MODE
def test_find_hazards__uploads(layout: Layout, mode: Mode) -> None:
    """H8: uploads that are open, and blobs to be deleted that are young, may belong to a push that is under way."""
    layout.push("app", A, "v1")
    write(layout.repository("app") / "_uploads" / "one" / "startedat", b"2026-11-29T00:00:00Z")
    digest = layout.put_blob(b"just arrived")

    found = hazards(layout, mode, now=datetime.now(UTC))

    assert [(each.code, each.repository, each.digest) for each in found] == [
        (Code.UPLOADS, None, digest),
        (Code.UPLOADS, "app", None),
    ]
    assert len(hazards(layout, mode)) == 1


@EVERY_MODE
def test_find_hazards__young_manifests(layout: Layout, mode: Mode) -> None:
    """What a stored manifest refers to is no upload that is under way, however young it is."""
    layout.push("app", A, "v1")
    layout.push("app", B)

    assert hazards(layout, mode, now=datetime.now(UTC)) == []


def test_find_hazards__never_tagged_and_kept_elsewhere(layout: Layout) -> None:
    """H3: a manifest of a repository without tags that another keeps loses its layer links; of an earlier one, none."""
    layout.push("cache", B)
    layout.push("later", B, "v1")

    [found] = hazards(layout, V3_UNTAGGED)

    assert (found.code, found.repository, found.digest) == (Code.NEVER_TAGGED_LOSES, "cache", B.digest)
    layout.push("a", B, "v1")
    assert hazards(layout, V3_UNTAGGED) == []


@EVERY_MODE
@pytest.mark.parametrize("content", [b"", b"sha256:abc", b"\n"])
def test_find_hazards__broken_links(layout: Layout, mode: Mode, content: bytes) -> None:
    """H10: every link that a collection fails at is named, not only the first; others are not."""
    for name in ("app", "other"):
        layout.push(name, A, "v1")
        write(layout.revision(name, A.digest) / "link", content)
    write(layout.layer("app", digest_of(b"layer of a")) / "link", content)
    layout.push("app", B, "v2")
    write(layout.tag_directory("app", "v1") / "current" / "link", content)
    write(layout.tag_directory("app", "v2") / "index" / "sha256" / "00" / "link", content)

    found = hazards(layout, mode)

    assert {each.code for each in found} == {Code.BROKEN_LINK}
    expected = {"app/_manifests/revisions", "other/_manifests/revisions"}
    expected |= {"app/_layers"} if mode.release is Release.V3 else set()
    expected |= {"app/_manifests/tags/v1/current/link"} if mode.delete_untagged else set()
    assert len(found) == len(expected)
    assert all(any(place in each.text for each in found) for place in expected)
    assert all("before it deletes anything" in each.text for each in found)


@EVERY_MODE
def test_find_hazards__schema1(layout: Layout, mode: Mode) -> None:
    """H11: every schema 1 manifest is named where 3.x would read it."""
    layout.push("app", schema1("old"), "v1")
    layout.push("other", schema1("older"), "v1")

    expected = [Code.SCHEMA1, Code.SCHEMA1] if mode.release is Release.V3 else []
    assert codes(layout, mode) == expected


def test_find_hazards__without_layers(layout: Layout) -> None:
    """H12 and H16: without _layers 3.x fails, and 2.8 sweeps everything that the repository has."""
    layout.push("app", A, "v1")
    layout.push("other", B, "v1")
    for place in (layout.repository("app") / "_layers").glob("sha256/*/link"):
        place.unlink()
        place.parent.rmdir()
    (layout.repository("app") / "_layers" / "sha256").rmdir()
    assert codes(layout, V2) == codes(layout, V3) == []
    (layout.repository("app") / "_layers").rmdir()

    [failing], [losing] = hazards(layout, V3), hazards(layout, V2)

    assert (failing.code, failing.repository) == (Code.MISSING_DIRECTORY, "app")
    assert (losing.code, losing.repository, losing.digest) == (Code.NOT_SEEN, "app", A.digest)
    assert "app:v1" in losing.text


@EVERY_MODE
def test_find_hazards__an_empty_storage(layout: Layout, mode: Mode) -> None:
    """H12: a storage without its two directories is no registry's, or not mounted."""
    layout.base.mkdir(parents=True)

    assert codes(layout, mode) == [Code.MISSING_DIRECTORY]


@EVERY_MODE
def test_find_hazards__content(layout: Layout, mode: Mode) -> None:
    """H15: a manifest whose bytes are cut off ends a collection."""
    layout.push("app", A, "v1")
    (layout.blob(A.digest) / "data").write_bytes(A.data[:-1])

    [found] = hazards(layout, mode)

    assert (found.code, found.digest) == (Code.UNREADABLE, A.digest)


@pytest.mark.parametrize("mode", [V2_UNTAGGED, V3_UNTAGGED])
def test_find_hazards__fails_too_late(layout: Layout, mode: Mode) -> None:
    """H15: a stray file among the blobs ends a collection after it has deleted manifests, and the text says so."""
    layout.push("app", A, "v1")
    layout.push("app", B)
    write(layout.base / "blobs" / "sha256" / "ab" / "data", b"")

    [found] = hazards(layout, mode)

    assert found.code is Code.UNREADABLE
    assert "after it has deleted 1 manifest," not in found.text
    assert "after it has deleted 1 manifest." in found.text


@pytest.mark.parametrize("mode", [V2_UNTAGGED, V3_UNTAGGED])
def test_find_hazards__a_link_to_another(layout: Layout, mode: Mode) -> None:
    """H10: a link that names another manifest than its path makes a real run fail where a dry run does not."""
    layout.push("app", A, "v1")
    layout.push("app", B)
    write(layout.revision("app", A.digest) / "link", B.digest.encode())

    found = [each for each in hazards(layout, mode) if each.code is Code.BROKEN_LINK]

    assert [(each.repository, each.digest) for each in found] == [("app", B.digest)]
    assert "second time" in found[0].text
