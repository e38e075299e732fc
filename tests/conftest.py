"""What every test may ask for; each room of fixtures says in its module what it gives."""

from __future__ import annotations

pytest_plugins = [
    "tests.fixtures.postgres",
    "tests.fixtures.fault_proxy",
    "tests.fixtures.registries",
    "tests.fixtures.ingesting",
    "tests.fixtures.asking",
    "tests.fixtures.trusting",
    "tests.fixtures.installation",
    "tests.fixtures.feeding",
    "tests.fixtures.sinks",
    "tests.fixtures.feed_secrets",
]
