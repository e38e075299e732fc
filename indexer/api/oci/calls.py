"""The call of an endpoint, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

from multidict import MultiMapping

from indexer.store.reading import Readers


@dataclass(frozen=True, slots=True, kw_only=True)
class OciCall:
    """One request that is authorized; ``digest`` is "" where the path has none."""

    repository: str
    digest: str
    path: str
    query: MultiMapping[str]
    readers: Readers


@dataclass(frozen=True, slots=True, kw_only=True)
class OciAnswer:
    """An encoded body, its media type, and further headers."""

    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def next_page(path: str, parameters: Mapping[str, str]) -> str:
    """Return a Link to the next page (RFC 8288); relative, as registries do, since a proxy may change the host."""
    return f'<{path}?{urlencode(parameters)}>; rel="next"'
