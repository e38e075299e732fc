"""``tags/list``, for every way the versions answer it.

2.8 ignores ``n`` and ``last``: one answer, in directory order. 3.x answers everything unless asked for pages;
3.1.1 pages are at most ``tags.maxtags``. Each page costs the registry a full listing, so none are asked for;
where the registry pages by itself its links are followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from indexer.errors import RegistryMisbehaved
from indexer.oci.reference import RepositoryName, TagName, parse_tag_name
from reconciler.registry.answers import TagListing
from reconciler.registry.auth import repository_scope
from reconciler.registry.headers import next_page_marker
from reconciler.registry.transport import Answer, Request, Transport

LISTING_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Two million tags of the greatest length; more is not a listing."""

_OK: Final = 200
_NOT_FOUND: Final = 404
_NAME_UNKNOWN: Final = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class _Page:
    answer: Answer
    names: Sequence[str] | None
    """None: the registry says the repository is unknown."""
    marker: str | None


async def list_tags(
    transport: Transport, repository: RepositoryName, *, page_size: int | None = None
) -> TagListing:
    """List every tag name; a page that is broken or missing raises, it never shortens the list.

    ``page_size`` asks 3.x for pages; without it the registry decides.
    """
    page = await _get_page(transport, repository, page_size, marker=None)
    first, markers = page.answer, set[str]()
    names: dict[str, None] = {}
    reasons: list[str] = []
    while page.names is not None:
        names.update(dict.fromkeys(page.names))
        if page.marker is None:
            break
        if page.marker in markers:
            raise RegistryMisbehaved(f"{first.asked}: its pages go round in circles at {page.marker[:80]!r}")
        markers.add(page.marker)
        page = await _get_page(transport, repository, page_size, marker=page.marker)
    else:
        if markers:
            reasons.append("the repository vanished between two pages")
    tags, odd = _parse_names(names)
    if odd:
        reasons.append(f"{odd} names that are no tags were left out")
    return TagListing(
        looked_at=first.looked_at,
        registry_clock=first.registry_clock,
        names=tags,
        complete=not reasons,
        unknown_repository=page.names is None and not markers,
        reasons=tuple(reasons),
    )


async def _get_page(
    transport: Transport, repository: RepositoryName, page_size: int | None, *, marker: str | None
) -> _Page:
    query = [("n", str(page_size))] if page_size is not None else []
    if marker is not None:
        query.append(("last", marker))
    request = Request(
        method="GET",
        path=f"/v2/{repository}/tags/list",
        scope=repository_scope(repository, "pull"),
        expect=frozenset({_OK, _NOT_FOUND}),
        limit=LISTING_LIMIT_BYTES,
        query=query,
        timeout_seconds=transport.settings.listing_timeout_seconds,
    )
    answer = await transport.send(request)
    if answer.status == _NOT_FOUND:
        if answer.error_codes() != (_NAME_UNKNOWN,):
            raise RegistryMisbehaved(
                f"{answer.asked}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return _Page(answer, None, None)
    return _Page(answer, _read_names(answer, repository), next_page_marker(answer.headers.getall("Link", [])))


def _read_names(answer: Answer, repository: RepositoryName) -> list[str]:
    """Read ``{"name": …, "tags": [...] | null}`` about this repository and nothing else."""
    try:
        value: Any = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        raise RegistryMisbehaved(f"{answer.asked}: 200, but not JSON ({error})") from error
    if not isinstance(value, dict) or value.get("name") != repository or "tags" not in value:
        raise RegistryMisbehaved(f"{answer.asked}: 200, but no tag listing of this repository")
    tags = value["tags"] or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RegistryMisbehaved(f"{answer.asked}: a tag listing whose tags are no texts")
    return tags


def _parse_names(names: dict[str, None]) -> tuple[tuple[TagName, ...], int]:
    """Return the names that are tags, and how many are not (a stray file in the storage)."""
    tags: list[TagName] = []
    for name in names:
        try:
            tags.append(parse_tag_name(name))
        except ValueError:
            continue
    return tuple(tags), len(names) - len(tags)
