"""The file that says which feeds there are (``INDEXER_FEEDS_FILE``): TOML, one ``[[feed]]`` each.

Everything is checked at start. A file that is wrong in anything is an error that names the feed and the key; no
secret stands in it, only the paths of files that hold one.
"""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from indexer.common.errors import ConfigurationError
from indexer.common.values import parse_address, parse_duration, parse_size
from indexer.inventory.changes import OTHER_SOURCE_NAMES, AuditAction, AuditSource
from indexer.store.listing.feeds import FeedFilter

KINDS = ("http", "file", "syslog", "nats", "kafka")

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Size = Annotated[int, BeforeValidator(parse_size)]
Position = Annotated[int, Field(ge=1, strict=True)]
LONGEST_TIMEOUT = timedelta(seconds=20)
"""Shorter than the lease: no other process delivers while an answer is waited for."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _source(name: object) -> object:
    return OTHER_SOURCE_NAMES.get(name, name) if isinstance(name, str) else name


class FeedBase(_Table):
    """What every feed has."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")
    """Also the label of its metrics, and what its place in the log is kept under."""
    kind: str
    actions: tuple[AuditAction, ...] = ()
    repositories: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = ()
    """Prefixes of names."""
    sources: tuple[Annotated[AuditSource, BeforeValidator(_source)], ...] = ()
    from_: Literal["now", "beginning"] | Position = Field(default="now", alias="from")
    """Where it begins the first time it is seen; a position is that of the first entry."""
    batch: int = Field(default=100, ge=1, le=1000)
    """Entries that are delivered together, at most."""
    batch_bytes: Size = Field(default=1024**2, ge=1)

    @property
    def filter(self) -> FeedFilter:
        """Return which entries it delivers."""
        return FeedFilter(
            actions=tuple(self.actions), sources=tuple(self.sources), repositories=self.repositories
        )

    @property
    def begins_after(self) -> int | None:
        """Return the position it begins behind; None: the newest there is."""
        match self.from_:
            case "now":
                return None
            case "beginning":
                return 0
            case position:
                return position - 1


class TlsFeed(FeedBase):
    """What a feed may say of TLS; see ``feeds.tls``."""

    ca_file: Path | None = None
    """PEM certificates to trust instead of the usual authorities."""
    certificate_file: Path | None = None
    """Our own, PEM, where the sink asks for one."""
    key_file: Path | None = None
    """Its key, unencrypted; unset: it is in the certificate's file."""
    timeout: Duration = Field(default=timedelta(seconds=10), gt=timedelta(0), le=LONGEST_TIMEOUT)
    """For a whole delivery."""

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> Self:
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file needs certificate_file")
        return self


