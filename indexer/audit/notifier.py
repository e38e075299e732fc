"""Tells whoever waits in this process that entries were sealed: one LISTEN for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class SealNotifier:
    """Rings everyone who listens."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def wake(self) -> None:
        """There may be something new."""
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at every ring from now on; before those who listen later."""
        self._listeners.append(listener)

    @contextmanager
    def rings(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` at every ring from now until the end."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)
