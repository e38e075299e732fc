"""Every setting of both programs: environment variables, or the same names in a TOML file.

Only the command line reads the environment; a room's constructor takes what it needs. A name that begins like
ours but is not one, a named file that is missing, a duration without a unit: each is an error at start that
says what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from indexer.common.errors import ConfigurationError
from indexer.common.values import (
    NamedSecret,
    Secret,
    absolute_path,
    address,
    base_url,
    gitlab_url,
    header,
    host_of_registry,
    http_url,
    list_of,
    named_secret,
    one_of,
    parse_check_interval,
    parse_duration,
    parse_key_name,
    parse_lease,
    parse_pull_detail,
    parse_size,
    path,
    rate,
    secret,
    share,
    storage_url,
    switch,
    switch_or_auto,
    text,
    whole_number,
)

PREFIXES = ("INDEXER_", "RECONCILER_")
CONFIG_VARIABLE = "INDEXER_CONFIG"
OF_FILE = "_FILE"
"""Ends the name of a setting that names the file with a secret."""

T = TypeVar("T")


def setting(read: Callable[[object], T], default: T) -> T:
    """Declare a setting: what reads its value, and what it is where none is set."""
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings, by their environment variable in lower case; see docs/reference/settings.md."""

    indexer_database_url: Secret | None = setting(secret, None)
    """PostgreSQL 15 or newer; it may hold a password. Unset: the embedded one under the data directory."""
    indexer_data_dir: Path = setting(absolute_path, Path(".indexer"))
    """Embedded database and generated secrets."""
    indexer_listen: str = setting(address, "127.0.0.1:5005")
    """Address and port. Loopback, since the registry often runs beside us; opening it is a decision."""
    indexer_connections: int = setting(whole_number(at_least=16), 4096)
    """Connections of clients at a time; a new one beyond it takes the place of one that does nothing."""
    indexer_notifications_token: Secret | None = setting(secret, None)
    """What the registry must send as ``Authorization: Bearer``. ``serve`` does not start without."""
    indexer_api_tokens: tuple[Secret, ...] = setting(list_of(secret), ())
    """Read tokens: they read everything, and change nothing."""
    indexer_operator_tokens: tuple[NamedSecret, ...] = setting(list_of(named_secret), ())
    """``name:secret``: they read everything and may ask for jobs; the name is the actor in the audit log."""
    indexer_in_use_tokens: tuple[NamedSecret, ...] = setting(list_of(named_secret), ())
    """``source:secret``: each may report what its source runs, and do nothing else."""
    indexer_proxy_secret: Secret | None = setting(header, None)
    """What the proxy in front of the registry sends as ``X-Indexer-Proxy``: it asked the registry whether the client
    may read the repository."""
    indexer_proxy_secret_file: Path | None = setting(path, None)
    """A file that holds it, instead."""
    indexer_url: str | None = setting(base_url, None)
    """Where the verbs that ask (``indexer tags`` and others) find a running server; unset: they read the database."""
    indexer_token: Secret | None = setting(header, None)
    """What they send there as ``Authorization: Bearer``; unset: the first of ``INDEXER_API_TOKENS``."""
    indexer_anonymous_read: bool = setting(switch, default=False)
    """Open the read APIs to everyone who can reach the address."""
    indexer_spool_bytes: int = setting(parse_size, 1024**3)
    """Bytes of deliveries kept on disk, under the data directory, while the database is away. Beyond it deliveries
    get 503, and the registry sends them again."""
    indexer_auth_issuer: str | None = setting(text, None)
    """Trust the registry's own tokens: its ``auth.token.issuer``. All four of these, or none."""
    indexer_auth_service: str | None = setting(text, None)
    """Its ``auth.token.service``: who tokens are for."""
    indexer_auth_realm: str | None = setting(text, None)
    """Its ``auth.token.realm``: where clients get one; any text."""
    indexer_auth_keys_file: Path | None = setting(path, None)
    """Its ``rootcertbundle`` or ``jwks``, or a PEM public key."""
    indexer_sign_in_ca_file: Path | None = setting(path, None)
    """PEM bundle to trust instead of the usual authorities, when the realm is asked to sign somebody in."""
    indexer_registry_host: str | None = setting(host_of_registry, None)
    """Host and port that clients pull from, for the commands that the console shows."""
    indexer_inbox_retention: timedelta = setting(parse_duration, timedelta(minutes=5))
    """How long raw deliveries are kept after they were applied: until ``doctor`` has found its canary.

    After that they prove nothing that is not proved elsewhere (docs/adr/0077)."""
    indexer_event_retention: timedelta = setting(parse_duration, timedelta(days=30))
    """How long event ids are remembered to recognise a redelivery; a registry gives up sooner, by restarting."""
    indexer_tombstone_retention: timedelta = setting(parse_duration, timedelta(days=90))
    """How long a deletion is remembered, so that a late event of an earlier push does not bring the tag back."""
    indexer_work_retention: timedelta = setting(parse_duration, timedelta(days=30))
    """How long a work item that keeps failing is tried before it is dropped. The next full reconcile adds it again if
    it matters."""
    indexer_job_retention: timedelta = setting(parse_duration, timedelta(days=90))
    """How long a job stays on record after it ended. The audit log keeps that it was asked for, and how it ended."""
    indexer_pull_detail: timedelta | None = setting(parse_pull_detail, None)
    """``all``: each pull is an entry of the log at once, and for ever. A duration: pulls are kept beside the log as
    single entries for so long, and then the log takes them in, one entry per client and hour."""
    indexer_audit_key_file: Path | None = setting(absolute_path, None)
    """The key that signs the log. Unset: ``audit.key`` under the data directory, made where there is none."""
    indexer_audit_origin: str = setting(parse_key_name, "registry-indexer")
    """The log's name in checkpoints, and that of a key that is made; best a host name and path of yours."""
    indexer_audit_checkpoint_interval: timedelta = setting(parse_duration, timedelta(minutes=5))
    """How old the newest checkpoint may be while entries wait for the next one."""
    indexer_audit_checkpoint_entries: int = setting(whole_number(at_least=1), 10_000)
    """How many entries may wait for a checkpoint before it is made without waiting for the interval."""
    indexer_audit_checkpoint_file: Path | None = setting(absolute_path, None)
    """Where the newest checkpoint is published, too: a file, replaced as a whole."""
    indexer_audit_check_rate: int = setting(whole_number(at_least=0), 1000)
    """Entries a second that are compared with the tree, from the first to the last and again; 0: none."""
    indexer_access_log: tuple[Path, ...] = setting(list_of(path), ())
    """Access logs of the registry, or of the proxy in front of it. Requests that were denied or failed go into the
    audit log."""
    indexer_access_log_token: Secret | None = setting(secret, None)
    """What a collector must send to ``/access-log`` as ``Authorization: Bearer``. Unset: there is no such endpoint."""
    indexer_audit_keep: timedelta | None = setting(parse_duration, None)
    """How long a month of the audit log is kept after it ended; unset: for ever. Without
    ``INDEXER_AUDIT_ARCHIVE_DIR`` an old month is deleted without an archive."""
    indexer_audit_archive_dir: Path | None = setting(absolute_path, None)
    """Directory for months that leave the log: compressed NDJSON, with the proof of each beside it."""
    indexer_gitlab_url: str | None = setting(gitlab_url, None)
    """GitLab's base URL: notifications are forwarded there. Needs the token, too."""
    indexer_gitlab_token: Secret | None = setting(header, None)
    """GitLab's ``registry.notification_secret``, sent as the whole ``Authorization`` header."""
    indexer_gitlab_ca_file: Path | None = setting(path, None)
    """PEM bundle to trust instead of the usual authorities."""
    indexer_gitlab_pulls: bool = setting(switch, default=True)
    """Forward pulls, too. GitLab takes and ignores them."""
    indexer_gitlab_longest_wait: timedelta = setting(parse_duration, timedelta(days=3))
    """How long an event may wait for GitLab before it is dropped."""
    indexer_gitlab_longest_queue: int = setting(whole_number(at_least=1), 100_000)
    """How many events may wait for GitLab before some are dropped, pulls first."""
    indexer_api_streams: int = setting(whole_number(at_least=0), 100)
    """Streams and long polls of ``/api/v1/feed`` that may be open at a time."""
    indexer_feeds_file: Path | None = setting(path, None)
    """TOML file that lists the feeds: receivers of the audit log. See docs/reference/feeds.md."""
    indexer_policies_file: Path | None = setting(absolute_path, None)
    """YAML file of policies (docs/reference/policies.md). Read by both programs at start and again within 10 seconds of
    a change. Unset: no policy is in force."""
    indexer_log_level: str = setting(one_of("debug", "info", "warning", "error"), "info")
    indexer_log_format: str = setting(one_of("auto", "json", "console"), "auto")
    """``auto``: console on a terminal, JSON elsewhere."""

    reconciler_registry_url: str | None = setting(base_url, None)
    """Base URL of the registry, as clients reach it, without ``/v2/``."""
    reconciler_registry_username: str | None = setting(text, None)
    reconciler_registry_password: Secret | None = setting(secret, None)
    reconciler_registry_ca_file: Path | None = setting(path, None)
    """PEM bundle to trust instead of the system's."""
    reconciler_registry_token_realm: str | None = setting(http_url, None)
    """The registry's token server, its ``auth.token.realm``. Needed where the registry is plain HTTP over a network and
    the token server is another host: the password goes nowhere else."""
    reconciler_registry_token_service: str | None = setting(text, None)
    """Its ``auth.token.service``; unset: what the registry names first, as long as the process lives."""
    reconciler_registry_redirect_hosts: tuple[str, ...] = setting(list_of(text), ())
    """Hosts of the storage that the registry may redirect to though they lie further inside than itself."""
    reconciler_registry_is_cache: bool | None = setting(switch_or_auto, None)
    """Whether the registry is a pull-through cache; ``auto``, as if unset: it is asked."""
    reconciler_indexer_url: str | None = setting(base_url, None)
    """Where ``doctor`` reaches ``indexer serve``, if not at ``INDEXER_LISTEN`` of its own machine."""
    reconciler_registry_debug_urls: tuple[str, ...] = setting(list_of(text), ())
    """The instances' debug addresses, for loss accounting."""
    reconciler_interval: timedelta = setting(parse_duration, timedelta(hours=1))
    """Time from the start of one full reconcile to the start of the next."""
    reconciler_concurrency: int = setting(whole_number(at_least=1, at_most=512), 32)
    """Requests to the registry at a time. Past 64 a single registry gets slower, not faster (measured)."""
    reconciler_max_rate: float | None = setting(rate, None)
    """Requests a second that one process may send during a reconcile; unset: no limit but the registry's answers."""
    reconciler_brake_share: float = setting(share, 0.1)
    """The brake: a full reconcile that would delete more than this share of all tags deletes none, and exits with 3."""
    reconciler_accept_denied: tuple[str, ...] = setting(list_of(text), ())
    """Patterns of repositories that the registry may deny to the reconciler (``old/*``), and ``_catalog``: a
    reconcile counts as complete without them."""
    reconciler_metrics_listen: str | None = setting(address, None)
    """Address and port for the reconciler's own Prometheus metrics; unset: none. The indexer shows every loop too."""
    reconciler_reread_after: timedelta = setting(parse_duration, timedelta(hours=24))
    """How long ago a tag's manifest may have been read before a full reconcile reads it again. In between only the
    digest that the tag points to is compared."""
    reconciler_hidden_tag_requests: int = setting(whole_number(at_least=0), 10_000)
    """Requests that each process may spend in one reconcile on tags that the registry leaves out of its own list; 0:
    none."""
    reconciler_job_lease: timedelta = setting(parse_lease, timedelta(seconds=30))
    """How long a job stays with a process that was killed or does not reach the database; then another goes on."""
    reconciler_storage_url: str | None = setting(storage_url, None)
    """Where the registry's storage lies: ``file:///…``, ``s3://bucket/prefix``, ``gs://…`` or ``az://…``."""
    reconciler_registry_config: Path | None = setting(path, None)
    """The registry's own config.yml, which says the same; ``REGISTRY_STORAGE…`` variables override it, as there."""
    reconciler_storage_check_interval: timedelta | None = setting(parse_check_interval, None)
    """How often `reconciler run` has the storage checked by itself, like ``1d``; unset: never."""
    reconciler_checkpoint_repository: str | None = setting(text, None)
    """Where the log's checkpoints are pushed to in the registry; unset: nowhere. The user needs pull and push there."""
    reconciler_checkpoint_interval: timedelta = setting(parse_duration, timedelta(hours=1))
    """How often a checkpoint is pushed, and the pushed one is compared with the log."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` where settings that go together do not stand together."""
        if (self.indexer_gitlab_url is None) != (self.indexer_gitlab_token is None):
            raise ValueError("INDEXER_GITLAB_URL and INDEXER_GITLAB_TOKEN must be set both, or neither")
        if self.indexer_proxy_secret is not None and self.indexer_proxy_secret_file is not None:
            raise ValueError("INDEXER_PROXY_SECRET and INDEXER_PROXY_SECRET_FILE: set one of the two")
        if self.reconciler_storage_url is not None and self.reconciler_registry_config is not None:
            raise ValueError("RECONCILER_STORAGE_URL and RECONCILER_REGISTRY_CONFIG: set one of the two")
        named = self.reconciler_storage_url is not None or self.reconciler_registry_config is not None
        if self.reconciler_storage_check_interval is not None and not named:
            raise ValueError(
                "RECONCILER_STORAGE_CHECK_INTERVAL: set RECONCILER_STORAGE_URL or RECONCILER_REGISTRY_CONFIG, too"
            )
        trust = [one.name for one in fields(self) if one.name.startswith("indexer_auth_")]
        missing = [name.upper() for name in trust if getattr(self, name) is None]
        if missing and len(missing) < len(trust):
            raise ValueError(
                f"{' and '.join(missing)} must be set too: trust in the registry's tokens takes all of "
                f"{', '.join(name.upper() for name in trust)}, or none"
            )

    def check_tokens(self) -> None:
        """Raise ``ConfigurationError`` where a token guards nothing; whoever serves asks before it does."""
        from indexer.common.token_rules import judge_tokens  # noqa: PLC0415 - most commands serve nothing

        notifications, access_log = self.indexer_notifications_token, self.indexer_access_log_token
        proxy = self.proxy_secret()
        why = judge_tokens(
            notifications=None if notifications is None else notifications.get_secret_value(),
            api=[token.get_secret_value() for token in self.indexer_api_tokens],
            access_log=None if access_log is None else access_log.get_secret_value(),
            proxy=None if proxy is None else proxy.get_secret_value(),
            operator=[each.secret.get_secret_value() for each in self.indexer_operator_tokens],
            in_use=[each.secret.get_secret_value() for each in self.indexer_in_use_tokens],
        )
        if why is not None:
            raise ConfigurationError(why)

    def proxy_secret(self) -> Secret | None:
        """Return the proxy's secret, None: none is set; raise ``ConfigurationError`` for a file without one."""
        file = self.indexer_proxy_secret_file
        if file is None:
            return self.indexer_proxy_secret
        try:
            written = file.read_text("utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                f"INDEXER_PROXY_SECRET_FILE: {file} cannot be read: {error.strerror}"
            ) from None
        except ValueError:
            raise ConfigurationError(f"INDEXER_PROXY_SECRET_FILE: {file} is not text") from None
        try:
            return header(written)
        except ValueError as error:
            raise ConfigurationError(f"INDEXER_PROXY_SECRET_FILE: {file}: {error}") from None

    @property
    def nobody_may_act(self) -> bool:
        """True where nobody may ask for anything that changes the registry."""
        return not (self.indexer_operator_tokens or self.indexer_auth_issuer)

    @property
    def proxy_secret_missing(self) -> bool:
        """True where no proxy can prove itself, and give notice of writes."""
        return self.indexer_proxy_secret is None and self.indexer_proxy_secret_file is None

    @property
    def nobody_may_read(self) -> bool:
        """True where every question to the read APIs is refused: there is no token, no trust, and no open API."""
        return self.nobody_may_act and not (self.indexer_api_tokens or self.indexer_anonymous_read)

    @classmethod
    def read(cls, environ: Mapping[str, str], *, config: Path | None = None) -> Self:
        """Return the settings of an environment and, below it, of a TOML file.

        ``config`` is ``--config``; else ``INDEXER_CONFIG`` names the file. Raises ``ConfigurationError``.
        """
        named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
        given = {} if named is None else _read_file(named)
        given |= {
            name: value
            for name, value in environ.items()
            if name.startswith(PREFIXES) and name != CONFIG_VARIABLE and value != ""
        }
        declared = {one.name.upper(): one for one in fields(cls)}
        given = _with_secrets_of_files(given, declared)
        _refuse_unknown(given, declared)
        values: dict[str, Any] = {}
        for name, one in declared.items():
            value = given.get(name, one.default)
            try:
                values[one.name] = None if value is None else one.metadata["read"](value)
            except ValueError as error:
                raise ConfigurationError(f"{name}: {error}") from None
        try:
            return cls(**values)
        except ValueError as error:
            raise ConfigurationError(f"settings: {error}") from None


