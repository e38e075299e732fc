"""What every test may ask for; each room of fixtures says in its module what it gives."""

from __future__ import annotations

import signal

pytest_plugins = [
    "tests.fixtures.selection",
    "tests.fixtures.failures",
    "tests.fixtures.programs",
    "tests.fixtures.requests",
    "tests.fixtures.postgres",
    "tests.fixtures.fault_proxy",
    "tests.fixtures.registries",
    "tests.fixtures.collectors",
    "tests.fixtures.s3",
    "tests.fixtures.azure",
    "tests.fixtures.ingesting",
    "tests.fixtures.asking",
    "tests.fixtures.trusting",
    "tests.fixtures.installation",
    "tests.fixtures.guarded",
    "tests.fixtures.acting",
    "tests.fixtures.storage",
    "tests.fixtures.feeding",
    "tests.fixtures.sinks",
    "tests.fixtures.feed_secrets",
]


def pytest_configure() -> None:
    """A shell that starts the tests in the background lets them ignore Ctrl-C, and so every process they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
