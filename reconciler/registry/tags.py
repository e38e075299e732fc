"""``tags/list``, for every way the versions answer it.

2.8 ignores ``n`` and ``last``: one answer, in directory order. 3.x answers everything unless asked for pages;
3.1.1 pages are at most ``tags.maxtags``. Each page costs the registry a full listing, so none are asked for;
where the registry pages by itself its links are followed, as long as each page brings names and all of them are not
more than a listing may be: what is found beyond a page that brings none, or never ends, is no listing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from indexer.common.errors import RegistryMisbehaved
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry.answers import TagListing
from reconciler.registry.auth import repository_scope
from reconciler.registry.headers import next_page_marker
from reconciler.registry.names import Collector
from reconciler.registry.transport import Request, Transport

LISTING_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Two million tags of the greatest length; more is not a listing."""

MAX_PAGES: Final = 100_000
SLICE_BYTES: Final = 256 * 1024
"""How much of a large listing is taken apart at a time."""

_TAGS: Final = b'"tags":['
_BETWEEN: Final = b'","'
_OK: Final = 200
_NOT_FOUND: Final = 404
_NAME_UNKNOWN: Final = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class _Page:
    asked: str
    observed_at: datetime
    registry_clock: datetime | None
    is_known: bool
    """False: the registry says the repository is unknown."""
    marker: str | None = None
    brought_names: bool = False


async def list_tags(
    transport: Transport, repository: RepositoryName, *, page_size: int | None = None
) -> TagListing:
    """List every tag name; a page that is broken or missing raises, it never shortens the list.

    ``page_size`` asks 3.x for pages; without it the registry decides.
    """
    found = Collector()
    page = first = await _get_page(transport, repository, page_size, marker=None, into=found)
    markers = set[str]()
    reasons: list[str] = []
    while page.is_known:
        if page.marker is None:
            break
        if page.marker in markers:
            raise RegistryMisbehaved(f"{first.asked}: its pages go round in circles at {page.marker[:80]!r}")
        markers.add(page.marker)
        if not page.brought_names:
            reasons.append("a page of the listing brought nothing new, and says that there are more")
            break
        if found.size_bytes > LISTING_LIMIT_BYTES or len(markers) > MAX_PAGES:
            reasons.append(
                f"the listing has no end: {found.size_bytes} bytes of names on {len(markers)} pages"
            )
            break
        page = await _get_page(transport, repository, page_size, marker=page.marker, into=found)
    else:
        if markers:
            reasons.append("the repository vanished between two pages")
    return TagListing(
        observed_at=first.observed_at,
        registry_clock=first.registry_clock,
        names=await asyncio.to_thread(found.names),
        complete=not reasons,
        unknown_repository=not page.is_known and not markers,
        reasons=tuple(reasons),
        left_out=found.odd,
        left_out_examples=found.odd_examples,
    )


async def list_tags_behind(
    transport: Transport, repository: RepositoryName, *, last: str, size: int
) -> list[TagName]:
    """Return one page that begins after ``last``, in the order of S3; see ``hidden_tags`` for what it is good for.

    ``last`` need be no tag. 2.8 ignores both and gives everything.
    """
    found = Collector()
    await _get_page(transport, repository, size, marker=last, into=found)
    return sorted(found.names(), key=lambda name: f"{name}/")


async def _get_page(
    transport: Transport,
    repository: RepositoryName,
    page_size: int | None,
    *,
    marker: str | None,
    into: Collector,
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
    dated = (answer.asked, answer.observed_at, answer.registry_clock)
    if answer.status == _NOT_FOUND:
        if answer.error_codes() != (_NAME_UNKNOWN,):
            raise RegistryMisbehaved(
                f"{answer.asked}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return _Page(*dated, is_known=False)
    brought_names = False
    for texts in _read_names(answer.content, answer.asked, repository):
        brought_names = into.add(texts) or brought_names
        await asyncio.sleep(0)  # a listing of a million names must not stop every other loop
    marker = next_page_marker(answer.headers.getall("Link", []))
    return _Page(*dated, is_known=True, marker=marker, brought_names=brought_names)


def _read_names(content: bytes, asked: str, repository: RepositoryName) -> Iterator[list[str]]:
    """Read ``{"name": …, "tags": [...] | null}`` about this repository and nothing else, a slice at a time."""
    try:
        for piece in _slices(content):
            yield _texts(orjson.loads(piece), asked, repository)
    except orjson.JSONDecodeError:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise RegistryMisbehaved(f"{asked}: 200, but not JSON ({error})") from error
        yield _texts(value, asked, repository)


def _texts(value: Any, asked: str, repository: RepositoryName) -> list[str]:
    if not isinstance(value, dict) or value.get("name") != repository or "tags" not in value:
        raise RegistryMisbehaved(f"{asked}: 200, but no tag listing of this repository")
    tags = value["tags"] or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RegistryMisbehaved(f"{asked}: a tag listing whose tags are no texts")
    return tags


def _slices(content: bytes) -> Iterator[bytes]:
    """Cut a large listing into several that have its names between them: one of a million texts is 100 MB.

    Cut is between the quote that ends one name and the quote that begins the next. Where that is mistaken (a name
    with quotes and commas, which no tag has), the slice has an odd quote and is not JSON: then all is read at once.
    """
    begin = content.find(_TAGS) + len(_TAGS)
    end = content.find(b"]", begin)
    if len(content) <= SLICE_BYTES or begin < len(_TAGS) or content[end:].strip() != b"]}":
        yield content
        return
    head, tail, at = content[:begin], content[end:], begin
    while (cut := content.find(_BETWEEN, at + SLICE_BYTES, end)) >= 0:
        yield head + content[at : cut + 1] + tail
        at = cut + len(_BETWEEN) - 1
    yield head + content[at:end] + tail
