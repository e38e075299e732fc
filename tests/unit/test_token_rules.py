"""A token that guards nothing is refused, and the one line about it shows no token."""

from __future__ import annotations

import pytest

from indexer.common.errors import ConfigurationError
from indexer.common.token_rules import judge_tokens
from indexer.settings import Settings

GOOD = {"INDEXER_NOTIFICATIONS_TOKEN": "n" * 20, "INDEXER_API_TOKENS": "first-token,second-token"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({"INDEXER_API_TOKENS": "x"}, "INDEXER_API_TOKENS: a token has at least", id="short"),
        pytest.param(
            {"INDEXER_API_TOKENS": "long-enough,x"}, "INDEXER_API_TOKENS: a token", id="one of them"
        ),
        pytest.param(
            {"INDEXER_NOTIFICATIONS_TOKEN": "x"}, "INDEXER_NOTIFICATIONS_TOKEN: a token", id="the other"
        ),
        pytest.param({"INDEXER_ACCESS_LOG_TOKEN": "x"}, "INDEXER_ACCESS_LOG_TOKEN: a token", id="the third"),
        pytest.param(
            {"INDEXER_API_TOKENS": "n" * 20}, "the value of INDEXER_NOTIFICATIONS_TOKEN", id="the same"
        ),
        pytest.param(
            {"INDEXER_ACCESS_LOG_TOKEN": "second-token"}, "the value of INDEXER_ACCESS_LOG_TOKEN", id="shared"
        ),
        pytest.param({"INDEXER_PROXY_SECRET": "x"}, "INDEXER_PROXY_SECRET: a token has at least", id="proxy"),
        pytest.param(
            {"INDEXER_PROXY_SECRET": "second-token"}, "the value of INDEXER_PROXY_SECRET", id="proxy, shared"
        ),
        pytest.param(
            {"INDEXER_PROXY_SECRET": "n" * 20}, "NOTIFICATIONS_TOKEN holds the value of", id="proxy, logged"
        ),
    ],
)
def test_tokens__refused(given: dict[str, str], said: str) -> None:
    """Too short for a secret, or known to those whom it must not let in: the setting is named, its value is not."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.read(GOOD | given).check_tokens()
    assert said in str(refused.value)
    assert "n" * 20 not in str(refused.value)
    assert "second-token" not in str(refused.value)


def test_tokens__taken() -> None:
    """Tokens that are long enough and differ are taken, and none need be set."""
    Settings.read(GOOD).check_tokens()
    Settings.read({}).check_tokens()
    assert judge_tokens(notifications=None, api=[]) is None
