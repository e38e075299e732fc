"""Where a registry's storage lies: by a URL, or by the registry's own configuration. Reads one file, else pure.

Of the configuration (docs/content/about/configuration.md of Distribution) only ``storage`` is read: exactly one driver
and its parameters. A variable ``REGISTRY_STORAGE`` names another driver, ``REGISTRY_STORAGE_<DRIVER>_<PARAMETER>`` one
of its parameters; its value is YAML. What names no driver (``cache``, ``delete`` …) is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from indexer.settings import Settings

VARIABLE: Final = "REGISTRY_STORAGE"
DEFAULT_DIRECTORY: Final = "/var/lib/registry"
MAX_BYTES: Final = 1024 * 1024
_NO_DRIVERS: Final = frozenset({"cache", "delete", "maintenance", "redirect", "tag"})
_ON: Final = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of this machine: the driver ``filesystem``."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket or container. ``kind``: ``s3``, ``gs`` or ``az``; ``prefix``: the driver's root directory, '' if none.

    ``options`` go to obstore's store of that kind; keys are among them, so they are not shown. What is not in it comes
    from the environment (``AWS_…``, ``GOOGLE_…``, ``AZURE_…``) or from the machine.
    """

    kind: str
    name: str
    prefix: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    plain_http: bool = False
    any_certificate: bool = False

    @property
    def url(self) -> str:
        """Return it as a URL."""
        return f"{self.kind}://{self.name}/{self.prefix}".rstrip("/")


Whereabouts: TypeAlias = Directory | Bucket


def whereabouts_of(settings: Settings, environ: Mapping[str, str]) -> Whereabouts:
    """Return where the storage lies; raise ``ConfigurationError``."""
    if settings.reconciler_storage_url is not None:
        return of_url(settings.reconciler_storage_url, environ)
    if settings.reconciler_registry_config is not None:
        return of_configuration(_read(settings.reconciler_registry_config), environ)
    raise ConfigurationError(
        "no storage is set: set RECONCILER_STORAGE_URL to where the registry keeps its files, for example "
        "file:///var/lib/registry, or RECONCILER_REGISTRY_CONFIG to the registry's config.yml"
    )


def descriptor_cache_of(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Return the cache of blob descriptors that the registry's configuration names: ``inmemory``, ``redis``.

    None without one, and where no configuration is set.
    """
    if settings.reconciler_registry_config is None:
        return None
    configuration = _read(settings.reconciler_registry_config)
    storage = configuration.get("storage") if isinstance(configuration, dict) else None
    cache = _overridden(storage, environ).get("cache")
    if not isinstance(cache, dict):
        return None
    return _text(cache, "blobdescriptor") or _text(cache, "layerinfo") or None


def of_url(url: str, environ: Mapping[str, str]) -> Whereabouts:
    """Return what a URL names, one that ``values.storage_url`` accepted."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Directory(Path(unquote(parts.path)))
    endpoints = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
        "az": ("AZURE_STORAGE_ENDPOINT",),
    }
    plain = any(environ.get(name, "").startswith("http://") for name in endpoints.get(parts.scheme, ()))
    return Bucket(
        kind=parts.scheme, name=parts.netloc, prefix=unquote(parts.path).strip("/"), plain_http=plain
    )


def of_configuration(configuration: Any, environ: Mapping[str, str]) -> Whereabouts:
    """Return what a registry's configuration names, as its variables override it."""
    storage = configuration.get("storage") if isinstance(configuration, dict) else None
    driver, parameters = _driver(_overridden(storage, environ))
    match driver:
        case "filesystem":
            return Directory(Path(_text(parameters, "rootdirectory") or DEFAULT_DIRECTORY))
        case "s3" | "s3aws":
            return _s3(parameters)
        case "gcs":
            return _gcs(parameters)
        case "azure":
            return _azure(parameters)
    raise ConfigurationError(
        f"the registry's storage driver is {driver!r}; those that can be read are filesystem, s3, s3aws, gcs and azure"
    )


