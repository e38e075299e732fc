"""Every setting of both programs: environment variables, or the same names in a TOML file.

Only the command line reads the environment; a room's constructor takes what it needs. A name that begins like
ours but is not one, a named file that is missing, a duration without a unit: each is an error at start that
says what would be right.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from indexer.errors import ConfigurationError

PREFIXES = ("INDEXER_", "RECONCILER_")
CONFIG_VARIABLE = "INDEXER_CONFIG"

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB)?\Z")
_BYTES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+\Z")
_PORTS = range(65536)


def parse_duration(value: object) -> object:
    """Return ``500ms``, ``30s``, ``15m``, ``24h`` or ``7d`` as a timedelta; a bare number is refused."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration needs a unit, like 500ms, 30s, 15m, 24h or 7d; got {value!r}")
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def parse_list(value: object) -> object:
    """Return a comma-separated text as a tuple; blanks around and empty parts are dropped."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]


def parse_pull_detail(value: object) -> object:
    """Return a duration, or None for ``all``, which is the default."""
    return None if value in (None, "all") else parse_duration(value)


PullDetail = Annotated[timedelta | None, BeforeValidator(parse_pull_detail)]


def parse_size(value: object) -> object:
    """Return ``512MiB``, ``1GiB`` or a plain number of bytes as an int."""
    if isinstance(value, str) and (match := _SIZE.match(value.strip())):
        return int(match[1]) * _BYTES[match[2] or ""]
    if isinstance(value, int):
        return value
    raise ValueError(f"a size is a number of bytes, or like 512MiB or 1GiB; got {value!r}")


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
CommaList = Annotated[tuple[str, ...], BeforeValidator(parse_list)]
PathList = Annotated[tuple[Path, ...], BeforeValidator(parse_list)]
SecretList = Annotated[tuple[SecretStr, ...], BeforeValidator(parse_list)]


def parse_key_name(value: object) -> object:
    """Return a text that may name a key and a log: no white space, no plus (C2SP signed-note)."""
    if not isinstance(value, str) or not _KEY_NAME.match(value):
        raise ValueError(
            "a name without white space, control characters and plus signs, like log.example.com/registry"
        )
    return value


KeyName = Annotated[str, BeforeValidator(parse_key_name)]


class Settings(BaseModel):
    """All settings, by their environment variable in lower case; see docs/reference/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    indexer_database_url: SecretStr | None = None
    """PostgreSQL 15 or newer; it may hold a password. Unset: the embedded one under the data directory."""
    indexer_data_dir: Path = Path(".indexer")
    """Embedded database and generated secrets."""
    indexer_listen: str = "127.0.0.1:5005"
    """Address and port. Loopback, since the registry often runs beside us; opening it is a decision."""
    indexer_notifications_token: SecretStr | None = None
    """What the registry must send as ``Authorization: Bearer``. ``serve`` does not start without."""
    indexer_api_tokens: SecretList = ()
    """Operator tokens: they read everything."""
    indexer_anonymous_read: bool = False
    """Open the read APIs to everyone who can reach the address."""
    indexer_spool_bytes: Size = 1024**3
    """How much may be spooled under the data directory while the database is away; beyond it the registry waits."""
    indexer_auth_issuer: str | None = None
    """Trust the registry's own tokens: its ``auth.token.issuer``. All four of these, or none."""
    indexer_auth_service: str | None = None
    """Its ``auth.token.service``: who tokens are for."""
    indexer_auth_realm: str | None = None
    """Its ``auth.token.realm``: where clients get one; any text."""
    indexer_auth_keys_file: Path | None = None
    """Its ``rootcertbundle`` or ``jwks``, or a PEM public key."""
    indexer_inbox_retention: Duration = timedelta(days=7)
    """How long raw deliveries are kept after they were applied: long enough to prove what was received."""
    indexer_event_retention: Duration = timedelta(days=30)
    """How long event ids are remembered to recognise a redelivery; a registry gives up sooner, by restarting."""
    indexer_tombstone_retention: Duration = timedelta(days=90)
    """How long a deletion can overrule late news of a push."""
    indexer_due_retention: Duration = timedelta(days=30)
    """How long work that fails again and again is tried before it is given up; walks bring back what matters."""
    indexer_pull_detail: PullDetail = None
    """``all``: each pull is an entry of the log at once, and for ever. A duration: pulls are kept beside the log as
    single entries for so long, and then the log takes them in, one entry per client and hour."""
    indexer_audit_key_file: Path | None = None
    """The key that signs the log. Unset: ``audit.key`` under the data directory, made where there is none."""
    indexer_audit_origin: KeyName = "registry-indexer"
    """The log's name in checkpoints, and that of a key that is made; best a host name and path of yours."""
    indexer_audit_checkpoint_interval: Duration = timedelta(minutes=5)
    """How old the newest checkpoint may be while entries wait for the next one."""
    indexer_audit_checkpoint_entries: int = Field(default=10_000, ge=1)
    """How many entries may wait for a checkpoint before it is made without waiting for the interval."""
    indexer_audit_checkpoint_file: Path | None = None
    """Where the newest checkpoint is published, too: a file, replaced as a whole."""
    indexer_audit_check_rate: int = Field(default=1000, ge=0)
    """How many entries a second are compared with the tree, over and over; 0: none are."""
    indexer_access_log: PathList = ()
    """Access logs of the registry, or of the proxy before it: what was denied or failed is entered in the audit log."""
    indexer_access_log_token: SecretStr | None = None
    """What a collector must send to ``/access-log`` as ``Authorization: Bearer``. Unset: there is no such door."""
    indexer_audit_keep: Duration | None = None
    """How long a month of the audit log is kept after it ended; unset: for ever. Set it together with the directory,
    unless what is old is to be dropped without an archive."""
    indexer_audit_archive_dir: Path | None = None
    """Where what leaves the log is archived, compressed NDJSON."""
    indexer_gitlab_url: str | None = None
    """GitLab's base URL: notifications are forwarded there. Needs the token, too."""
    indexer_gitlab_token: SecretStr | None = None
    """GitLab's ``registry.notification_secret``, sent as the whole ``Authorization`` header."""
    indexer_gitlab_ca_file: Path | None = None
    """PEM bundle to trust instead of the usual authorities."""
    indexer_gitlab_pulls: bool = True
    """Forward pulls, too. GitLab takes and ignores them."""
    indexer_gitlab_longest_wait: Duration = timedelta(days=3)
    """How long an event may wait for GitLab before it is dropped."""
    indexer_gitlab_longest_queue: int = Field(default=100_000, ge=1)
    """How many events may wait for GitLab before some are dropped, pulls first."""
    indexer_api_streams: int = Field(default=100, ge=0)
    """Streams and long polls of ``/api/v1/feed`` that may be open at a time."""
    indexer_feeds_file: Path | None = None
    """TOML that says where the audit log is delivered to; see docs/reference/feeds.md."""
    indexer_log_level: Literal["debug", "info", "warning", "error"] = "info"
    indexer_log_format: Literal["auto", "json", "console"] = "auto"
    """``auto``: console on a terminal, JSON elsewhere."""

    reconciler_registry_url: str | None = None
    """Base URL of the registry, as clients reach it, without ``/v2/``."""
    reconciler_registry_username: str | None = None
    reconciler_registry_password: SecretStr | None = None
    reconciler_registry_ca_file: Path | None = None
    """PEM bundle to trust instead of the system's."""
    reconciler_registry_debug_urls: CommaList = ()
    """The instances' debug addresses, for loss accounting."""
    reconciler_interval: Duration = timedelta(hours=1)
    """How long a walk of the whole registry may be old before the next begins."""
    reconciler_concurrency: int = Field(default=32, ge=1, le=512)
    """Requests to the registry at a time. Past 64 a single registry gets slower, not faster (measured)."""
    reconciler_max_rate: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """Requests a second that a walk may send, of each process; unset: as many as are answered."""
    reconciler_brake_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """A walk that would delete more than this share of all tags stops and asks."""
    reconciler_metrics_listen: str | None = None
    """Address and port for the reconciler's own Prometheus metrics; unset: none. The indexer shows every loop too."""
    reconciler_reread_after: Duration = timedelta(hours=24)
    """How old the last reading of a tag's manifest may be before a walk reads it again, not only its link."""
    reconciler_checkpoint_repository: str | None = None
    """Where the log's checkpoints are pushed to in the registry; unset: nowhere. The user needs pull and push there."""
    reconciler_checkpoint_interval: Duration = timedelta(hours=1)
    """How long from one such push, or a look at what was pushed, to the next."""

    @field_validator("indexer_listen", "reconciler_metrics_listen")
    @classmethod
    def _listen_is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            parse_address(value)
        return value

    @field_validator("reconciler_registry_url")
    @classmethod
    def _registry_is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {value!r}")
        if parts.username or parts.password:
            raise ValueError(
                "put credentials into RECONCILER_REGISTRY_USERNAME and _PASSWORD, not into the URL"
            )
        return value.rstrip("/").removesuffix("/v2")

    @field_validator("indexer_gitlab_url")
    @classmethod
    def _gitlab_is_a_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("not an http or https URL like https://gitlab.example.com")
        if parts.username or parts.password:
            raise ValueError("put the secret into INDEXER_GITLAB_TOKEN, not into the URL")
        return value.rstrip("/")

    @field_validator("indexer_gitlab_token")
    @classmethod
    def _gitlab_token_is_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not (
            value.get_secret_value().isascii() and value.get_secret_value().isprintable()
        ):
            raise ValueError("must be printable ASCII, since it is sent as a header")
        return value

    @model_validator(mode="after")
    def _gitlab_is_whole(self) -> Self:
        if (self.indexer_gitlab_url is None) != (self.indexer_gitlab_token is None):
            raise ValueError("INDEXER_GITLAB_URL and INDEXER_GITLAB_TOKEN must be set both, or neither")
        return self

    @field_validator(
        "indexer_data_dir",
        "indexer_audit_archive_dir",
        "indexer_audit_checkpoint_file",
        "indexer_audit_key_file",
    )
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @model_validator(mode="after")
    def _trust_is_whole(self) -> Self:
        trust = {
            name: getattr(self, name) for name in type(self).model_fields if name.startswith("indexer_auth_")
        }
        missing = [name.upper() for name, value in trust.items() if value is None]
        if missing and len(missing) < len(trust):
            raise ValueError(
                f"{' and '.join(missing)} must be set too: trust in the registry's tokens takes all of "
                f"{', '.join(name.upper() for name in trust)}, or none"
            )
        return self

    @classmethod
    def read(cls, environ: Mapping[str, str], *, config: Path | None = None) -> Self:
        """Return the settings of an environment and, below it, of a TOML file.

        ``config`` is ``--config``; else ``INDEXER_CONFIG`` names the file. Raises ``ConfigurationError``.
        """
        named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
        values = {} if named is None else _read_file(named)
        values |= {
            name: value
            for name, value in environ.items()
            if name.startswith(PREFIXES) and name != CONFIG_VARIABLE and value != ""
        }
        _refuse_unknown(values, cls.model_fields.keys())
        try:
            return cls.model_validate({name.lower(): value for name, value in values.items()})
        except ValidationError as error:
            raise ConfigurationError(_first_problem(error)) from None


def parse_address(text: str) -> tuple[str, int]:
    """Return ``host:port`` or ``[v6]:port`` as host and port; raise ``ValueError``."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise ValueError(f"not an address like 127.0.0.1:5005: {text!r}")
    return host, int(port)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None


def _refuse_unknown(values: Mapping[str, Any], fields: Any) -> None:
    known = [field.upper() for field in fields]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"unknown setting {name}{hint}")


def _first_problem(error: ValidationError) -> str:
    """Say the first problem without the value where it may be a secret."""
    problem = error.errors(include_input=False, include_url=False)[0]
    name = str(problem["loc"][0]).upper() if problem["loc"] else "settings"
    return f"{name}: {problem['msg'].removeprefix('Value error, ')}"
