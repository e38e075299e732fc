"""``reconciler doctor``: settings → examination → words. A wrong setting is its first finding."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from indexer.commands.common import database_url, read_settings
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError
from indexer.common.values import parse_duration
from indexer.local.announcement import reachable_url
from indexer.local.supervisor import TOKEN_FILE
from indexer.oci.reference import RepositoryName, parse_repository_name
from indexer.settings import Settings
from reconciler.app import registry_settings
from reconciler.doctor.examination import Examination
from reconciler.doctor.present import check_text, report_json, verdict_text
from reconciler.doctor.report import Check
from reconciler.doctor.settings import DoctorSettings
from reconciler.drift.exceptions import CATALOG, Closed
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings

T = TypeVar("T")

RECEIVER_UNTRIED = "INDEXER_NOTIFICATIONS_TOKEN is not set here, so nothing that needs it is tried"

NOBODY_READS = (
    "INDEXER_API_TOKENS is not set here: unless the server has tokens, trusts the registry's, or sets "
    "INDEXER_ANONYMOUS_READ, every question to the API is 401"
)


def prepare(
    config: Path | None,
    *,
    probe_repository: str,
    indexer_url: str | None,
    read_only: bool,
    patience_seconds: float,
) -> DoctorSettings:
    """Gather what an examination needs, and what is wrong with it."""
    asked = DoctorSettings(
        repository=_repository(probe_repository), read_only=read_only, patience_seconds=patience_seconds
    )
    try:
        settings = read_settings(config, logs=True)
    except ConfigurationError as error:
        return replace(asked, problems=(str(error),))
    problems: list[str] = []
    _try(settings.check_tokens, problems)
    token = _notifications_token(settings, problems)
    tokens = [
        *settings.indexer_api_tokens,
        *(each.secret for each in settings.indexer_operator_tokens),
    ]
    return replace(
        asked,
        database_url=_try(lambda: database_url(settings), problems),
        registry=_try(lambda: _usable_registry(settings), problems),
        debug_urls=settings.reconciler_registry_debug_urls,
        indexer_url=(
            indexer_url or settings.reconciler_indexer_url or reachable_url(settings.indexer_listen)
        ).rstrip("/"),
        notifications_token=token,
        api_token=tokens[0].get_secret_value() if tokens else None,
        anonymous_read=settings.indexer_anonymous_read,
        takes_notices=not settings.proxy_secret_missing,
        catalog_is_closed=Closed(accepted=settings.reconciler_accept_denied).accepts(CATALOG),
        problems=tuple(problems),
        remarks=(
            *(() if token is not None else (RECEIVER_UNTRIED,)),
            *((NOBODY_READS,) if settings.nobody_may_read else ()),
        ),
    )


def parse_patience(text: str) -> float:
    """Return a duration like ``15s`` as seconds; raise ``ConfigurationError``."""
    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise ConfigurationError(f"--patience: {error}") from None


async def examine(settings: DoctorSettings, *, as_json: bool) -> int:
    """Examine, print, and return the exit code."""

    def say(check: Check) -> None:
        if not as_json:
            sys.stdout.write(check_text(check))
            sys.stdout.flush()

    report = await Examination(settings, on_check=say).run()
    sys.stdout.write(json.dumps(report_json(report)) + "\n" if as_json else verdict_text(report))
    return 0 if report.is_well else exit_codes.FAILED


def _repository(name: str) -> RepositoryName:
    try:
        return parse_repository_name(name)
    except ValueError as error:
        raise ConfigurationError(f"--probe-repository: {error}") from None


def _try(read: Callable[[], T], problems: list[str]) -> T | None:
    try:
        return read()
    except ConfigurationError as error:
        problems.append(str(error))
        return None


def _usable_registry(settings: Settings) -> TransportSettings:
    """Return how to reach the registry, tried by making a client of it: its CA file is read then."""
    transport = registry_settings(settings)
    RegistryClient(transport)
    return transport


def _notifications_token(settings: Settings, problems: list[str]) -> str | None:
    """Return the token set, else the one that ``indexer up`` made."""
    if settings.indexer_notifications_token is not None:
        return settings.indexer_notifications_token.get_secret_value()
    try:
        return (settings.indexer_data_dir / TOKEN_FILE).read_text("ascii").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"the token under INDEXER_DATA_DIR cannot be read: {type(error).__name__}")
        return None