def _read(path: Path) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415 - only for who names a file
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"RECONCILER_REGISTRY_CONFIG: {path} cannot be read: {error.strerror}"
        ) from None
    if len(content) > MAX_BYTES:
        raise ConfigurationError(f"RECONCILER_REGISTRY_CONFIG: {path} is larger than 1 MiB")
    try:
        return YAML(typ="safe", pure=True).load(content)
    except (YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(f"RECONCILER_REGISTRY_CONFIG: {path} is not YAML: {first}") from None


def _overridden(storage: Any, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the section ``storage`` with the variables laid over it, in the order of their names."""
    found: dict[str, Any] = dict(storage) if isinstance(storage, dict) else {}
    if isinstance(storage, str):
        found = {storage: {}}
    for name in sorted(environ):
        if name == VARIABLE:
            value = _value(name, environ[name])
            found = dict(value) if isinstance(value, dict) else {str(value): {}}
        elif name.startswith(f"{VARIABLE}_"):
            _set(found, name.removeprefix(f"{VARIABLE}_").lower().split("_"), _value(name, environ[name]))
    return found


def _value(name: str, text: str) -> Any:
    from ruamel.yaml import YAML  # noqa: PLC0415
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError):
        raise ConfigurationError(f"{name}: its value is not YAML") from None


def _set(tree: dict[str, Any], path: list[str], value: Any) -> None:
    for part in path[:-1]:
        below = tree.get(part)
        tree[part] = dict(below) if isinstance(below, dict) else {}
        tree = tree[part]
    tree[path[-1]] = value


def _driver(storage: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    drivers = {name: value for name, value in storage.items() if name not in _NO_DRIVERS}
    if len(drivers) != 1:
        named = ", ".join(sorted(map(str, drivers))) or "none"
        raise ConfigurationError(f"the registry's configuration names not one storage driver but: {named}")
    driver, parameters = next(iter(drivers.items()))
    return str(driver), parameters if isinstance(parameters, dict) else {}


def _text(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name)
    return "" if value is None else str(value)


def _switch(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = _text(parameters, name).lower()
    return default if value == "" else value in _ON


def _needed(driver: str, parameters: Mapping[str, Any], name: str) -> str:
    value = _text(parameters, name)
    if not value:
        raise ConfigurationError(f"the registry's configuration lacks storage.{driver}.{name}")
    return value


def _prefix(parameters: Mapping[str, Any]) -> str:
    return _text(parameters, "rootdirectory").strip("/")


def _s3(parameters: Mapping[str, Any]) -> Bucket:
    bucket = _needed("s3", parameters, "bucket")
    secure = _switch(parameters, "secure", default=True)
    options = _named(
        parameters,
        {
            "access_key_id": "accesskey",
            "secret_access_key": "secretkey",
            "token": "sessiontoken",
            "region": "region",
        },
    )
    endpoint = _text(parameters, "regionendpoint")
    by_path = _switch(parameters, "forcepathstyle", default=True)
    if endpoint:
        if not re.match(r"https?://", endpoint):
            endpoint = f"{'https' if secure else 'http'}://{endpoint}"
        if not by_path:
            scheme, _, host = endpoint.partition("://")
            endpoint = f"{scheme}://{bucket}.{host}"
        options["endpoint"] = endpoint.rstrip("/")
    if not by_path:
        options["virtual_hosted_style_request"] = "true"
    return Bucket(
        kind="s3",
        name=bucket,
        prefix=_prefix(parameters),
        options=options,
        plain_http=endpoint.startswith("http://"),
        any_certificate=_switch(parameters, "skipverify", default=False),
    )


def _gcs(parameters: Mapping[str, Any]) -> Bucket:
    import json  # noqa: PLC0415

    options = _named(parameters, {"service_account": "keyfile"})
    credentials = parameters.get("credentials")
    if isinstance(credentials, dict) and not options:
        options["service_account_key"] = json.dumps(credentials)
    return Bucket(
        kind="gs", name=_needed("gcs", parameters, "bucket"), prefix=_prefix(parameters), options=options
    )


def _azure(parameters: Mapping[str, Any]) -> Bucket:
    options = {"account_name": _needed("azure", parameters, "accountname")}
    options |= _named(parameters, {"account_key": "accountkey", "endpoint": "serviceurl"})
    credentials = parameters.get("credentials")
    if isinstance(credentials, dict) and _text(credentials, "type") == "client_secret":
        options |= _named(
            credentials, {"client_id": "clientid", "tenant_id": "tenantid", "client_secret": "secret"}
        )
    return Bucket(
        kind="az",
        name=_needed("azure", parameters, "container"),
        prefix=_prefix(parameters),
        options=options,
        plain_http=options.get("endpoint", "").startswith("http://"),
    )


def _named(parameters: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that are set, by the names that obstore has for them."""
    return {ours: value for ours, theirs in names.items() if (value := _text(parameters, theirs))}
