"""Logs: how they look, not what is said.

The event is a constant, values only as fields. JSON unless on a terminal. Nothing secret is ever passed to
a logger; as a second line of defence fields with a telling name are blanked. Metrics stand beside what they count.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

_SECRET = ("token", "password", "authorization", "secret", "database_url")


def _blank_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _SECRET):
            event[key] = "…"
    return event


def _client_has_gone(record: logging.LogRecord) -> bool:
    """Filter: a client that goes away while it is answered is its own business and no error, so debug says it."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError):
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        record.exc_info = None
        record.msg, record.args = "client_has_gone: %s", (str(error),)
        return logging.getLogger().isEnabledFor(logging.DEBUG)
    return True


def configure_logs(*, level: str, style: str) -> None:
    """Set up structlog and the standard library's logging alike; ``style`` is auto, json or console."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _blank_secrets,
    ]
    # Tracebacks come without the values of variables, which may hold a token or a database's URL.
    to_console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    without_values = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    to_json: list[Any] = [
        structlog.processors.ExceptionRenderer(without_values),
        structlog.processors.JSONRenderer(),
    ]
    final: list[Any] = [to_console] if console else to_json
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("aiohttp.access").setLevel(
        logging.WARNING
    )  # halves the rate of small answers (measured)
    logging.getLogger("aiohttp.server").addFilter(_client_has_gone)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request; what fails is told by us
