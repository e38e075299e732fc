"""What an endpoint is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from indexer.store.listing.words import Words
from indexer.store.reading import Readers


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One question, whose asker may ask it."""

    repository: str
    tag: str
    query: MultiMapping[str]
    readers: Readers
    words: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A body, and a Link header where there are other pages."""

    body: Any
    link: str | None = None
