"""Lines of access logs → entries of the audit log about requests that were denied or failed.

Distribution sends no notification for those. Equal requests (actor, client, what was requested, outcome) within a
minute are one entry with the exact count, so that a client that retries without end does not fill the log. A challenge
is pending for as long, since most clients log in next and succeed.

    line ──▶ pending (access_log_pending) ──a minute──▶ staged
                  └──challenge, and the client logged in──▶ forgotten
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

from prometheus_client import Counter

from indexer.access_log.decide import RequestOutcome, judge
from indexer.access_log.line import AccessLine, Unreadable, parse_line
from indexer.inventory.changes import AuditAction
from indexer.inventory.events import RequestInfo
from indexer.oci.digest import parse_digest
from indexer.store import access, own_requests
from indexer.store.access import Pending
from indexer.store.identifiers import is_canonical
from indexer.store.lookups import Lookups
from indexer.store.pool import Connection, Pool, transaction

PENDING_FOR = timedelta(seconds=60)
MOST_PENDING = 10_000
"""Different requests within a minute; further ones are counted as ``left_out``, and make no entry."""

BATCH = 500

LINES = Counter("indexer_access_log_lines_total", "Lines of access logs, by outcome.", ["outcome"])


async def take_lines(held: Connection, lines: Iterable[bytes], *, now: datetime) -> None:
    """Apply lines in their order, in the caller's transaction. One that cannot be read is counted, never an error."""
    pending: dict[uuid.UUID, Pending] = {}
    resolved: set[uuid.UUID] = set()
    own_key: bytes | None = None
    for text in lines:
        try:
            line = parse_line(text, now=now)
        except Unreadable:
            LINES.labels("unreadable").inc()
            continue
        if line is None:
            LINES.labels("other").inc()
            continue
        if line.claim and own_key is None:
            own_key = await own_requests.own_key(held)
        verdict = judge(line, own_key=own_key)
        LINES.labels(verdict.outcome).inc()
        handshake = _key(line.address, line.user_agent, line.repository)
        if verdict.resolves_challenges:
            resolved.add(handshake)
            pending = {key: one for key, one in pending.items() if one.handshake != handshake}
        if verdict.outcome in (RequestOutcome.CHALLENGED, RequestOutcome.DENIED, RequestOutcome.FAILED):
            challenged = verdict.outcome is RequestOutcome.CHALLENGED
            one = _pending(line, verdict.outcome, handshake if challenged else None)
            before = pending.get(one.key)
            pending[one.key] = one if before is None else before.joined(one)
    if resolved:
        await access.forget_resolved(held, handshakes=resolved)
    if pending:
        left_out = await access.put_pending(held, pending=list(pending.values()), at=now, most=MOST_PENDING)
        LINES.labels("left_out").inc(left_out)


async def stage_pending(pool: Pool, lookups: Lookups, *, now: datetime, limit: int = BATCH) -> int:
    """Stage entries for requests that are pending for ``PENDING_FOR``; return how many."""
    async with transaction(pool) as held:
        ripe = await access.take_pending(held, before=now - PENDING_FOR, limit=limit)
        if not ripe:
            return 0
        lines = [AccessLine(**(dict(one.line) | {"at": one.last_at})) for one in ripe]
        requests = [_request(line) for line in lines]
        await access.stage_requests(
            held,
            pending=ripe,
            at=now,
            actor_ids=await lookups.actors(line.actor for line in lines if line.actor),
            actors=[line.actor for line in lines],
            client_ids=await lookups.clients(requests),
            requests=requests,
            repositories=[line.repository for line in lines],
            tags=[_tag(line) for line in lines],
            details=[_detail(one, line) for one, line in zip(ripe, lines, strict=True)],
        )
    return len(ripe)


def _pending(line: AccessLine, outcome: RequestOutcome, handshake: uuid.UUID | None) -> Pending:
    action = AuditAction.REQUEST_FAILED if outcome is RequestOutcome.FAILED else AuditAction.REQUEST_DENIED
    return Pending(
        key=_key(
            action,
            line.address,
            line.user_agent,
            line.actor,
            line.repository,
            line.resource,
            line.reference,
            line.method,
            str(line.status),
            line.error,
            "wrong password" if line.wrong_password else "",
        ),
        handshake=handshake,
        action=action,
        first_at=line.at,
        last_at=line.at,
        times=1,
        line=asdict(line) | {"at": None, "claim": None, "path": ""},
    )


def _request(line: AccessLine) -> RequestInfo:
    return RequestInfo(
        id=line.request_id or None,
        address=line.address,
        port=line.port,
        host=line.host,
        method=line.method,
        user_agent=line.user_agent,
    )


def _tag(line: AccessLine) -> str | None:
    return None if line.resource != "manifests" or ":" in line.reference else line.reference or None


def _detail(one: Pending, line: AccessLine) -> dict[str, object]:
    """Return what no column holds. A digest is text here: there may be no such content, so it gets no row."""
    try:
        digest: str | None = parse_digest(line.reference) if ":" in line.reference else None
    except ValueError:
        digest = None
    request_id = line.request_id
    members = {
        "status": line.status,
        "asked": line.resource,
        "error": line.error,
        "wrong_password": line.wrong_password or None,
        "digest": digest,
        "named_repository": line.repository,
        "registry_instance_id": line.instance_id,
        "request_id": request_id if request_id and not is_canonical(request_id) else None,
        "times": one.times if one.times > 1 else None,
    }
    return {name: value for name, value in members.items() if value not in (None, "")}


def _key(*parts: str) -> uuid.UUID:
    return uuid.UUID(bytes=hashlib.sha256("\x00".join(parts).encode("utf-8", "replace")).digest()[:16])
