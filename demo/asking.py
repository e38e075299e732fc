"""What the indexer answers: its HTTP API, asked as any operator would."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

from demo.stage import DemoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.stage import Stage

Json: TypeAlias = dict[str, Any]

VERIFIED_WITHIN_SECONDS = 60.0
ALL_TAGS = "/api/v1/tags?sort=-published_at"
ON_ARM = "/api/v1/repositories/shop/web/tags?platform=linux/arm64&sort=-published_at"
ONE_TAG = "/api/v1/repositories/shop/web/tags/1.2.0"
ITS_HISTORY = "/api/v1/repositories/shop/web/tags/latest/history"
AUDIT = "/api/v1/audit?limit=100"
DRIFT = "/api/v1/drift"
STATUS = "/api/v1/status"


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything the demo shows, as it was answered."""

    tags: list[Json]
    on_arm: list[Json]
    one_tag: Json
    history: list[Json]
    audit: list[Json]
    drift: list[Json]


class Asker:
    """Asks with the operator's token."""

    def __init__(self, stage: Stage) -> None:
        headers = {"Authorization": f"Bearer {stage.api_token}"}
        self._client = httpx.Client(base_url=stage.base_url, headers=headers, timeout=10)

    def get(self, path: str) -> Json:
        """Ask one question."""
        answer = self._client.get(path)
        if not answer.is_success:
            raise DemoError(f"GET {path}: {answer.status_code} {answer.text}")
        body: Json = answer.json()
        return body

    def everything(self) -> Shown:
        """Ask for all that is shown."""
        return Shown(
            tags=self.get(ALL_TAGS)["items"],
            on_arm=self.get(ON_ARM)["items"],
            one_tag=self.get(ONE_TAG),
            history=self.get(ITS_HISTORY)["items"],
            audit=self.get(AUDIT)["items"],
            drift=self.get(DRIFT)["items"],
        )

    def wait_for_first_reconcile(self) -> None:
        """Wait until the reconciler has seen the empty registry: what it finds later is a change."""
        self._wait("the first full reconcile", lambda: self.get(STATUS)["last_reconcile"] is not None)

    def wait_until_settled(self, entries: int) -> None:
        """Wait until so many audit entries are sealed, and every tag and manifest is verified."""

        def verified() -> bool:
            status = self.get(STATUS)
            waiting = sum(work["waiting"] for work in status["backlog"].values())
            busy = status["inbox"] + status["quarantine"] + status["unsealed"]["entries"] + waiting
            return bool(status["audit_position"] >= entries and not busy)

        self._wait(f"{entries} audit entries, and for every tag to be verified", verified)

    def _wait(self, what: str, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + VERIFIED_WITHIN_SECONDS
        while not reached():
            if time.monotonic() > deadline:
                status = self.get(STATUS)
                shown = {name: status[name] for name in ("inbox", "quarantine", "audit_position", "backlog")}
                raise DemoError(f"waited {VERIFIED_WITHIN_SECONDS:.0f} s for {what}; the status says {shown}")
            time.sleep(0.05)
