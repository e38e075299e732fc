"""Which tags look immutable."""

from __future__ import annotations

import pytest

from indexer.inventory.semver import looks_immutable


@pytest.mark.parametrize("tag", ["1.2.3", "v1.2.3", "0.0.0", "1.2.3-rc.1", "v1.2.3-alpine", "1.2.3_build.5"])
def test_looks_immutable__a_full_version(tag: str) -> None:
    """Three numbers, a leading v, a prerelease and build metadata: nobody expects it to move."""
    assert looks_immutable(tag)


@pytest.mark.parametrize(
    "tag",
    ["latest", "1.2", "v1", "1", "1.2.3.4", "01.2.3", "2026.01.15", "1.2.3-", "1.2.3-a..b", "1.2.3\n", ""],
)
def test_looks_immutable__anything_else(tag: str) -> None:
    """Fewer or more numbers, and dates with leading zeros, are no versions by the specification."""
    assert not looks_immutable(tag)
