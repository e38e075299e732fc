"""What a notice is about, as the registry reads the path; and the id that its event carries."""

from __future__ import annotations

import pytest

from indexer.api.notices import read_write
from indexer.inventory.write_notices import split_write

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/v2/team/app/manifests/v1", ("team/app", "v1")),
        ("/v2/team/app/manifests/v1?x=/manifests/v2", ("team/app", "v1")),
        (f"/v2/app/manifests/{DIGEST}", ("app", DIGEST)),
        (f"/v2/app/manifests/{DIGEST.replace(':', '%3A')}", ("app", DIGEST)),
        ("/v2/team%2Fapp/manifests/v%31", ("team/app", "v1")),
        ("/v2/a/manifests/b/manifests/c", ("a/manifests/b", "c")),
        ("/v2/team//app/manifests/v1", None),
        ("/v2/team/../app/manifests/v1", None),
        ("/v2/Team/manifests/v1", None),
        ("/v2/app/manifests/v1/", None),
        ("/v2/app/manifests/-v1", None),
        ("/v2/app/manifests/sha256:abc", None),
        ("/v2/manifests/v1", None),
        ("/v2/app/blobs/v1", None),
        ("", None),
    ],
)
def test_write__is_read_as_the_registry_does(uri: str, expected: tuple[str, str] | None) -> None:
    """Unescaped once and taken apart from the right; what the registry would redirect or refuse writes nothing."""
    assert expected == read_write(uri)


@pytest.mark.parametrize(
    ("sent", "client", "number"),
    [
        ("docker/27 indexer-write/0123456789abcdef", "docker/27", "0123456789abcdef"),
        ("indexer-write/0123456789abcdef", "", "0123456789abcdef"),
        (" indexer-write/0123456789abcdef", "", "0123456789abcdef"),
        ("x" * 100_000 + " indexer-write/0123456789abcdef", "x" * 100_000, "0123456789abcdef"),
        (
            "a indexer-write/00000000 indexer-write/11111111-2222-3333-4444-555555555555",
            "a indexer-write/00000000",
            "11111111-2222-3333-4444-555555555555",
        ),
        ("indexer-write/0123456789abcdef docker", "indexer-write/0123456789abcdef docker", None),
        ("docker indexer-write/short", "docker indexer-write/short", None),
        ("docker", "docker", None),
        ("", "", None),
    ],
)
def test_id__is_what_the_proxy_added_last(sent: str, client: str, number: str | None) -> None:
    """Only the last is the proxy's; what a client wrote before it stays the client's."""
    assert (client, number) == split_write(sent)
