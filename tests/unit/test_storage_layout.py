"""What a path in a registry's storage means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.oci.digest import Digest, digest_of
from indexer.oci.reference import RepositoryName, TagName
from reconciler.storage.layout import (
    Blob,
    LayerLink,
    Place,
    Revision,
    TagCurrent,
    TagIndex,
    Upload,
    parse,
    parse_link,
    path_of,
)

A = digest_of(b"a")
HEX = A.removeprefix("sha256:")
LONG = Digest("sha512:" + "0f" * 64)
NAME, TAG = RepositoryName("team/app"), TagName("v1.0")

PLACES: list[tuple[str, Place]] = [
    ("repositories/team/app/_manifests/tags/v1.0/current/link", TagCurrent(NAME, TAG)),
    (f"repositories/team/app/_manifests/tags/v1.0/index/sha256/{HEX}/link", TagIndex(NAME, TAG, A)),
    (f"repositories/team/app/_manifests/revisions/sha256/{HEX}/link", Revision(NAME, A)),
    (f"repositories/team/app/_layers/sha512/{'0f' * 64}/link", LayerLink(NAME, LONG)),
    ("repositories/team/app/_uploads/0b1d/startedat", Upload(NAME, "0b1d", "startedat")),
    ("repositories/team/app/_uploads/0b1d/hashstates/sha256/0", Upload(NAME, "0b1d", "hashstates/sha256/0")),
    (f"blobs/sha256/{HEX[:2]}/{HEX}/data", Blob(A)),
    # a repository may have the name of anything that has no underscore in front
    ("repositories/tags/x/_manifests/tags/link/current/link", TagCurrent(RepositoryName("tags/x"), TagName("link"))),
    ("repositories/a/_manifests/tags/_layers/current/link", TagCurrent(RepositoryName("a"), TagName("_layers"))),
]  # fmt: skip


@pytest.mark.parametrize(("path", "place"), PLACES)
def test_place__both_ways(path: str, place: Place) -> None:
    """What a registry writes is recognised, and is looked for at the same path."""
    assert (place, path) == (parse(path), path_of(place))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "repositories",
        "repositories/team/app",
        "repositories//_manifests/tags/v1/current/link",
        "repositories/_manifests/tags/v1/current/link",
        "repositories/Team/_manifests/tags/v1/current/link",
        "repositories/a/../b/_manifests/tags/v1/current/link",
        "repositories/a/_manifests/tags/.v1/current/link",
        "repositories/a/_manifests/tags/v1/current/link/more",
        "repositories/a/_manifests/tags/v1/current/Link",
        "repositories/a/_manifests/tags/v1/current",
        f"repositories/a/_manifests/revisions/sha256/{HEX}/signatures/sha256/{HEX}/link",
        f"repositories/a/_manifests/revisions/sha256/{HEX[:-1]}/link",
        f"repositories/a/_manifests/revisions/sha256/{HEX.upper()}/link",
        f"repositories/a/_manifests/revisions/md5/{HEX}/link",
        f"repositories/a/_layers/sha256/{HEX}/data",
        "repositories/a/_uploads/0b1d",
        "repositories/a/_uploads//data",
        "repositories/a/_other/link",
        f"blobs/sha256/00/{HEX}/data" if HEX[:2] != "00" else "blobs",
        f"blobs/sha256/{HEX[:2]}/{HEX}",
        f"blobs/sha256/{HEX[:2]}/{HEX}/data.old",
        f"/blobs/sha256/{HEX[:2]}/{HEX}/data",
        "repositories/" + "a" * 256 + "/_manifests/tags/v1/current/link",
    ],
)
def test_parse__what_no_registry_writes(path: str) -> None:
    """A path that no registry would write means nothing."""
    assert parse(path) is None


_WORDS = [
    "repositories",
    "blobs",
    "a",
    "_manifests",
    "tags",
    "v1",
    "index",
    "current",
    "sha256",
    "link",
    "_layers",
    "..",
    "data",
]
_parts = st.lists(st.sampled_from([*_WORDS, HEX, HEX[:2]]) | st.text(max_size=6), max_size=10)


@given(_parts)
def test_parse__never_two_paths(parts: list[str]) -> None:
    """Whatever the path: it means nothing, or it is the path of what it means."""
    path = "/".join(parts)
    place = parse(path)
    assert place is None or path_of(place) == path


@pytest.mark.parametrize(
    "content",
    [b"", A.encode()[:-1], A.encode() + b"\n", b" " + A.encode(), b"\xff" * 71, HEX.encode(), b"\0" * 71],
)
def test_link__that_is_none(content: bytes) -> None:
    """Content that is not exactly a digest is no link: the registry refuses it, too."""
    assert parse_link(content) is None


def test_link() -> None:
    """A link's content is a digest."""
    assert (A, LONG) == (parse_link(A.encode()), parse_link(LONG.encode()))
