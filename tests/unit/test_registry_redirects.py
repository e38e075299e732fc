"""Where a redirect of the registry may lead: never further inside than the registry is itself."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from reconciler.registry.redirects import Reach, may_lead, reach_of

PUBLIC, PRIVATE, LOOPBACK = "93.184.216.34", "10.1.2.3", "127.0.0.1"
METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        (PUBLIC, Reach.PUBLIC),
        ("2606:2800:220:1::1", Reach.PUBLIC),
        (PRIVATE, Reach.PRIVATE),
        ("192.168.0.1", Reach.PRIVATE),
        ("100.64.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE),
        ("::ffff:10.0.0.1", Reach.PRIVATE),
        ("64:ff9b::a00:1", Reach.PRIVATE),
        ("2002:a00:1::1", Reach.PRIVATE),
        (LOOPBACK, Reach.LOOPBACK),
        ("127.8.9.1", Reach.LOOPBACK),
        ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK),
        (METADATA, Reach.LINK_LOCAL),
        ("fe80::1", Reach.LINK_LOCAL),
        ("0.0.0.0", Reach.LINK_LOCAL),  # noqa: S104 - nothing listens
        ("224.0.0.1", Reach.LINK_LOCAL),
    ],
)
def test_reach_of(address: str, reach: Reach) -> None:
    """How far inward each kind of address lies, in either notation."""
    assert reach_of(ip_address(address)) is reach


@pytest.mark.parametrize(
    ("registry", "target", "may"),
    [
        ([PUBLIC], PUBLIC, True),
        ([PUBLIC], PRIVATE, False),
        ([PUBLIC], LOOPBACK, False),
        ([PUBLIC], METADATA, False),
        ([PUBLIC, PRIVATE], PRIVATE, True),
        ([PRIVATE], PUBLIC, True),
        ([PRIVATE], PRIVATE, True),
        ([PRIVATE], LOOPBACK, False),
        ([LOOPBACK], PRIVATE, True),
        ([LOOPBACK], LOOPBACK, True),
        ([LOOPBACK], METADATA, False),
        ([], PRIVATE, False),
        ([], PUBLIC, True),
    ],
)
def test_may_lead(registry: list[str], target: str, may: bool) -> None:
    """A registry leads to addresses like its own and to more public ones."""
    assert may_lead(registry=map(ip_address, registry), target=ip_address(target)) is may
