"""Real registries, brokers and clients that the tests run beside, fetched or built once and kept outside the checkout.

    python3 dev.py peers                     # the names
    python3 dev.py peers registry-3 regctl   # get these, and print where each is

A test whose peer is not here is skipped and says so; ``REQUIRE_REGISTRIES=1`` makes that a failure. What a distribution
packages (skopeo, nginx, Caddy, NATS, rsyslog) comes from its packages; ``.ci/run`` names them.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

from tools import azure_server, go_client, kafka_broker, registry_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

UNAVAILABLE = (
    registry_binary.NoRegistryError,
    kafka_broker.NoBrokerError,
    azure_server.NoAzureError,
    go_client.NoClientError,
)


def registry(major: int) -> str:
    """Get a Distribution registry of a major version; return its version and where it is."""
    found = registry_binary.find(major)
    return f"{found.version}, {found.origin}: {found.binary or f'{found.engine} {found.image}'}"


PEERS: Mapping[str, Callable[[], object]] = {
    "registry-2": functools.partial(registry, 2),
    "registry-3": functools.partial(registry, 3),
    "registry-3.0": functools.partial(registry_binary.build_release, "v3.0.0"),
    "kafka": kafka_broker.find,
    "azurite": azure_server.find,
    **{name: functools.partial(go_client.find, name) for name in go_client.CLIENTS},
}


def main(names: list[str]) -> int:
    """Get the peers that are named, else list them; return 1 where one cannot be had, 2 for an unknown name."""
    if unknown := [name for name in names if name not in PEERS]:
        print(f"no such peer: {', '.join(unknown)}; there are: {', '.join(PEERS)}", file=sys.stderr)
        return 2
    if not names:
        print("\n".join(PEERS))
    missing = False
    for name in names:
        try:
            print(f"{name}\t{PEERS[name]()}", flush=True)
        except UNAVAILABLE as error:
            print(f"{name}: {error}", file=sys.stderr)
            missing = True
    return int(missing)
