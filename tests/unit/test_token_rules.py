"""A token that guards nothing is refused, and the one line about it shows no token."""

from __future__ import annotations

from pathlib import Path

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
        pytest.param(
            {"INDEXER_OPERATOR_TOKENS": "ann:x"}, "INDEXER_OPERATOR_TOKENS: a token has", id="operator"
        ),
        pytest.param({"INDEXER_IN_USE_TOKENS": "prod:x"}, "INDEXER_IN_USE_TOKENS: a token has", id="in use"),
        pytest.param(
            {"INDEXER_OPERATOR_TOKENS": "ann:second-token"},
            "one secret stands in INDEXER_API_TOKENS and in INDEXER_OPERATOR_TOKENS",
            id="operator, reads",
        ),
        pytest.param(
            {"INDEXER_OPERATOR_TOKENS": "ann:" + "n" * 20},
            "in INDEXER_OPERATOR_TOKENS and in INDEXER_NOTIFICATIONS_TOKEN",
            id="operator, logged",
        ),
        pytest.param(
            {"INDEXER_OPERATOR_TOKENS": "ann:a-secret,bob:a-secret"},
            "one secret stands twice in INDEXER_OPERATOR_TOKENS",
            id="two operators",
        ),
        pytest.param(
            {"INDEXER_OPERATOR_TOKENS": "ann:a-secret", "INDEXER_IN_USE_TOKENS": "prod:a-secret"},
            "one secret stands in INDEXER_OPERATOR_TOKENS and in INDEXER_IN_USE_TOKENS",
            id="operator and source",
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


@pytest.mark.parametrize(
    "wrong", ["secret-without-a-name", ":secret", "ann:", "an n:secret", "ann:sécret", "-a:secret"]
)
@pytest.mark.parametrize("setting", ["INDEXER_OPERATOR_TOKENS", "INDEXER_IN_USE_TOKENS"])
def test_named_tokens__malformed(setting: str, wrong: str) -> None:
    """What is no name:secret is refused, and the sentence does not repeat it."""
    with pytest.raises(ConfigurationError, match=f"^{setting}: ") as refused:
        Settings.read({setting: wrong})
    assert "secret" not in str(refused.value).replace("name:secret", "")
    assert "sécret" not in str(refused.value)


def test_named_tokens__from_a_file(tmp_path: Path) -> None:
    """A file holds the list; a secret may have colons, a name several secrets while one is replaced."""
    file = tmp_path / "tokens"
    file.write_text("ann:first:secret,ann:second-secret,\nbob:third-secret\n")
    settings = Settings.read({"INDEXER_OPERATOR_TOKENS_FILE": str(file)})
    settings.check_tokens()
    assert [("ann", "first:secret"), ("ann", "second-secret"), ("bob", "third-secret")] == [
        (each.name, each.secret.get_secret_value()) for each in settings.indexer_operator_tokens
    ]
    assert "first" not in repr(settings)
    assert not settings.nobody_may_act
    assert not settings.nobody_may_read
