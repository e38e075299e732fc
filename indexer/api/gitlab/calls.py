"""The call of an endpoint, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multidict import MultiMapping

from indexer.store.listing.interned import Interned
from indexer.store.reading import Readers


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabCall:
    """One request that is authorized."""

    repository: str
    tag: str
    query: MultiMapping[str]
    readers: Readers
    interned: Interned


@dataclass(frozen=True, slots=True, kw_only=True)
class GitlabAnswer:
    """A body, and a Link header if there are other pages."""

    body: Any
    link: str | None = None
