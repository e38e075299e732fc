"""Tags under which referrers are filed, and which paths of /v2 are ours."""

from __future__ import annotations

import pytest

from indexer.api.oci.paths import OciEndpoint, OciPath, read_path
from indexer.oci.digest import Digest
from indexer.oci.referrers import cosign_tags, fallback_tag

SHORT, LONG = Digest(f"sha256:{'a' * 64}"), Digest(f"sha512:{'b' * 128}")


def test_tags__of_a_sha256_digest() -> None:
    """The schema's tag and cosign's three carry the whole digest."""
    assert fallback_tag(SHORT) == f"sha256-{'a' * 64}"
    assert cosign_tags(SHORT) == {
        f"sha256-{'a' * 64}.{suffix}": f"application/vnd.dev.cosign.artifact.{suffix}.v1+json"
        for suffix in ("sig", "att", "sbom")
    }


def test_tags__of_a_sha512_digest() -> None:
    """The schema cuts the digest after 64 characters; cosign's tags would be longer than a tag may be."""
    assert fallback_tag(LONG) == f"sha512-{'b' * 64}"
    assert cosign_tags(LONG) == {}


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/v2/app/tags/list", OciPath(OciEndpoint.TAGS, "app")),
        ("/v2/tags/list/tags/list", OciPath(OciEndpoint.TAGS, "tags/list")),
        ("/v2/a/b/referrers/sha256:x", OciPath(OciEndpoint.REFERRERS, "a/b", "sha256:x")),
        ("/v2/a/referrers/referrers/x", OciPath(OciEndpoint.REFERRERS, "a/referrers", "x")),
        ("/v2/a/referrers/", None),
        ("/v2/tags/list", None),
        ("/v2/referrers/sha256:x", None),
        ("/v2/a/manifests/latest", None),
        ("/v2/", None),
    ],
)
def test_path__read_from_the_right(path: str, named: OciPath | None) -> None:
    """A repository's name may hold the very words that end a path."""
    assert named == read_path(path)
