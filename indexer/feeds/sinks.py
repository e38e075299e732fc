"""What a sink is, and which module knows each kind."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from indexer.audit.cloudevents import DeliveredEvent
from indexer.feeds.config import KINDS, FeedBase, FeedsFile, wrong_key

MODULES = {kind: f"indexer.feeds.{kind}" for kind in KINDS}
"""Where ``open_sink`` of each kind is. A client that is an extra of the package is loaded with it."""


class Sink(Protocol):
    """Where a feed delivers to. Connects when first needed, and again after ``close``."""

    largest_batch: int
    """Events that it takes together, at most."""

    async def deliver(self, events: Sequence[DeliveredEvent], *, replay: int) -> None:
        """Return once all of them are taken for good, in order; ``replay`` is 0 before the first replay.

        Raises ``SinkUnavailable`` (try again), ``SinkRefused`` (these events are wrong) or ``SinkGone``. Events
        may have been delivered before, or in part.
        """
        ...

    async def begin_replay(self, replay: int) -> None:
        """Prepare for what was delivered to be delivered again; the first replay is number 1."""
        ...

    async def close(self) -> None:
        """Give up what is held."""
        ...


def read_feeds(path: Path | None) -> tuple[FeedsFile, list[tuple[FeedBase, Sink]]]:
    """Return what a file says, and its feeds with their sinks; raise ``ConfigurationError``. None: no feeds."""
    file = FeedsFile() if path is None else FeedsFile.read(path)
    return file, [(feed, open_sink(feed)) for feed in file.feed]


def open_sink(feed: FeedBase) -> Sink:
    """Return the sink of a feed; raise ``ConfigurationError`` where it cannot be made."""
    try:
        module = import_module(MODULES[feed.kind])
    except ImportError as error:
        reason = f"{feed.kind!r} needs {error.name}: pip install 'registry-indexer[feeds-{feed.kind}]'"
        raise wrong_key(feed.name, "kind", reason) from None
    return module.open_sink(feed)  # type: ignore[no-any-return]  # each module's returns a Sink