class HttpFeed(TlsFeed):
    """A POST per batch."""

    kind: Literal["http"]
    url: str
    format: Literal["cloudevents-batch", "cloudevents", "ndjson", "splunk"] = "cloudevents-batch"
    secret_file: Path | None = None
    """Standard Webhooks secrets, one a line: each signs, so that the receiver can change from one to the next."""
    authorization_file: Path | None = None
    """The whole ``Authorization`` header."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        if parts.username is not None or parts.password is not None:
            raise ValueError("must hold no name and no password; put the header into authorization_file")
        return value


class FileFeed(FeedBase):
    """NDJSON in a file that is rotated."""

    kind: Literal["file"]
    path: Path
    rotate_bytes: Size = Field(default=128 * 1024**2, ge=1)
    keep: int | None = Field(default=None, ge=1)
    """Rotated files that are kept; unset: all."""

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        if not value.is_absolute():
            raise ValueError("must be absolute")
        return value


class SyslogFeed(TlsFeed):
    """RFC 5424 messages over TLS or TCP."""

    kind: Literal["syslog"]
    address: str
    transport: Literal["tls", "tcp"] = "tls"
    facility: int = Field(default=13, ge=0, le=23)
    """13 is "log audit" (RFC 5424 section 6.2.1)."""
    app_name: str = Field(default="registry-indexer", pattern=r"^[!-~]{1,48}$")

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        parse_address(value)
        return value


class NatsFeed(TlsFeed):
    """Messages of a NATS JetStream stream."""

    kind: Literal["nats"]
    servers: tuple[Annotated[str, Field(pattern=r"^(nats|tls)://[^@/]+$")], ...] = Field(min_length=1)
    subject: str = Field(default="registry.audit", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$")
    """The action follows it."""
    token_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _user_is_whole(self) -> Self:
        _require_both(self.user, self.password_file)
        if self.token_file is not None and self.user is not None:
            raise ValueError("token_file and user cannot be given both")
        return self


class KafkaFeed(TlsFeed):
    """Records of a Kafka topic."""

    kind: Literal["kafka"]
    servers: tuple[str, ...] = Field(min_length=1)
    topic: str = Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")
    transport: Literal["tls", "tcp"] = "tls"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    user: str | None = None
    password_file: Path | None = None

    @field_validator("servers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            parse_address(server)
        return value

    @model_validator(mode="after")
    def _user_is_whole(self) -> Self:
        _require_both(self.user, self.password_file)
        return self


def _require_both(user: str | None, password_file: Path | None) -> None:
    if (user is None) != (password_file is None):
        raise ValueError("user and password_file must be given both, or neither")


Feed = Annotated[HttpFeed | FileFeed | SyslogFeed | NatsFeed | KafkaFeed, Field(discriminator="kind")]


class FeedsFile(_Table):
    """The whole file."""

    source: str | None = Field(default=None, min_length=1, max_length=1024)
    """The ``source`` of every event, a URI reference; unset: the URN of the log."""
    type_prefix: str = Field(
        default="registry-indexer", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
    )
    """What the ``type`` of every event begins with: a domain of yours, reversed."""
    feed: tuple[Feed, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return what a file says; raise ``ConfigurationError`` that names the feed and the key."""
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise _wrong(f"{path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise _wrong(f"{path} is not TOML: {error}") from None
        try:
            read = cls.model_validate(found)
        except ValidationError as error:
            raise _wrong(_first_problem(error, found)) from None
        names = [feed.name for feed in read.feed]
        for name in names:
            if names.count(name) > 1:
                raise _wrong(f"feed {name!r}: name: there is another feed of this name")
        return read


def read_secret(path: Path, *, feed: str, key: str) -> str:
    """Return what a file of a secret holds, without the blanks around; raise ``ConfigurationError``."""
    try:
        secret = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _wrong(f"feed {feed!r}: {key}: {path} cannot be read: {reason}") from None
    if not secret:
        raise _wrong(f"feed {feed!r}: {key}: {path} is empty")
    return secret


def wrong_key(feed: str, key: str, reason: str) -> ConfigurationError:
    """Make the error for a key whose value cannot be used."""
    return _wrong(f"feed {feed!r}: {key}: {reason}")


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(f"INDEXER_FEEDS_FILE: {message}")


def _first_problem(error: ValidationError, found: dict[str, Any]) -> str:
    """Say the first problem, where it is and what would be right."""
    problem = error.errors(include_input=False, include_url=False)[0]
    place = [str(part) for part in problem["loc"]]
    where = ""
    if len(place) > 1 and place[0] == "feed":
        where = f"feed {_name_of(found['feed'], int(place[1]))}: "
        place = [part for part in place[2:] if part not in KINDS]
        if problem["type"].startswith("union_tag"):
            return f"{where}kind: must be one of {', '.join(KINDS)}"
    place = [part for part in place if part not in ("literal['now','beginning']", "constrained-int")]
    if place == ["from"]:
        return f'{where}from: must be "now", "beginning" or the position of an entry'
    if problem["type"] == "extra_forbidden":
        return f"{where}{place[-1]}: there is no such key"
    key = f"{'.'.join(place)}: " if place else ""
    return f"{where}{key}{problem['msg'].removeprefix('Value error, ')}"


def _name_of(feeds: Any, number: int) -> str:
    table = feeds[number] if isinstance(feeds, list) else {}
    name = table.get("name") if isinstance(table, dict) else None
    return repr(name) if isinstance(name, str) else f"number {number + 1}"
