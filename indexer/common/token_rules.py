"""What a token of ours must be like to guard anything. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SHORTEST: Final = 8
"""Characters. Not a measure of strength, which cannot be seen: it tells a placeholder from a secret."""

HOW: Final = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))' makes one"


def judge_tokens(
    *,
    notifications: str | None,
    api: Sequence[str],
    access_log: str | None = None,
    proxy: str | None = None,
    operator: Sequence[str] = (),
    in_use: Sequence[str] = (),
) -> str | None:
    """Say which token cannot stand, and why; None: all can.

    The registry writes the notifications token into its log and shows it at its debug address: whoever reads those must
    not be able to read the API with it. The proxy's secret opens what the registry would ask a client's token for, so
    it is shared with no other party either.
    """
    named = [
        *(("INDEXER_API_TOKENS", token) for token in api),
        *(("INDEXER_OPERATOR_TOKENS", token) for token in operator),
        *(("INDEXER_IN_USE_TOKENS", token) for token in in_use),
        *(() if notifications is None else (("INDEXER_NOTIFICATIONS_TOKEN", notifications),)),
        *(() if access_log is None else (("INDEXER_ACCESS_LOG_TOKEN", access_log),)),
        *(() if proxy is None else (("INDEXER_PROXY_SECRET", proxy),)),
    ]
    for name, token in named:
        if len(token) < SHORTEST:
            return f"{name}: a token has at least {SHORTEST} characters; {HOW}"
    if notifications is not None and notifications in api:
        return (
            "INDEXER_API_TOKENS holds the value of INDEXER_NOTIFICATIONS_TOKEN, which the registry logs and shows at "
            f"its debug address; {HOW}"
        )
    if access_log is not None and access_log in api:
        return f"INDEXER_API_TOKENS holds the value of INDEXER_ACCESS_LOG_TOKEN, which collectors hold; {HOW}"
    if (shared := _shared(named)) is not None:
        return shared
    if proxy is not None:
        for name, token in named[:-1]:
            if token == proxy:
                return f"{name} holds the value of INDEXER_PROXY_SECRET, which the proxy holds; {HOW}"
    return None


def _shared(named: Sequence[tuple[str, str]]) -> str | None:
    """Say which secret stands twice, once of them as an operator's or an in-use token; None: none does."""
    for index, (name, token) in enumerate(named):
        for other, same in named[:index]:
            if token == same and {name, other} & {"INDEXER_OPERATOR_TOKENS", "INDEXER_IN_USE_TOKENS"}:
                where = f"twice in {name}" if name == other else f"in {other} and in {name}"
                return f"one secret stands {where}: each has its own, or the log names the wrong one; {HOW}"
    return None
