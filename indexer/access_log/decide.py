"""What a line of an access log comes to. Pure.

The rules, in their order:

- our own requests, by what proves them (``inventory/own_requests``), and what is no request to a repository or the
  catalog: nothing;
- 401 because a password was wrong: denied;
- any other 401: the challenge by which every client learns how to log in. It is denied only if the same client gets
  nothing else of the same repository within a while: then it never did log in;
- 403: denied;
- 404 of a HEAD, or of a blob: a client that looks whether it must upload; nothing;
- 404 of an OPTIONS: GitLab that looks how it can delete tags, as deploy/ has the proxy before a 2.8 answer it; nothing;
- any other 4xx, and 5xx: failed;
- the rest succeeded: the notification tells it.

Whatever is not a 401 settles the challenges that the same client had met in that repository.
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
    """What a line comes to; also the label of the metric."""

    NOTHING = "nothing"
    SUCCEEDED = "succeeded"
    CHALLENGED = "challenged"
    DENIED = "denied"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestVerdict:
    """An outcome, and whether it settles what the client was challenged for."""

    outcome: RequestOutcome
    settles: bool


def judge(line: AccessLine, *, own_key: bytes | None) -> RequestVerdict:
    """Decide what a line comes to. ``own_key`` None: nothing proves a request to be ours."""
    if own_key is not None and _is_own(line, own_key):
        return RequestVerdict(outcome=RequestOutcome.NOTHING, settles=False)
    if line.status == UNAUTHORIZED:
        return RequestVerdict(
            outcome=RequestOutcome.DENIED if line.wrong_password else RequestOutcome.CHALLENGED, settles=False
        )
    return RequestVerdict(outcome=_answered(line), settles=True)


def _is_own(line: AccessLine, key: bytes) -> bool:
    """Tell whether we made the request. One request may be several lines, so none is refused for being the second."""
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
