"""What a notice is about, as the registry reads the path; and the id that its event carries."""

from __future__ import annotations

import pytest

from indexer.api.judgement import is_redirected, tags_in_query
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
        ("http://registry.test/v2/team/app/manifests/v1", ("team/app", "v1")),
        ("HTTPS://registry.test:443/v2/app/manifests/v1?x", ("app", "v1")),
        ("http://x?/v2/app/manifests/v1", None),
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


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/v2/team//app/manifests/v1", True),
        ("/v2/team/./app/manifests/v1", True),
        ("/v2/team/%2e%2e/app/manifests/v1", True),
        ("/v2/team/app/manifests/..", True),
        ("//v2/team/app/manifests/v1", True),
        ("http://x//v2/app/manifests/v1", True),
        ("/v2/team%2F%2Fapp/manifests/v1", True),
        ("/v2/team/app/manifests/v1?x=//", False),
        ("/v2/team/app/manifests/v1/", False),
        ("/v2/team/app/manifests/v1", False),
        ("/v2/Team/manifests/v1", False),
    ],
)
def test_path__that_is_not_clean_is_redirected(uri: str, expected: bool) -> None:
    """As Go's router cleans paths; a slash at the end stays."""
    assert expected is is_redirected(uri)


def test_query__may_name_tags() -> None:
    """All of them, unescaped; what no tag can be is none."""
    assert ("v1", "v2") == tags_in_query("/v2/app/manifests/x?tag=v1&a=tag&tag=%762&tag=a%2Fb&tag=&TAG=v3")
