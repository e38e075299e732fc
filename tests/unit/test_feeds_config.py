"""The file of feeds: what is right is read, what is wrong is named."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from indexer.common.errors import ConfigurationError
from indexer.feeds.config import KINDS, Feed, FeedBase, FeedsFile, HttpFeed, TlsFeed
from indexer.feeds.sinks import MODULES, read_feeds

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "reference" / "feeds.md"
HOW_TO = DOCS / "how-to" / "forward-to-a-siem.md"

GOOD = """
source = "https://registry.example.com"
type_prefix = "com.example.registry"

[[feed]]
name = "siem"
kind = "http"
url = "https://siem.example.com/events"
actions = ["tag.moved", "tag.deleted"]
repositories = ["team/"]
sources = ["notification"]
from = 17
batch = 10
batch_bytes = "64KiB"
timeout = "5s"

[[feed]]
name = "archive"
kind = "file"
path = "/var/log/registry-indexer/audit.ndjson"
from = "beginning"
"""


def read(directory: Path, text: str) -> FeedsFile:
    path = directory / "feeds.toml"
    path.write_text(text, encoding="utf-8")
    return FeedsFile.read(path)


def test_file__is_read(tmp_path: Path) -> None:
    """Each table is a feed, with what is not said at its default."""
    file = read(tmp_path, GOOD)
    siem, archive = file.feed
    assert isinstance(siem, HttpFeed)
    assert ("com.example.registry", 16, 0, None) == (
        file.type_prefix, siem.begins_after, archive.begins_after, FeedsFile(feed=()).source
    )  # fmt: skip
    assert (("tag.moved", "tag.deleted"), ("notification",), ("team/",)) == (
        siem.filter.actions, siem.filter.sources, siem.filter.repositories
    )  # fmt: skip
    assert (10, 65536, 5.0) == (siem.batch, siem.batch_bytes, siem.timeout.total_seconds())


def test_source__has_the_names_that_the_audit_filter_has(tmp_path: Path) -> None:
    """`reconcile` and `walk` are one source; what a delivered entry says is `walk`."""
    both = 'sources = ["walk", "reconcile"]'
    (siem, _) = read(tmp_path, GOOD.replace('sources = ["notification"]', both)).feed
    assert ("walk", "walk") == siem.filter.sources
    with pytest.raises(ConfigurationError, match=r"sources\.0"):
        read(tmp_path, GOOD.replace('sources = ["notification"]', 'sources = ["reconciled"]'))


NATS_USER = """
[[feed]]
name = "a"
kind = "nats"
servers = ["nats://b"]
user = "c"
password_file = "/d"
"""
WRONG = [
    ("[[feed]\n", "is not TOML"),
    ("wat = 1\n", "wat: there is no such key"),
    (GOOD + '[[feed]]\nname = "siem"\nkind = "file"\npath = "/a"\n', "feed 'siem': name: there is another"),
    ('[[feed]]\nname = "a"\nkind = "carrier-pigeon"\n', "feed 'a': kind: must be one of http"),
    ('[[feed]]\nname = "a"\n', "feed 'a': kind: must be one of http"),
    ('[[feed]]\nkind = "file"\npath = "/a"\n', "feed number 1: name: Field required"),
    ('[[feed]]\nname = "a"\nkind = "file"\n', "feed 'a': path: Field required"),
    ('[[feed]]\nname = "a"\nkind = "file"\npath = "b"\n', "feed 'a': path: must be absolute"),
    ('[[feed]]\nname = "a"\nkind = "file"\npath = "/b"\nurl = "c"\n', "feed 'a': url: there is no such key"),
    ('[[feed]]\nname = "a"\nkind = "file"\npath = "/b"\nfrom = "then"\n', "feed 'a': from: must be \"now\""),
    ('[[feed]]\nname = "a"\nkind = "file"\npath = "/b"\nfrom = 0\n', "feed 'a': from: must be \"now\""),
    ('[[feed]]\nname = "a"\nkind = "file"\npath = "/b"\nactions = ["tag.x"]\n', "feed 'a': actions.0: "),
    ('[[feed]]\nname = "a"\nkind = "http"\nurl = "ftp://b"\n', "feed 'a': url: must be an http"),
    ('[[feed]]\nname = "a"\nkind = "http"\nurl = "https://u:hush@b"\n', "feed 'a': url: must hold no name"),
    ('[[feed]]\nname = "a"\nkind = "http"\nurl = "https://b"\ntimeout = 5\n', "feed 'a': timeout: a duration"),
    ('[[feed]]\nname = "a"\nkind = "http"\nurl = "https://b"\ntimeout = "1h"\n', "feed 'a': timeout: "),
    ('[[feed]]\nname = "a"\nkind = "nats"\nservers = ["nats://u:hush@b"]\n', "feed 'a': servers.0: "),
    ('[[feed]]\nname = "a"\nkind = "nats"\nservers = ["nats://b"]\nuser = "c"\n', "user and password_file must"),
    (NATS_USER + 'token_file = "/e"\n', "feed 'a': token_file and user cannot be given both"),
    ("feed = 3\n", "feed: "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), WRONG, ids=[said for _, said in WRONG])
def test_file__what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    """The error says which feed and which key, on one line, and nothing secret."""
    with pytest.raises(ConfigurationError) as told:
        read(tmp_path, text)
    assert str(told.value).startswith("INDEXER_FEEDS_FILE: ")
    assert said in str(told.value)
    assert "hush" not in str(told.value)


def test_file__missing_is_an_error(tmp_path: Path) -> None:
    """A file that is named and not there is an error."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_feeds(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("secret_file", None, "cannot be read"),
        ("secret_file", " \n", "is empty"),
        ("secret_file", "whsec_c2hvcnQ=", "whsec_ and the base64"),
        ("secret_file", "plain-secret-of-the-test", "whsec_ and the base64"),
        ("authorization_file", "Bearer a\nBearer b", "one line"),
        ("ca_file", "rubbish", "cannot be used"),
    ],
)
def test_secrets__that_cannot_be_used_are_an_error(
    tmp_path: Path, key: str, content: str | None, said: str
) -> None:
    """A secret's file that is missing or holds nonsense is found at start; what it holds is not shown."""
    if content is not None:
        (tmp_path / "secret").write_text(content, encoding="utf-8")
    path = tmp_path / "feeds.toml"
    path.write_text(
        f'[[feed]]\nname = "a"\nkind = "http"\nurl = "https://b"\n{key} = "{tmp_path}/secret"\n',
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match=f"feed 'a': {key}: .*{said}") as told:
        read_feeds(path)
    assert content is None or content.strip() == "" or content not in str(told.value)


