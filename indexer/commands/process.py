"""What every start of the programs needs: settings, the event loop, errors as one line, exit codes.

Nothing here loads the parser of command lines, so that a daemon which was started without options does without it
(``on_its_own``). Settings, logs and the event loop are imported where a verb needs them: they take longer to load than
help and version to print (``tests/unit/test_starting.py`` holds the commands to it).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError, IndexerError
from indexer.common.terminal import printable

if TYPE_CHECKING:
    import asyncio

    from indexer.settings import Settings

T = TypeVar("T")


def read_settings(config: Path | None, *, logs: bool) -> Settings:
    """Read the settings; the environment is read here and nowhere else.

    ``logs``: set them up accordingly. A verb that loads nothing that logs does not: it takes a third of a start.
    """
    from indexer.settings import Settings  # noqa: PLC0415

    settings = Settings.read(os.environ, config=config)
    if logs:
        from indexer.common.telemetry import configure_logs  # noqa: PLC0415

        configure_logs(level=settings.indexer_log_level, style=settings.indexer_log_format)
    return settings


def database_url(settings: Settings) -> str:
    """Return the database's URL: the one set, else that of the embedded database that is running."""
    if settings.indexer_database_url is not None:
        return settings.indexer_database_url.get_secret_value()
    # Only a machine with an embedded database needs its launcher's modules.
    from indexer.local.postgres import find_running  # noqa: PLC0415

    found = find_running(settings.indexer_data_dir)
    if found is None:
        raise ConfigurationError(
            "INDEXER_DATABASE_URL is not set, and no embedded database is running under "
            f"{settings.indexer_data_dir}: set INDEXER_DATABASE_URL, or INDEXER_DATA_DIR to that of a running "
            "`indexer up`"
        )
    return found


def name_process(title: str) -> None:
    """Show as ``indexer serve`` in process lists."""
    from setproctitle import setproctitle  # noqa: PLC0415 - only long-running verbs need it

    setproctitle(title)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end on uvloop where there is one."""
    import asyncio  # noqa: PLC0415

    try:
        import uvloop  # noqa: PLC0415 - not on every platform

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


def print_error(error: IndexerError) -> None:
    """Print an error as one line on stderr, behind the program's name."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name  # `python -m indexer`
    line = "; ".join(str(error).splitlines())
    sys.stderr.write(f"{name}: {printable(line)}\n")


def run_to_exit(work: Callable[[], object]) -> NoReturn:
    """Run a program's work and exit with its code: an expected error is one line on stderr, never a traceback.

    A wrong setting is ``exit_codes.USAGE``: the operator must change something before starting again helps.
    """
    try:
        code = work()
    except ConfigurationError as error:
        print_error(error)
        code = exit_codes.USAGE
    except IndexerError as error:
        print_error(error)
        code = exit_codes.FAILED
    except BrokenPipeError:
        # The reader has gone (`| head`); Python would complain again while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = exit_codes.FAILED
    except KeyboardInterrupt:
        code = exit_codes.INTERRUPTED
    raise SystemExit(code if isinstance(code, int) else 0)


def on_its_own(daemon: Callable[[Settings], int]) -> NoReturn:
    """Run a daemon that was started without options, for as long as it lives without what it does not use.

    That is the parser of command lines, and rich, which structlog loads to show the values of variables in tracebacks;
    logs never have those. Both hold 9 MiB (measured).
    """
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]  # as if it were not installed
        try:
            import structlog  # noqa: F401, PLC0415
        finally:
            del sys.modules["rich"]
    run_to_exit(lambda: daemon(read_settings(None, logs=True)))
