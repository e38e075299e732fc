"""What the command lines of both programs share: options, the operator's name, results; and what ``process`` has."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from json import dumps as json_dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import cyclopts

from indexer.commands.process import (
    database_url,
    name_process,
    print_error,
    read_settings,
    run_async,
    run_to_exit,
)
from indexer.common import exit_codes
from indexer.common.errors import ConfigurationError

if TYPE_CHECKING:
    from indexer.inventory.changes import AuditAction
    from indexer.store.operators import Operator

__all__ = [
    "database_url",
    "name_process",
    "print_error",
    "read_settings",
    "run_async",
    "run_to_exit",
]
"""Of ``process``, for those who import everything from here."""

T = TypeVar("T")

_OPTION = re.compile(r"--[a-z][a-z-]*\Z")

Config = Annotated[
    Path | None,
    cyclopts.Parameter(name="--config", help="TOML file with settings. Environment variables override it."),
]


def _shown_default(value: object) -> str | None:
    """Return the default that the help shows: none of an option that is off until it is given."""
    if value is None or value is False:
        return None
    return str(value.value if isinstance(value, Enum) else value)


DEFAULTS = cyclopts.Parameter(show_default=_shown_default)
"""For the help of every verb."""

EXIT_CODES = (
    "Exit codes: 0 done; 1 failed; 64 a setting, an option or an argument is wrong, so starting again does not help; "
    "130 interrupted."
)
"""For the help of every verb: those that all have."""

AsJson = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON for machines.")]


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
    """Run a command line and exit with its code, as ``run_to_exit`` does.

    A wrong option or argument is ``exit_codes.USAGE``. ``refused``: the other program, and its verbs.
    """

    def work() -> object:
        refuse_verb_of(*refused)
        try:
            return app(
                with_flags_joined(sys.argv[1:]),
                exit_on_error=False,
                print_error=True,
                result_action="return_value",
            )
        except cyclopts.CycloptsError:
            return exit_codes.USAGE  # it is printed already

    run_to_exit(work)
