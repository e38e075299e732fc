"""The loop that pushes checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from indexer.background.loop import IterationResult
from indexer.common.errors import ConfigurationError, Postponed, RegistryDenied, RegistryMisbehaved
from indexer.oci.reference import RepositoryName, parse_repository_name
from indexer.settings import Settings
from indexer.store import checkpoints
from indexer.store.advisory_locks import LockKey, alone
from indexer.store.pool import Connection, Pool, connection
from reconciler.checkpoints.decide import PushOutcome
from reconciler.checkpoints.push import push_newest
from reconciler.registry.protocol import WritableRegistry

REST_SECONDS = 5.0
REFUSED_REST_SECONDS = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PushSettings:
    """The repository that checkpoints are pushed to, and the time from one push, or check, to the next."""

    repository: RepositoryName
    interval: timedelta


def push_settings(settings: Settings) -> PushSettings | None:
    """Return where to push and how often; None where that is not configured. Raises ``ConfigurationError``."""
    name = settings.reconciler_checkpoint_repository
    if name is None:
        return None
    try:
        repository = parse_repository_name(name)
    except ValueError as error:
        raise ConfigurationError(f"RECONCILER_CHECKPOINT_REPOSITORY: {error}") from None
    return PushSettings(repository=repository, interval=settings.reconciler_checkpoint_interval)


class CheckpointPusher:
    """Pushes the newest checkpoint into the registry, once per interval; of several processes one does."""

    name = "checkpoint-push"

    def __init__(self, pool: Pool, registry: WritableRegistry, settings: PushSettings) -> None:
        self._pool = pool
        self._registry = registry
        self._settings = settings

    async def run_once(self) -> IterationResult:
        """Push if the interval is over and there is something new; raise the registry errors."""
        now = datetime.now(UTC)
        async with connection(self._pool) as held, alone(held, LockKey.PUSHING) as locked:
            pushed = locked and await self._push(held, now)
        return IterationResult(items=int(pushed), rest_seconds=REST_SECONDS)

    async def _push(self, held: Connection, now: datetime) -> bool:
        repository = self._settings.repository
        newest = await checkpoints.newest_checkpoint(held)
        last = await checkpoints.last_push(held, repository=repository)
        # A last push in the future was dated by a wrong clock: do not wait for it.
        if newest is None or (
            last is not None and timedelta(0) <= now - last.observed_at < self._settings.interval
        ):
            return False
        try:
            result = await push_newest(held, self._registry, repository=repository, newest=newest, now=now)
        except (RegistryDenied, RegistryMisbehaved) as error:
            # An operator has to act. Until then checks must not fill the log with pulls of that manifest.
            raise Postponed(str(error), rest_seconds=REFUSED_REST_SECONDS) from error
        return result.outcome is PushOutcome.PUSHED
