"""What the value of a setting may be: text of the environment, or text, numbers and lists of a TOML file.

Each reader takes one and returns what it means, or raises ``ValueError`` with what would be right. A value that was
read already is taken as it is. Plain functions: a library that validates takes longer to load than a whole verb may
(docs/adr/0038).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\Z", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
SHORTEST_CHECK_INTERVAL = timedelta(hours=1)
_SIZE = re.compile(r"(\d+)\s*(KiB|MiB|GiB|TiB)?\Z", re.ASCII)
_BYTES = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+\Z")
_SECRET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_WHOLE = re.compile(r"[+-]?[0-9]+\Z")
SHORTEST_LEASE, LONGEST_LEASE = timedelta(seconds=2), timedelta(minutes=10)
_ON = ("true", "yes", "on", "1")
_OFF = ("false", "no", "off", "0")
_PORTS = range(65536)


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that no log and no traceback shows."""

    _text: str = field(repr=False)

    def get_secret_value(self) -> str:
        """Return the text."""
        return self._text


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSecret:
    """A secret, and the name of who has it."""

    name: str
    secret: Secret


def parse_duration(value: object) -> timedelta:
    """Return ``500ms``, ``30s``, ``15m``, ``24h``, ``7d`` or ``2w`` as a timedelta; a bare number is refused."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a duration needs a unit, like 500ms, 30s, 15m, 24h, 7d or 2w; got {value!r}")
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError:
        raise ValueError(f"longer than any duration may be; got {value!r}") from None


def parse_lease(value: object) -> timedelta:
    """Return a duration from 2 s to 10 min."""
    lease = parse_duration(value)
    if not SHORTEST_LEASE <= lease <= LONGEST_LEASE:
        raise ValueError(f"a lease is 2s to 10m; got {value!r}")
    return lease


def parse_check_interval(value: object) -> timedelta:
    """Return a duration of an hour or more."""
    interval = parse_duration(value)
    if interval < SHORTEST_CHECK_INTERVAL:
        raise ValueError(f"checks are at least 1h apart; got {value!r}")
    return interval


def parse_pull_detail(value: object) -> timedelta | None:
    """Return a duration, or None for ``all``, which is the default."""
    return None if value == "all" else parse_duration(value)


def parse_size(value: object) -> int:
    """Return ``512MiB``, ``1GiB``, ``2TiB`` or a plain number of bytes as an int."""
    if isinstance(value, str) and (match := _SIZE.match(value.strip())):
        return int(match[1]) * _BYTES[match[2] or ""]
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ValueError(f"a size is a number of bytes, or like 512MiB or 1GiB; got {value!r}")


def parse_key_name(value: object) -> str:
    """Return a text that may name a key and a log: no white space, no plus (C2SP signed-note)."""
    if not isinstance(value, str) or not _KEY_NAME.match(value):
        raise ValueError(
            "a name without white space, control characters and plus signs, like log.example.com/registry"
        )
    return value


def parse_address(text: str) -> tuple[str, int]:
    """Return ``host:port`` or ``[v6]:port`` as host and port; raise ``ValueError``."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise ValueError(f"not an address like 127.0.0.1:5005: {text!r}")
    return host, int(port)


def text(value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise ValueError("must be a text")
    return value


def secret(value: object) -> Secret:
    """Return a text that is not shown."""
    return value if isinstance(value, Secret) else Secret(text(value))


def header(value: object) -> Secret:
    """Return a secret that is sent as a header."""
    found = secret(value)
    if not (found.get_secret_value().isascii() and found.get_secret_value().isprintable()):
        raise ValueError("must be printable ASCII, since it is sent as a header")
    return found


def named_secret(value: object) -> NamedSecret:
    """Return a ``name:secret``, the secret one that is sent as a header; what was given is never repeated."""
    if isinstance(value, NamedSecret):
        return value
    name, colon, rest = text(value).partition(":")
    if not colon or not _SECRET_NAME.match(name) or not rest:
        raise ValueError(
            "each is name:secret; a name has letters, digits and . _ - @, at most 64, and begins with a letter or digit"
        )
    return NamedSecret(name=name, secret=header(rest))


def path(value: object) -> Path:
    """Return a path as it stands."""
    return value if isinstance(value, Path) else Path(text(value))


def absolute_path(value: object) -> Path:
    """Return a path from the root, ``~`` being the user's home."""
    try:
        return path(value).expanduser().absolute()
    except RuntimeError as error:  # nobody's home is known
        raise ValueError(str(error)) from None


def address(value: object) -> str:
    """Return a text that is an address and port."""
    parse_address(text(value))
    return text(value)


def base_url(value: object) -> str:
    """Return the base URL of a registry (without ``/v2/``) or of an indexer; it holds no password."""
    return http_url(value).rstrip("/").removesuffix("/v2")


def http_url(value: object) -> str:
    """Return an http or https URL as it is written; it holds no password."""
    url = text(value)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"not an http or https URL: {url!r}")
    if parts.username or parts.password:
        raise ValueError(
            "a URL holds no password; the registry's go into RECONCILER_REGISTRY_USERNAME and _PASSWORD"
        )
    return url


