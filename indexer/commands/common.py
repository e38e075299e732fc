"""What the command lines of both programs share: settings, the event loop, errors as one line, exit codes.

Settings, logs and the event loop are imported where a verb needs them: they take longer to load than help and version
to print (``tests/unit/test_starting.py`` holds the commands to it).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import cyclopts

from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError, IndexerError
from indexer.common.terminal import printable

if TYPE_CHECKING:
    import asyncio

    from indexer.inventory.changes import AuditAction
    from indexer.settings import Settings
    from indexer.store.operators import Operator

T = TypeVar("T")

_OPTION = re.compile(r"--[a-z][a-z-]*\Z")

Config = Annotated[
    Path | None,
    cyclopts.Parameter(name="--config", help="TOML file with settings. Environment variables override it."),
]
AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON for machines.")]


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


def actions_of(text: str | None) -> tuple[AuditAction, ...]:
    """Return the actions of the log that an option names, a comma list; else raise ``ConfigurationError``."""
    from indexer.inventory.changes import AuditAction  # noqa: PLC0415

    words = [] if text is None else text.split(",")
    for word in words:
        if word not in set(AuditAction):
            raise ConfigurationError(
                f"--action {word}: there is none of that name, only {', '.join(AuditAction)}"
            )
    return tuple(AuditAction(word) for word in words)


def operator(command: str) -> Operator:
    """Return who runs a command: the login name, and the machine."""
    import getpass  # noqa: PLC0415
    import socket  # noqa: PLC0415

    from indexer.store.operators import Operator  # noqa: PLC0415

    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as containers have them
        name = f"uid {os.getuid()}"
    return Operator(name=name, host=socket.gethostname(), command=command)


def with_database(config: Path | None, work: Callable[[Any], Awaitable[int]]) -> int:
    """Run a verb's work on a connection to a database whose schema is current; return its exit code."""
    from indexer.store.migrate import check  # noqa: PLC0415
    from indexer.store.pool import connect, translated  # noqa: PLC0415

    settings = read_settings(config, logs=False)

    async def connected() -> int:
        connection = await connect(database_url(settings), application="indexer")
        try:
            async with translated():
                await check(connection)
                return await work(connection)
        finally:
            await connection.close()

    return run_async(connected())


def print_result(as_json: bool, value: dict[str, Any], text: str) -> None:
    """Print what a verb came to: one JSON object, or lines for people."""
    sys.stdout.write((json_dumps(value) if as_json else text) + "\n")


def completion_of(app: cyclopts.App) -> Callable[[Literal["bash", "zsh", "fish"]], int]:
    """Return the verb ``completion`` of a program."""

    def completion(
        shell: Annotated[Literal["bash", "zsh", "fish"], cyclopts.Parameter(help="Your shell.")], /
    ) -> int:
        """Print the script with which a shell completes commands and options: evaluate it, or keep it in a file."""
        sys.stdout.write(app.generate_completion(shell=shell))
        return 0

    return completion


def version() -> str:
    """Return this program's version."""
    import indexer  # noqa: PLC0415 - its version is looked up when asked for

    return indexer.__version__


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


def with_flags_joined(words: Sequence[str]) -> list[str]:
    """Join ``--flag true`` into ``--flag=true``: a value on its own would be taken for an argument.

    The API's flags are values (``never_pulled=true``), so people write them so. For other options both forms are equal.
    """
    joined: list[str] = []
    for word in words:
        if word in ("true", "false") and joined and _OPTION.match(joined[-1]) and "--" not in joined:
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def refuse_verb_of(program: str, verbs: frozenset[str]) -> None:
    """Raise ``ConfigurationError`` where the verb asked for is one of the other program's."""
    if sys.argv[1:2] and sys.argv[1] in verbs:
        raise ConfigurationError(
            f"`{sys.argv[1]}` is a command of the other program: {program} {sys.argv[1]}"
        )


def run_app(app: cyclopts.App, *, refused: tuple[str, frozenset[str]]) -> NoReturn:
    """Run a command line and exit with its code: an expected error is one line on stderr, never a traceback.

    A wrong option, argument or setting is ``exit_codes.USAGE``: the operator must change something before starting
    again helps. ``refused``: the other program, and its verbs.
    """
    try:
        refuse_verb_of(*refused)
        code = app(
            with_flags_joined(sys.argv[1:]),
            exit_on_error=False,
            print_error=True,
            result_action="return_value",
        )
    except cyclopts.CycloptsError:
        code = exit_codes.USAGE  # it is printed already
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


def print_error(error: IndexerError) -> None:
    """Print an error as one line on stderr, behind the program's name."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name  # `python -m indexer`
    line = "; ".join(str(error).splitlines())
    sys.stderr.write(f"{name}: {printable(line)}\n")
