"""The User-Agent of our own requests. The proof that they are ours is in ``inventory/own_requests``."""

from __future__ import annotations

from typing import Final

USER_AGENT_PRODUCT: Final = "registry-indexer-reconciler"
"""Product token (RFC 9110 section 10.1.5) of every request the reconciler sends to the registry."""


def user_agent(version: str) -> str:
    """Return the ``User-Agent`` header for this version of the program."""
    return f"{USER_AGENT_PRODUCT}/{version}"


def is_ours(user_agent: str) -> bool:
    """Tell whether a ``User-Agent`` is a reconciler's. Anybody can send it, so it proves nothing.

    Only the first product counts: a proxy may add its own behind it, and a client that merely mentions ours
    in a comment is not us.
    """
    product = user_agent.split(maxsplit=1)[0] if user_agent.strip() else ""
    return product.partition("/")[0] == USER_AGENT_PRODUCT
