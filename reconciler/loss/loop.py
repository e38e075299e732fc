"""Reads every debug address every few seconds and keeps the accounts. One process does at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import httpx
import structlog

from indexer.inventory.loss import Account
from indexer.service import Round
from indexer.store import loss
from indexer.store.pool import Connection, Pool, connection
from reconciler.loss.decide import Decision, Received, Sample, decide, find_instances
from reconciler.loss.observe import Unread, sample_all, shown_address

log = structlog.get_logger()

REST_SECONDS: Final = 5.0
"""What a process makes after its last reading is not known once it ended, so the readings are close."""

DEADLINE_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.05


class Accountant:
    """The loop that keeps the accounts."""

    name = "loss"

    def __init__(self, pool: Pool, *, debug_urls: Sequence[str], token: str | None) -> None:
        self._pool = pool
        self._addresses = tuple(dict.fromkeys(url.rstrip("/") for url in debug_urls))
        self._token = token
        # httpx logs every address at info, and an address may hold a password.
        logging.getLogger("httpx").setLevel(logging.WARNING)

    async def run_once(self) -> Round:
        """Read every address once and write what follows, unless another process does."""
        async with connection(self._pool) as held, loss.only_accountant(held) as alone:
            if not alone:
                return Round(items=0, rest_seconds=REST_SECONDS)
            accounts = await loss.list_accounts(held)
            for address in accounts.keys() - set(map(shown_address, self._addresses)):
                await loss.end_account(held, address=address, at=datetime.now(UTC))
            before = await loss.count_received(held)
            async with httpx.AsyncClient(
                timeout=DEADLINE_SECONDS, follow_redirects=False, trust_env=False
            ) as client:
                readings = await sample_all(client, self._addresses, token=self._token)
            received = await self._received(held, before)
            samples = {key: found for key, found in readings.items() if isinstance(found, Sample)}
            for address, found in readings.items():
                if isinstance(found, Unread):
                    log.warning("debug_address_unread", address=address, error=found.because)
                    await loss.note_unread(held, address=address, error=found.because)
            instances = _instances(accounts, samples, received)
            for address, sample in samples.items():
                number = instances.get(address)
                account = accounts.get(address)
                known = None if account is None else replace(account, instance_id=number)
                ours = None if number is None else received.get(number)
                await _write(held, known, decide(known, sample, address=address, received=ours))
        return Round(items=len(samples), rest_seconds=REST_SECONDS)

    async def _received(self, held: Connection, before: Mapping[int, int]) -> dict[int, Received]:
        """Count again once the inbox has caught up with the reading, or say that it has not."""
        read_at = datetime.now(UTC)
        lags = await loss.waits_since_before(held, before=read_at)
        for _ in range(int(SETTLE_SECONDS / POLL_SECONDS)):
            if not lags:
                break
            await asyncio.sleep(POLL_SECONDS)
            lags = await loss.waits_since_before(held, before=read_at)
        after = await loss.count_received(held)
        return {
            number: Received(before=before.get(number, 0), after=count, complete=not lags)
            for number, count in after.items()
        }


async def _write(held: Connection, before: Account | None, decision: Decision) -> None:
    account = decision.account
    async with held.transaction():
        if decision.ended:
            await loss.end_account(held, address=account.address, at=account.began_at)
        number = await loss.save_account(held, account=account)
        # What ended an account is said of the process that ended.
        about = before.id if decision.ended and before is not None else number
        for statement in decision.statements:
            await loss.add_statement(held, process_id=about, statement=statement)
    for statement in decision.statements:
        if statement.walk:
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
    """Return whose counters each address shows: as on record, or found out now."""
    known = {
        address: account.instance_id
        for address, account in accounts.items()
        if account.instance_id is not None
    }
    unknown = {
        address: sample for address, sample in samples.items() if address in accounts and address not in known
    }
    return known | find_instances(unknown, received, list(known.values()))