def test_client__that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind whose client is missing says what to install."""
    monkeypatch.setitem(MODULES, "file", "indexer.feeds.nothing_of_this_name")
    path = tmp_path / "feeds.toml"
    path.write_text('[[feed]]\nname = "a"\nkind = "file"\npath = "/b"\n', encoding="utf-8")
    with pytest.raises(
        ConfigurationError, match=r"feed 'a': kind: .*pip install 'registry-indexer\[feeds-file\]'"
    ):
        read_feeds(path)


def section(heading: str) -> str:
    """A section of the page about feeds; the first, without a heading, is about what all have."""
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return next(part for part in parts if part.startswith(heading))


def described(text: str) -> set[str]:
    return set(re.findall(r"^\| ([a-z_]+) \|", text, re.MULTILINE)) - {"key", "answer"}


def test_page__has_an_example_that_is_right() -> None:
    """Every example of the reference and of the how-to is a file that is taken."""
    for page in (PAGE, HOW_TO):
        examples = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        assert examples
        for example in examples:
            assert FeedsFile.model_validate(tomllib.loads(example)).feed


def test_page__describes_every_key() -> None:
    """The tables of the reference are what the file may hold: of all, and of each kind."""
    common = set(FeedBase.model_fields) - {"from_"} | {"from"}
    assert described(section("# Feeds")) == common | (set(FeedsFile.model_fields) - {"feed"})
    network = set(TlsFeed.model_fields) - set(FeedBase.model_fields)
    assert described(section("Over the network")) == network
    for kind, model in models().items():
        above = TlsFeed if issubclass(model, TlsFeed) else FeedBase
        assert described(section(kind)) == set(model.model_fields) - set(above.model_fields)
    assert set(MODULES) == set(KINDS) == set(models())


def models() -> dict[str, type[FeedBase]]:
    """The model of each kind."""
    every = get_args(get_args(Feed)[0])
    return {get_args(model.model_fields["kind"].annotation)[0]: model for model in every}
