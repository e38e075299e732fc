"""How settings are read: what each kind of value may be, and what is said of one that is wrong."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from indexer.common.errors import ConfigurationError
from indexer.common.values import Secret
from indexer.settings import Settings


def test_read__nothing_set() -> None:
    """Without an environment every setting is its default, and the data directory is below where we are."""
    settings = Settings.read({})
    assert Path(".indexer").absolute() == settings.indexer_data_dir
    assert (None, (), 1024**3) == (
        settings.indexer_database_url,
        settings.indexer_api_tokens,
        settings.indexer_spool_bytes,
    )


@pytest.mark.parametrize(
    ("name", "value", "means"),
    [
        ("INDEXER_SPOOL_BYTES", "512MiB", 512 * 1024**2),
        ("INDEXER_SPOOL_BYTES", "17", 17),
        ("INDEXER_INBOX_RETENTION", "1.5h", timedelta(minutes=90)),
        ("INDEXER_PULL_DETAIL", "7d", timedelta(days=7)),
        ("INDEXER_PULL_DETAIL", "all", None),
        ("INDEXER_ANONYMOUS_READ", "True", True),
        ("INDEXER_ANONYMOUS_READ", "off", False),
        ("INDEXER_GITLAB_PULLS", "0", False),
        ("INDEXER_API_TOKENS", " a, b,,", (Secret("a"), Secret("b"))),
        ("INDEXER_ACCESS_LOG", "/var/log/a.log,b.log", (Path("/var/log/a.log"), Path("b.log"))),
        ("INDEXER_AUDIT_KEY_FILE", "keys/log", Path("keys/log").absolute()),
        ("INDEXER_AUDIT_ARCHIVE_DIR", "~/archive", Path.home() / "archive"),
        ("INDEXER_AUTH_REALM", "", None),
        ("INDEXER_API_STREAMS", "0", 0),
        ("INDEXER_LOG_LEVEL", "debug", "debug"),
        ("RECONCILER_CONCURRENCY", " 512 ", 512),
        ("RECONCILER_MAX_RATE", "0.5", 0.5),
        ("RECONCILER_BRAKE_SHARE", "1", 1.0),
        ("RECONCILER_METRICS_LISTEN", "[::1]:9000", "[::1]:9000"),
        ("RECONCILER_REGISTRY_URL", "https://registry:5000/v2/", "https://registry:5000"),
    ],
)
def test_read__environment(name: str, value: str, means: object) -> None:
    """A text of the environment means what it says; an empty one is not set."""
    assert means == getattr(Settings.read({name: value}), name.lower())


@pytest.mark.parametrize(
    ("line", "means"),
    [
        ("INDEXER_SPOOL_BYTES = 17", 17),
        ('INDEXER_SPOOL_BYTES = "1KiB"', 1024),
        ("INDEXER_ANONYMOUS_READ = true", True),
        ('INDEXER_API_TOKENS = ["a", "b,c"]', (Secret("a"), Secret("b,c"))),
        ("RECONCILER_BRAKE_SHARE = 0", 0.0),
        ("RECONCILER_CONCURRENCY = 8", 8),
    ],
)
def test_read__file(tmp_path: Path, line: str, means: object) -> None:
    """A TOML file may use its own numbers, booleans and lists."""
    file = tmp_path / "indexer.toml"
    file.write_text(line)
    assert means == getattr(Settings.read({}, config=file), line.split(" = ", maxsplit=1)[0].lower())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("INDEXER_SPOOL_BYTES", "1 TB", "512MiB"),
        ("INDEXER_SPOOL_BYTES", "-1", "512MiB"),
        ("INDEXER_INBOX_RETENTION", "7", "needs a unit"),
        ("INDEXER_INBOX_RETENTION", "99999999999d", "longer than any duration"),
        ("INDEXER_ANONYMOUS_READ", "maybe", "true or false"),
        ("INDEXER_AUDIT_ORIGIN", "my log", "without white space"),
        ("INDEXER_AUDIT_CHECKPOINT_ENTRIES", "0", "at least 1"),
        ("INDEXER_AUDIT_CHECKPOINT_ENTRIES", "1.5", "a whole number"),
        ("INDEXER_AUDIT_CHECKPOINT_ENTRIES", "\u0661", "a whole number"),
        ("INDEXER_LOG_LEVEL", "loud", "debug, info, warning, error"),
        ("RECONCILER_CONCURRENCY", "513", "at most 512"),
        ("RECONCILER_MAX_RATE", "0", "above 0"),
        ("RECONCILER_MAX_RATE", "inf", "above 0"),
        ("RECONCILER_MAX_RATE", "nan", "above 0"),
        ("RECONCILER_BRAKE_SHARE", "10%", "from 0 to 1"),
        ("RECONCILER_BRAKE_SHARE", "nan", "from 0 to 1"),
        ("INDEXER_GITLAB_URL", "gitlab.example.com", "INDEXER_GITLAB_URL"),
        ("INDEXER_GITLAB_URL", "https://gitlab.example.com", "must be set both"),
    ],
)
def test_read__wrong_text(name: str, value: str, said: str) -> None:
    """What cannot be meant is refused, by the setting's name and with what would be right."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.read({name: value})
    assert name in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("INDEXER_SPOOL_BYTES = true", "a size is"),
        ("INDEXER_SPOOL_BYTES = -1", "a size is"),
        ("INDEXER_ANONYMOUS_READ = 2", "true or false"),
        ("INDEXER_LISTEN = 5005", "a text"),
        ("INDEXER_DATA_DIR = 1", "a text"),
        ("INDEXER_API_TOKENS = 1", "a list"),
        ("INDEXER_API_TOKENS = [1]", "a text"),
        ("INDEXER_LOG_LEVEL = []", "one of"),
        ("INDEXER_AUDIT_CHECK_RATE = true", "a whole number"),
        ("RECONCILER_CONCURRENCY = 1.0", "a whole number"),
        ("RECONCILER_BRAKE_SHARE = true", "from 0 to 1"),
        ("RECONCILER_INTERVAL = 60", "needs a unit"),
    ],
)
def test_read__wrong_kind(tmp_path: Path, line: str, said: str) -> None:
    """A value of a kind that the setting does not have is refused like a wrong text."""
    file = tmp_path / "indexer.toml"
    file.write_text(line)
    with pytest.raises(ConfigurationError, match=rf"^{line.split(' = ', maxsplit=1)[0]}: .*{said}"):
        Settings.read({}, config=file)


