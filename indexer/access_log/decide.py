"""The outcome of a request in an access log. Pure.

The rules, in their order:

- our own requests, which prove that they are (``inventory/own_requests``): nothing;
- 401 because a password was wrong: denied;
- any other 401: challenged. Every client gets it first, to learn how to log in. It is denied only if the same client
  gets no other answer in the same repository for ``apply.PENDING_FOR``: then it did not log in;
- 403: denied;
- 404 to a HEAD, or for a blob: the client checks whether it must upload; nothing;
- 404 to an OPTIONS: GitLab checks how it can delete tags, and the proxy files in deploy/ answer so before a
  Distribution 2.8; nothing;
- any other 4xx, and 5xx: failed;
- anything else succeeded: a notification reports it.

An answer other than 401 resolves the challenges that the same client got in that repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from indexer.access_log.line import UNAUTHORIZED, AccessLine
from indexer.inventory.own_requests import Claim, weigh_claim

FORBIDDEN = 403
NOT_FOUND = 404
FIRST_FAILURE = 400


class RequestOutcome(StrEnum):
    """The outcome of a request; also the label of ``indexer_access_log_lines_total``."""

    NOTHING = "nothing"
    SUCCEEDED = "succeeded"
    CHALLENGED = "challenged"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVerdict:
    """An outcome, and whether it resolves earlier challenges of the client in the repository."""

    outcome: RequestOutcome
    resolves_challenges: bool


def judge(line: AccessLine, *, own_key: bytes | None) -> RequestVerdict:
    """Decide the outcome of a request. ``own_key`` None: no request can prove to be our own."""
    if own_key is not None and _is_own(line, own_key):
        return RequestVerdict(outcome=RequestOutcome.NOTHING, resolves_challenges=False)
    if line.status == UNAUTHORIZED:
        outcome = RequestOutcome.DENIED if line.wrong_password else RequestOutcome.CHALLENGED
        return RequestVerdict(outcome=outcome, resolves_challenges=False)
    return RequestVerdict(outcome=_answered(line), resolves_challenges=True)


def _is_own(line: AccessLine, key: bytes) -> bool:
    """Return whether we made the request. Several lines may log one request, so a claim may come more than once."""
    if not line.claim:
        return False
    return weigh_claim(line.claim, key=key, method=line.method, path=line.path, at=line.at) is Claim.OWN


def _answered(line: AccessLine) -> RequestOutcome:
    if line.status < FIRST_FAILURE:
        return RequestOutcome.SUCCEEDED
    if line.status == FORBIDDEN:
        return RequestOutcome.DENIED
    if line.status == NOT_FOUND and (line.method in ("HEAD", "OPTIONS") or line.resource == "blobs"):
        return RequestOutcome.NOTHING
    return RequestOutcome.FAILED
