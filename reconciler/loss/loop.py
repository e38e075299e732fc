"""Reads the debug addresses every few seconds, keeps one account of each, and states what our downtime may have lost.

One process at a time does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from indexer.background.loop import IterationResult
from indexer.inventory.loss import Account, LossState, LossStatement
from indexer.store import loss, receiver_sessions
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.pool import Connection, Pool, connection
from reconciler.loss.decide import Decision, Received, Sample, decide, find_instances
from reconciler.loss.downtime import after_downtime, downtimes
from reconciler.loss.observe import Unread, sample_all, shown_address

log = structlog.get_logger()

REST_SECONDS: Final = 5.0
"""Events that a process makes after its last reading are not counted if it ends, so readings are close together."""

DEADLINE_SECONDS: Final = 5.0
INBOX_WAIT_SECONDS: Final = 2.0
SESSION_STALE: Final = timedelta(seconds=15)
"""A server without a heartbeat for so long is gone, and its spool with it, until it is back."""

POLL_SECONDS: Final = 0.05


class Accountant:
    """The loop that keeps an account for each registry process."""

    name = "loss"

    def __init__(self, pool: Pool, *, debug_urls: Sequence[str], token: str | None) -> None:
        self._pool = pool
        self._addresses = tuple(dict.fromkeys(url.rstrip("/") for url in debug_urls))
        self._token = token
        # httpx logs every address at info, and an address may hold a password.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    async def run_once(self) -> IterationResult:
        """Read every address once and store what follows, unless another process does."""
        async with connection(self._pool) as held, alone(held, LockKey.ACCOUNTS) as accountant:
            if not accountant:
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            accounts = await loss.list_accounts(held)
            await _decide_downtimes(held, accounts.values())
            for address in accounts.keys() - set(map(shown_address, self._addresses)):
                await _drop(held, accounts[address])
            if not self._addresses:
                return IterationResult(items=0, rest_seconds=REST_SECONDS)
            import httpx  # noqa: PLC0415 - it holds 2 MiB, which only who reads debug addresses needs

            before = await loss.count_received(held)
            async with httpx.AsyncClient(
                timeout=DEADLINE_SECONDS, follow_redirects=False, trust_env=False
            ) as client:
                readings = await sample_all(client, self._addresses, token=self._token)
            received, caught_up = await self._received(held, before)
            samples = {
                address: found
                for address, found in readings.items()
                if isinstance(found, Sample) and (address in accounts or not found.blank)
            }
            for address, found in readings.items():
                if isinstance(found, Unread):
                    log.warning("debug_address_unread", address=address, error=found.because)
                    await loss.record_unreadable(held, address=address, error=found.because)
            instances = _instances(accounts, samples, received)
            for address, sample in samples.items():
                number = instances.get(address)
                account = accounts.get(address)
                known = None if account is None else replace(account, instance_id=number)
                ours = None if number is None else received.get(number)
                decision = decide(known, sample, address=address, received=ours, caught_up=caught_up)
                await _store(held, known, decision, begin=not sample.blank)
            await loss.drop_covered_statements(held)
        return IterationResult(items=len(samples), rest_seconds=REST_SECONDS)

    async def _received(
        self, held: Connection, before: Mapping[int, int]
    ) -> tuple[dict[int, Received], bool]:
        """Count the events received again; the second value: the inbox has caught up with the reading."""
        read_at = datetime.now(UTC)
        received_since = read_at - SESSION_STALE
        lags = await loss.waits_since_before(held, before=read_at, received_since=received_since)
        for _ in range(int(INBOX_WAIT_SECONDS / POLL_SECONDS)):
            if not lags:
                break
            await asyncio.sleep(POLL_SECONDS)
            lags = await loss.waits_since_before(held, before=read_at, received_since=received_since)
        after = await loss.count_received(held)
        received = {
            number: Received(before=before.get(number, 0), after=count, complete=not lags)
            for number, count in after.items()
        }
        return received, not lags


async def _decide_downtimes(held: Connection, accounts: Iterable[Account]) -> None:
    """State what our own downtimes may have lost, the oldest first, each as soon as that is possible."""
    unlinked = any(account.instance_id is None for account in accounts)
    decided = await loss.decided_until(held)
    for downtime in downtimes(await receiver_sessions.list_receiver_sessions(held)):
        if decided is not None and downtime.to_at <= decided:
            continue
        now = datetime.now(UTC)
        statements = after_downtime(
            downtime, await loss.list_instances(held), now=now, some_unlinked=unlinked
        )
        if statements is None:
            return
        async with held.transaction():
            await loss.add_downtime(held, downtime=downtime, statements=statements)
        log.warning(
            "receiver_downtime",
            from_at=downtime.from_at.isoformat(),
            to_at=downtime.to_at.isoformat(),
            unknown=len(statements),
            reconcile=any(each.needs_reconcile for each in statements.values()),
        )


async def _drop(held: Connection, account: Account) -> None:
    """End the account of an address that is no longer configured: what it had not accounted for stays unknown."""
    now = datetime.now(UTC)
    statement = LossStatement(
        state=LossState.UNKNOWN,
        from_at=account.accounted_until,
        to_at=now,
        because="its address is no longer in RECONCILER_REGISTRY_DEBUG_URLS",
    )
    async with held.transaction():
        await loss.end_account(held, address=account.address, at=now)
        await loss.add_statement(held, process_id=account.id, statement=statement)


async def _store(held: Connection, before: Account | None, decision: Decision, *, begin: bool) -> None:
    """Store a decision; ``begin``: a new account may begin with this reading."""
    account = decision.account
    async with held.transaction():
        if decision.ended:
            await loss.end_account(held, address=account.address, at=account.began_at)
        # A statement that ends an account is about the process that ended.
        about = before.id if before is not None else 0
        if not decision.ended or begin:
            number = await loss.save_account(held, account=account)
            about = about if decision.ended else number
        for statement in decision.statements:
            await loss.add_statement(held, process_id=about, statement=statement)
    for statement in decision.statements:
        if statement.needs_reconcile:
            log.warning(
                "events_may_be_lost",
                address=account.address,
                state=statement.state,
                lost=statement.lost,
                because=statement.because,
            )


def _instances(
    accounts: Mapping[str, Account], samples: Mapping[str, Sample], received: Mapping[int, Received]
) -> dict[str, int]:
    """Return the instance of each address's counters: the one on record, or the one found now."""
    known = {
        address: account.instance_id
        for address, account in accounts.items()
        if account.instance_id is not None
    }
    unknown = {
        address: sample for address, sample in samples.items() if address in accounts and address not in known
    }
    return known | find_instances(unknown, received, list(known.values()))