def storage_url(value: object) -> str:
    """Return the URL of a storage: ``file:///…`` with an absolute path, or a bucket; it holds no password."""
    url = text(value)
    parts = urlsplit(url)
    if parts.scheme not in ("file", "s3", "gs", "az") or parts.query or parts.fragment:
        raise ValueError(
            f"not a URL like file:///srv/registry, s3://bucket/prefix, gs://bucket or az://container: {url!r}"
        )
    if parts.username or parts.password:
        raise ValueError("a URL holds no password; see docs/reference/settings.md for where the keys go")
    if parts.scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise ValueError(
            f"write file:// with three slashes and an absolute path, like file:///srv/registry; got {url!r}"
        )
    if parts.scheme != "file" and not parts.hostname:
        raise ValueError(f"names no bucket: {url!r}")
    return url


def host_of_registry(value: object) -> str:
    """Return a host, with a port where one follows, as it stands in front of an image's name."""
    host = text(value)
    if (
        re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[0-9]{1,5})?", host)
        is None
    ):
        raise ValueError(f"not a host, or host:port: {host!r}")
    return host


def gitlab_url(value: object) -> str:
    """Return GitLab's base URL; it holds no secret."""
    url = text(value)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("not an http or https URL like https://gitlab.example.com")
    if parts.username or parts.password:
        raise ValueError("put the secret into INDEXER_GITLAB_TOKEN, not into the URL")
    return url.rstrip("/")


def switch(value: object) -> bool:
    """Return whether something is on."""
    if isinstance(value, bool):
        return value
    word = value.lower() if isinstance(value, str) else value
    if word in _ON or word in _OFF:
        return word in _ON
    raise ValueError(f"must be true or false; got {value!r}")


def whole_number(*, at_least: int, at_most: float = math.inf) -> Callable[[object], int]:
    """Return the reader of a whole number within bounds."""

    def read(value: object) -> int:
        found = int(value) if isinstance(value, str) and _WHOLE.match(value.strip()) else value
        if not isinstance(found, int) or isinstance(found, bool):
            raise ValueError(f"must be a whole number; got {value!r}")
        if not at_least <= found <= at_most:
            upper = "" if at_most == math.inf else f" and at most {at_most}"
            raise ValueError(f"must be at least {at_least}{upper}; got {value!r}")
        return found

    return read


def share(value: object) -> float:
    """Return a number from 0 to 1."""
    found = _number(value)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"must be a number from 0 to 1; got {value!r}")
    return found


def rate(value: object) -> float:
    """Return a number above 0."""
    found = _number(value)
    if not 0.0 < found < math.inf:
        raise ValueError(f"must be a number above 0; got {value!r}")
    return found


def _number(value: object) -> float:
    """Return a number; what is none is no number (NaN), which lies within no bounds."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def one_of(*words: str) -> Callable[[object], str]:
    """Return the reader of one of some words."""

    def read(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}; got {value!r}")
        return text(value)

    return read


def switch_or_auto(value: object) -> bool | None:
    """Return whether something is on; None for ``auto``: it is found out."""
    if value == "auto":
        return None
    try:
        return switch(value)
    except ValueError:
        raise ValueError(f"must be auto, true or false; got {value!r}") from None


def list_of(read: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """Return the reader of a list, or of a comma-separated text; blanks around and empty parts are dropped."""

    def read_all(value: object) -> tuple[T, ...]:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list, or a text with commas")
        return tuple(read(part) for part in value)

    return read_all
