"""Our own requests are recognised by their User-Agent, and only ours."""

from __future__ import annotations

import pytest

from indexer.oci.user_agent import USER_AGENT_PRODUCT, is_ours, user_agent


@pytest.mark.parametrize("text", [user_agent("1.2.3"), USER_AGENT_PRODUCT, user_agent("1") + " proxy/2"])
def test_is_ours__our_product_first(text: str) -> None:
    """Any version of ours counts, also with a proxy's product behind it."""
    assert is_ours(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "docker/27",
        f"curl/8 ({USER_AGENT_PRODUCT})",
        f"{USER_AGENT_PRODUCT}-x/1",
        f"x {USER_AGENT_PRODUCT}",
    ],
)
def test_is_ours__others(text: str) -> None:
    """A client that only mentions us is not us."""
    assert not is_ours(text)