def _read_file(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - only for who has a file

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"the configuration file {path} does not exist") from None
    except OSError as error:
        raise ConfigurationError(f"the configuration file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None


def _with_secrets_of_files(given: Mapping[str, Any], declared: Mapping[str, Any]) -> dict[str, Any]:
    """Replace ``NAME_FILE`` by ``NAME`` with what the file holds, for every setting that holds secrets."""
    found = dict(given)
    for file_name in given:
        name = file_name.removesuffix(OF_FILE)
        if name == file_name or file_name in declared or not holds_secrets(declared.get(name)):
            continue
        if name in given:
            raise ConfigurationError(f"{name} and {file_name}: set one of the two")
        try:
            found[name] = Path(str(found.pop(file_name))).read_text("utf-8").strip()
        except OSError as error:
            raise ConfigurationError(
                f"{file_name}: {given[file_name]} cannot be read: {error.strerror}"
            ) from None
        except UnicodeDecodeError:
            raise ConfigurationError(f"{file_name}: {given[file_name]} is not text") from None
        if not found[name]:
            raise ConfigurationError(f"{file_name}: {given[file_name]} is empty")
    return found


def holds_secrets(declared: Any) -> bool:
    """Tell whether a declared setting is a secret or several: such a one may also be given as ``NAME_FILE``."""
    return declared is not None and re.search(r"\b(?:Named)?Secret\b", str(declared.type)) is not None


def _refuse_unknown(given: Mapping[str, Any], declared: Mapping[str, Any]) -> None:
    for name in given:
        if name not in declared:
            import difflib  # noqa: PLC0415 - only for who misspelt one

            close = difflib.get_close_matches(name, declared, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(f"unknown setting {name}{hint}")
