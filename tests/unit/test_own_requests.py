"""A request is our own by a value that nobody else can make, and that is good for that request alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.inventory.own_requests import WINDOW, Claim, key_of, signed, split_claim, weigh_claim
from indexer.oci.user_agent import user_agent

KEY = key_of(b"secret")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATH = "/v2/team/app/manifests/v1"
SECOND = timedelta(seconds=1)


def value(*, key: bytes = KEY, method: str = "GET", path: str = PATH) -> str:
    return f"{user_agent('1')} {signed(key, at=NOW, nonce=b'n' * 16, method=method, path=path)}"


@pytest.mark.parametrize(
    ("claimed", "after", "expected"),
    [
        (value(), 0 * SECOND, Claim.OWN),
        (value(method="get"), SECOND, Claim.OWN),
        (value() + " proxy/2", SECOND, Claim.OWN),
        (value(), WINDOW, Claim.OWN),
        (value(), -WINDOW, Claim.OWN),
        (value(), WINDOW + SECOND, Claim.OUTDATED),
        (value(), -WINDOW - SECOND, Claim.OUTDATED),
        (value(key=key_of(b"another")), SECOND, Claim.FORGED),
        (value(key=b""), SECOND, Claim.FORGED),
        (value(method="HEAD"), SECOND, Claim.FORGED),
        (value(path="/v2/team/app/manifests/v2"), SECOND, Claim.FORGED),
        (value().replace("6e", "6f", 1), SECOND, Claim.FORGED),
        (value().replace("(request ", "(request f"), SECOND, Claim.FORGED),  # another instant
        (value()[:-2] + ")", SECOND, Claim.UNSIGNED),
        (user_agent("9"), SECOND, Claim.UNSIGNED),
        (f"{user_agent('9')} (request)", SECOND, Claim.UNSIGNED),
        ("docker/27", SECOND, None),
        (f"docker/27 {value()}", SECOND, None),
        ("", SECOND, None),
    ],
)
def test_claim__of_a_user_agent(claimed: str, after: timedelta, expected: Claim | None) -> None:
    """Only what was signed for this request, a moment ago, is ours."""
    _, text = split_claim(claimed)
    found = None if text is None else weigh_claim(text, key=KEY, method="GET", path=PATH, at=NOW + after)
    assert expected is found


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (value(), user_agent("1")),
        (value() + " proxy/2", user_agent("1") + " proxy/2"),
        ("docker/27 (request 1)", "docker/27 (request 1)"),
        (user_agent("1"), user_agent("1")),
    ],
)
def test_split__no_value_is_kept(said: str, kept: str) -> None:
    """What is recorded of a client has no value in it: each would be another client."""
    assert kept == split_claim(said)[0]
