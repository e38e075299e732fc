"""From settings to an examination: what is missing or wrong is a finding, what is secret stays so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer.common.errors import ConfigurationError
from reconciler.commands.examine import parse_patience, prepare
from reconciler.doctor.settings import DoctorSettings

DATABASE = "postgresql://user:secret-password@127.0.0.1/indexer"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with a database and a registry set, and nothing else of ours."""
    for name in os.environ:
        if name.startswith(("INDEXER_", "RECONCILER_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("INDEXER_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("INDEXER_DATABASE_URL", DATABASE)
    monkeypatch.setenv("RECONCILER_REGISTRY_URL", "http://127.0.0.1:5000")
    return monkeypatch


def prepared(*, probe_repository: str = "probe", indexer_url: str | None = None) -> DoctorSettings:
    return prepare(
        None,
        probe_repository=probe_repository,
        indexer_url=indexer_url,
        read_only=False,
        patience_seconds=1,
    )


def test_prepare__token_of_indexer_up(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a token set, the one that ``indexer up`` made under its data directory is used."""
    (tmp_path / "notifications-token").write_text("made-by-up\n")
    environment.setenv("INDEXER_API_TOKENS", "secret-api-token")
    settings = prepared()
    assert ("made-by-up", (), ()) == (settings.notifications_token, settings.problems, settings.remarks)


def test_prepare__no_token(environment: pytest.MonkeyPatch) -> None:
    """Without any token the examination is shorter, not broken."""
    settings = prepared()
    assert (None, ()) == (settings.notifications_token, settings.problems)
    assert "INDEXER_NOTIFICATIONS_TOKEN" in settings.remarks[0]


def test_prepare__every_problem_is_told(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All that is missing is named at once, and what is there can still be examined."""
    environment.delenv("INDEXER_DATABASE_URL")
    environment.setenv("RECONCILER_REGISTRY_CA_FILE", str(tmp_path / "missing.pem"))
    settings = prepared()
    assert (None, None, "http://127.0.0.1:5005") == (
        settings.database_url,
        settings.registry,
        settings.indexer_url,
    )
    assert ["INDEXER_DATABASE_URL" in settings.problems[0], "missing.pem" in settings.problems[1]] == [
        True
    ] * 2


def test_prepare__unreadable_settings(environment: pytest.MonkeyPatch) -> None:
    """Settings that cannot be read at all are the one finding."""
    environment.setenv("INDEXER_LISTN", "127.0.0.1:1")
    settings = prepared()
    assert 1 == len(settings.problems)
    assert "INDEXER_LISTN" in settings.problems[0]


@pytest.mark.parametrize(
    ("listen", "given", "url"),
    [
        ("0.0.0.0:5005", None, "http://127.0.0.1:5005"),
        ("127.0.0.1:7", None, "http://127.0.0.1:7"),
        ("127.0.0.1:7", "https://indexer.example/", "https://indexer.example"),
    ],
)
def test_prepare__address_of_the_server(
    environment: pytest.MonkeyPatch, listen: str, given: str | None, url: str
) -> None:
    """The server is asked where it listens, or where the operator says that it is reached."""
    environment.setenv("INDEXER_LISTEN", listen)
    assert url == prepared(indexer_url=given).indexer_url


def test_prepare__address_between_containers(environment: pytest.MonkeyPatch) -> None:
    """Where the server is another machine its address can be a setting, and the command line still wins."""
    environment.setenv("INDEXER_LISTEN", "0.0.0.0:5005")
    environment.setenv("RECONCILER_INDEXER_URL", "http://indexer:5005")
    assert "http://indexer:5005" == prepared().indexer_url
    assert "http://elsewhere:1" == prepared(indexer_url="http://elsewhere:1").indexer_url


@pytest.mark.parametrize(
    ("given", "remarked"),
    [
        pytest.param({}, True, id="nobody"),
        pytest.param({"INDEXER_API_TOKENS": "secret-api-token"}, False, id="who has a token"),
        pytest.param({"INDEXER_ANONYMOUS_READ": "true"}, False, id="everybody"),
    ],
)
def test_prepare__who_may_read(
    environment: pytest.MonkeyPatch, given: dict[str, str], remarked: bool
) -> None:
    """An API that nobody may read is no fault, and is said."""
    environment.setenv("INDEXER_NOTIFICATIONS_TOKEN", "secret-token")
    for name, value in given.items():
        environment.setenv(name, value)
    settings = prepared()
    assert () == settings.problems
    assert remarked == any("every question to the API is 401" in each for each in settings.remarks)


def test_prepare__tokens_that_guard_nothing(environment: pytest.MonkeyPatch) -> None:
    """What `indexer serve` would refuse to start with is a finding."""
    environment.setenv("INDEXER_API_TOKENS", "x")
    assert "INDEXER_API_TOKENS: a token has at least" in prepared().problems[0]


def test_prepare__shows_no_secret(environment: pytest.MonkeyPatch) -> None:
    """No password or token is in the representation, which may end in a traceback."""
    environment.setenv("INDEXER_NOTIFICATIONS_TOKEN", "secret-token")
    environment.setenv("INDEXER_API_TOKENS", "secret-api-token")
    environment.setenv("RECONCILER_REGISTRY_USERNAME", "reader")
    environment.setenv("RECONCILER_REGISTRY_PASSWORD", "secret-of-reader")
    settings = prepared()
    assert ("secret-token", "secret-api-token") == (settings.notifications_token, settings.api_token)
    assert "secret" not in repr(settings)


def test_prepare__probe_repository(environment: pytest.MonkeyPatch) -> None:
    """A name that no registry could hold is refused at once."""
    with pytest.raises(ConfigurationError, match="--probe-repository"):
        prepared(probe_repository="Not/A/Name")


def test_patience__needs_a_unit() -> None:
    """``--patience 15`` is refused for what we blame in others."""
    assert 1.5 == parse_patience("1500ms")
    with pytest.raises(ConfigurationError, match="--patience"):
        parse_patience("15")