@pytest.mark.parametrize(
    "given",
    [
        {"INDEXER_GITLAB_URL": "https://gitlab.example.com", "INDEXER_GITLAB_TOKEN": "hunter2\n"},
        {"INDEXER_GITLAB_TOKEN": "hunter2"},
        {"INDEXER_GITLAB_URL": "https://me:hunter2@gitlab.example.com", "INDEXER_GITLAB_TOKEN": "x"},
        {"RECONCILER_REGISTRY_URL": "https://me:hunter2@registry"},
    ],
)
def test_read__says_no_secret(given: dict[str, str]) -> None:
    """What is said of a wrong setting does not show what may be a secret."""
    with pytest.raises(ConfigurationError) as refused:
        Settings.read(given)
    assert "hunter2" not in str(refused.value)


def test_settings__show_no_secret() -> None:
    """Settings may be shown: their secrets are not."""
    shown = repr(
        Settings.read(
            {"INDEXER_DATABASE_URL": "postgresql://u:hunter2@db/x", "INDEXER_API_TOKENS": "hunter2"}
        )
    )
    assert "indexer_database_url" in shown
    assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("given", "read"),
    [("auto", None), ("true", True), ("false", False), ("", None)],
)
def test_switch_or_auto__of_the_environment(given: str, read: bool | None) -> None:
    """What may be found out is so unless it is said."""
    settings = Settings.read({"RECONCILER_REGISTRY_IS_CACHE": given})
    assert read is settings.reconciler_registry_is_cache


def test_switch_or_auto__of_a_file(tmp_path: Path) -> None:
    """TOML's own words are taken, too; anything else is refused with what would be right."""
    config = tmp_path / "settings.toml"
    config.write_text("RECONCILER_REGISTRY_IS_CACHE = true\n", encoding="utf-8")
    assert Settings.read({}, config=config).reconciler_registry_is_cache is True
    with pytest.raises(ConfigurationError, match="auto, true or false"):
        Settings.read({"RECONCILER_REGISTRY_IS_CACHE": "perhaps"})


def test_secret__may_be_in_a_file(tmp_path: Path) -> None:
    """Every secret, or list of them, may be the content of a file, without the white space around it."""
    (tmp_path / "one").write_text(" s3cret\n")
    (tmp_path / "two").write_text("a, b\n")
    settings = Settings.read(
        {
            "INDEXER_DATABASE_URL_FILE": str(tmp_path / "one"),
            "INDEXER_API_TOKENS_FILE": str(tmp_path / "two"),
            "RECONCILER_REGISTRY_PASSWORD_FILE": str(tmp_path / "one"),
        }
    )
    assert settings.indexer_database_url == Secret("s3cret")
    assert settings.indexer_api_tokens == (Secret("a"), Secret("b"))
    assert settings.reconciler_registry_password == Secret("s3cret")


@pytest.mark.parametrize(
    ("content", "more", "said"),
    [
        (None, {}, "INDEXER_TOKEN_FILE: .*: No such file"),
        (b"\xff", {}, "INDEXER_TOKEN_FILE: .* is not text"),
        (b"a", {"INDEXER_TOKEN": "b"}, "INDEXER_TOKEN and INDEXER_TOKEN_FILE: set one of the two"),
        (b"\n", {}, "INDEXER_TOKEN_FILE: .* is empty"),
        (b"a", {"INDEXER_LISTEN_FILE": "x"}, "unknown setting INDEXER_LISTEN_FILE"),
    ],
)
def test_secret__in_a_file_that_is_wrong(
    content: bytes | None, more: dict[str, str], said: str, tmp_path: Path
) -> None:
    """A file that is missing, empty or no text is an error at start, and only secrets may be in files."""
    if content is not None:
        (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        Settings.read({"INDEXER_TOKEN_FILE": str(tmp_path / "file"), **more})
