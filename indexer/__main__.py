"""``indexer`` on the command line, and ``python -m indexer``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the daemon without options does without its parser."""
    if sys.argv[1:] == ["serve"]:
        from indexer.commands.process import on_its_own  # noqa: PLC0415
        from indexer.commands.serving import serve  # noqa: PLC0415

        on_its_own(serve)
    from indexer.commands.main import main as run_command_line  # noqa: PLC0415

    run_command_line()


if __name__ == "__main__":
    main()
