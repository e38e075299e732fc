"""Under which tags clients store a manifest's referrers if a registry has no referrers API.

- The referrers tag schema (OCI distribution spec 1.1): an image index tagged ``<algorithm>-<encoded>`` lists the
  referrers; the encoded part is cut after 64 characters, since a tag has at most 128.
- cosign's own tags: ``sha256-<hex>.sig``, ``.att`` and ``.sbom``, one image each. Their config is an image's, so only
  the tag's name says what they are. The artifact types given here are those that cosign uses when it stores the same
  content by ``subject``.
"""

from __future__ import annotations

from collections.abc import Mapping

from indexer.oci import media_types
from indexer.oci.digest import Digest

LONGEST_ENCODED = 64
LONGEST_TAG = 128

_TYPE_BY_SUFFIX = {
    "sig": media_types.COSIGN_SIGNATURE,
    "att": media_types.COSIGN_ATTESTATION,
    "sbom": media_types.COSIGN_SBOM,
}


def fallback_tag(subject: Digest) -> str:
    """Return the tag of the index that lists the referrers of a manifest."""
    algorithm, _, encoded = subject.partition(":")
    return f"{algorithm}-{encoded[:LONGEST_ENCODED]}"


def cosign_tags(subject: Digest) -> Mapping[str, str]:
    """Return the tags of what cosign attaches to a manifest, with their artifact types; none for sha512."""
    stem = subject.replace(":", "-")
    tags = {f"{stem}.{suffix}": artifact_type for suffix, artifact_type in _TYPE_BY_SUFFIX.items()}
    return {tag: artifact_type for tag, artifact_type in tags.items() if len(tag) <= LONGEST_TAG}
