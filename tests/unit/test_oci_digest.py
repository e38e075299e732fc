"""Digests, repository names and tags: what parses and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.oci.digest import (
    content_matches,
    digest_from_bytes,
    digest_of,
    digest_to_bytes,
    is_digest,
    parse_digest,
)
from indexer.oci.reference import parse_repository_name, parse_tag_name


@given(st.binary(max_size=64))
def test_digest__packs_and_unpacks(content: bytes) -> None:
    """A digest survives the database's packed form and matches its content."""
    digest = digest_of(content)

    assert digest_from_bytes(digest_to_bytes(digest)) == digest
    assert content_matches(content, digest)
    assert not content_matches(content + b"x", digest)


def test_digest__sha512_packs_into_65_bytes() -> None:
    """The registered second algorithm keeps its own tag byte."""
    digest = parse_digest("sha512:" + "ab" * 64)

    assert len(digest_to_bytes(digest)) == 65
    assert digest_from_bytes(digest_to_bytes(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
    ],
)
def test_parse_digest__refuses(text: str) -> None:
    """Text that names no content a registry could hold is refused."""
    with pytest.raises(ValueError, match="not a sha256"):
        parse_digest(text)
    assert not is_digest(text)


@pytest.mark.parametrize("text", ["a", "debian/12", "a/b/c-d__e.f", "0", "a" * 255])
def test_parse_repository_name__accepts(text: str) -> None:
    """Names within the distribution grammar are taken as they are."""
    assert parse_repository_name(text) == text


@pytest.mark.parametrize("text", ["", "A", "/a", "a/", "a//b", "a/_b", "a" * 256, "a\n", "\u00e9"])
def test_parse_repository_name__refuses(text: str) -> None:
    """Names outside the grammar are refused."""
    with pytest.raises(ValueError, match="not a repository name"):
        parse_repository_name(text)


@pytest.mark.parametrize("text", ["latest", "_x", "1.0-rc.1", "A" * 128])
def test_parse_tag_name__accepts(text: str) -> None:
    """Tags within the grammar are taken as they are."""
    assert parse_tag_name(text) == text


@pytest.mark.parametrize("text", ["", ".a", "-a", "a/b", "A" * 129, "a\n", "sha256:" + "a" * 64])
def test_parse_tag_name__refuses(text: str) -> None:
    """Tags outside the grammar are refused."""
    with pytest.raises(ValueError, match="not a tag"):
        parse_tag_name(text)
