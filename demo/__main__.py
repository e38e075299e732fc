"""Runs the demo; ``python3 dev.py demo [--once]`` comes here.

Exit 0: everything shown is true. 1: something is not, or did not start; it says what. 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.markup import escape

from demo import checks, tables
from demo.asking import Asker
from demo.stage import DemoError, Stage, find_registry
from demo.story import Story
from indexer.commands.common import operator

if TYPE_CHECKING:
    from types import FrameType

    from demo.ledger import Ledger

FAILED = 1
INTERRUPTED = 130
REPEATED_AFTER_SECONDS = 1.0
WIDTH_WITHOUT_TERMINAL = 132


def main() -> int:
    """Read the arguments, run, and explain a failure in a line or a few."""
    parser = argparse.ArgumentParser(
        prog="dev.py demo", description="The main job, end to end, on real parts."
    )
    parser.add_argument("--once", action="store_true", help="check what is shown and exit, 0 if all is true")
    wanted = parser.parse_args()
    signal.signal(signal.SIGINT, interrupt)  # a script's background job inherits it ignored
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup meant it
        signal.signal(signal.SIGHUP, interrupt)
    console = make_console()
    try:
        return Demo(console).run(once=wanted.once)
    except DemoError as error:
        console.print(f"[bold red]✗[/] {escape(str(error))}", soft_wrap=True)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Demo:
    """One run, with the time it takes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = self._last = time.monotonic()

    def run(self, *, once: bool) -> int:
        """Do it all, and stay unless it is to be done once."""
        found = find_registry()
        with Stage(found) as stage:
            try:
                true = self._perform(stage)
                if once or not true:
                    return 0 if true else FAILED
                return self._stay(stage)
            except DemoError as error:
                raise DemoError(f"{error}\nThe log of indexer up ends:\n{stage.last_words()}") from error
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
                    signal.signal(number, signal.SIG_IGN)  # stopping takes a second; it is on its way

    def _perform(self, stage: Stage) -> bool:
        stage.start()
        asker = Asker(stage)
        asker.wait_for_first_reconcile()
        self._done(
            f"Distribution {stage.registry.version.partition('+')[0]} ({stage.registry.found.origin}), PostgreSQL, "
            "indexer serve and reconciler run are up"
        )
        story = Story(stage)
        story.publish()
        self._done(
            "pushed an OCI image, two tags on one digest, an index, an SBOM with a subject, Docker images"
        )
        story.change()
        self._done("moved a tag, deleted one, pulled one")
        asker.wait_until_settled(len(story.ledger.entries))
        self._done("every event applied; every tag verified as announced")
        self._reconcile(stage, story.ledger)
        story.go_behind_our_back()
        self._done("pushed and moved a tag without a notification, took one out of the registry's storage")
        self._reconcile(stage, story.ledger)
        asker.wait_until_settled(len(story.ledger.entries))
        shown = asker.everything()
        tables.show(self._console, shown)
        self._console.print()
        wrong = checks.problems(shown, story.ledger, stage)
        for line in wrong:
            self._console.print(f"[bold red]✗[/] {escape(line)}", soft_wrap=True)
        if not wrong:
            self._done(f"checked {checks.summary(shown)}")
        return not wrong

    def _reconcile(self, stage: Stage, ledger: Ledger) -> None:
        counts = stage.reconcile()["counts"]
        ledger.reconciled(operator("reconciler once").name)
        results = [f"{counts['found']} tags found"] if counts["found"] else []
        results += [f"{counts['changed']} repaired"] if counts["changed"] else []
        self._done(
            f"reconciler once: {counts['tags']} tags compared, {', '.join(results) or 'nothing to repair'}"
        )

    def _stay(self, stage: Stage) -> int:
        try:  # around the line, too: who reads it may answer by Ctrl-C before the next statement
            self._console.print(invitation(stage), soft_wrap=True, highlight=False)
            stage.wait()
        except KeyboardInterrupt:
            self._console.print("\nstopping …")
        return 0

    def _done(self, what: str) -> None:
        now = time.monotonic()
        step, self._last = now - self._last, now
        self._console.print(
            f"[dim]{now - self._began:5.1f} s  +{step:4.1f} s[/]  [green]✓[/] {what}", soft_wrap=True
        )


def invitation(stage: Stage) -> str:
    """Say where everything is and what to try."""
    registry = stage.registry.host
    return f"""
[bold]It stays up.[/] Addresses, until Ctrl-C:
  API        {stage.base_url}/api/v1    [dim]described in[/] {stage.base_url}/openapi.json
  console    {stage.base_url}/
             [dim]sign in with the token {stage.api_token}, or, to act, with {stage.operator_token}[/]
  registry   {registry}    [dim]users ci, alice; passwords ci-password, alice-password[/]

[bold]Try[/]
  curl -H 'Authorization: Bearer {stage.api_token}' '{stage.base_url}/api/v1/tags?limit=5'
  skopeo copy --dest-tls-verify=false --dest-creds alice:alice-password \\
    docker://docker.io/library/alpine docker://{registry}/shop/alpine:mine
"""


def make_console() -> Console:
    """Print in the terminal's width; in a log, where nothing wraps well, wide enough for the tables."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False)
    return Console(highlight=False, width=WIDTH_WITHOUT_TERMINAL)


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Take being asked to end like a Ctrl-C, and repeat it: raised in a finalizer or a callback it would be lost."""
    signal.setitimer(signal.ITIMER_REAL, REPEATED_AFTER_SECONDS)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
