"""Reads ``tags/list``, as each version answers it.

2.8 ignores ``n`` and ``last``: one answer, in the order of the directory. 3.x answers everything unless pages are
requested; pages of 3.1.1 have at most ``tags.maxtags`` names. For each page the registry lists everything again, so no
pages are requested. If the registry pages by itself, its links are followed as long as each page has new names, up to a
limit; otherwise the listing is incomplete.
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
from reconciler.registry.exchange import Request
from reconciler.registry.headers import next_page_marker
from reconciler.registry.names import Collector
from reconciler.registry.transport import Transport

LISTING_LIMIT_BYTES: Final = 256 * 1024 * 1024
"""Two million tags of the greatest length; more is no listing."""

MAX_PAGES: Final = 100_000
SLICE_BYTES: Final = 256 * 1024
"""How much of a large listing is parsed at a time."""

_TAGS: Final = b'"tags":['
_BETWEEN: Final = b'","'
_OK: Final = 200
_NOT_FOUND: Final = 404
_NAME_UNKNOWN: Final = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class _Page:
    request_line: str
    observed_at: datetime
    registry_clock: datetime | None
    is_known: bool
    """False: the registry does not know the repository."""
    marker: str | None = None
    has_new_names: bool = False


async def list_tags(
    transport: Transport, repository: RepositoryName, *, page_size: int | None = None
) -> TagListing:
    """List every tag name; a broken or missing page raises, so it never shortens the list.

    ``page_size``: request pages from 3.x; None: the registry decides.
    """
    found = Collector()
    page = first = await _get_page(transport, repository, page_size, marker=None, into=found)
    markers = set[str]()
    reasons: list[str] = []
    while page.is_known:
        if page.marker is None:
            break
        if page.marker in markers:
            raise RegistryMisbehaved(f"{first.request_line}: its pages repeat from {page.marker[:80]!r}")
        markers.add(page.marker)
        if not page.has_new_names:
            reasons.append("a page of the listing had no new names, and it says that there are more pages")
            break
        if found.size_bytes > LISTING_LIMIT_BYTES or len(markers) > MAX_PAGES:
            reasons.append(
                f"the listing has no end: {found.size_bytes} bytes of names on {len(markers)} pages"
            )
            break
        page = await _get_page(transport, repository, page_size, marker=page.marker, into=found)
    else:
        if markers:
            reasons.append("the registry no longer knew the repository after the first page")
    return TagListing(
        observed_at=first.observed_at,
        registry_clock=first.registry_clock,
        names=await asyncio.to_thread(found.names),
        complete=not reasons,
        unknown_repository=not page.is_known and not markers,
        reasons=tuple(reasons),
        left_out=found.invalid,
        left_out_examples=found.invalid_examples,
    )


async def list_tags_behind(
    transport: Transport, repository: RepositoryName, *, last: str, size: int
) -> list[TagName]:
    """Return one page that begins after ``last``, in the order of S3; ``hidden_tags`` says what it is for.

    ``last`` need not be a tag. 2.8 ignores both parameters and returns everything.
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
    dated = (answer.request_line, answer.observed_at, answer.registry_clock)
    if answer.status == _NOT_FOUND:
        if answer.error_codes() != (_NAME_UNKNOWN,):
            raise RegistryMisbehaved(
                f"{answer.request_line}: a 404 that is not the registry's ({answer.content[:80]!r})"
            )
        return _Page(*dated, is_known=False)
    has_new_names = False
    for texts in _read_names(answer.content, answer.request_line, repository):
        has_new_names = into.add(texts) or has_new_names
        await asyncio.sleep(0)  # a listing of a million names must not stop every other loop
    marker = next_page_marker(answer.headers.getall("Link", []))
    return _Page(*dated, is_known=True, marker=marker, has_new_names=has_new_names)


def _read_names(content: bytes, request_line: str, repository: RepositoryName) -> Iterator[list[str]]:
    """Parse ``{"name": …, "tags": [...] | null}`` of this repository, a slice at a time."""
    try:
        for piece in _slices(content):
            yield _texts(orjson.loads(piece), request_line, repository)
    except orjson.JSONDecodeError:
        try:
            value = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise RegistryMisbehaved(f"{request_line}: 200, but not JSON ({error})") from error
        yield _texts(value, request_line, repository)


def _texts(value: Any, request_line: str, repository: RepositoryName) -> list[str]:
    if not isinstance(value, dict) or value.get("name") != repository or "tags" not in value:
        raise RegistryMisbehaved(f"{request_line}: 200, but no tag listing of this repository")
    tags = value["tags"] or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise RegistryMisbehaved(f"{request_line}: a tag listing with tags that are no strings")
    return tags


def _slices(content: bytes) -> Iterator[bytes]:
    """Cut a large listing into several smaller ones: parsed at once, a million strings take 100 MB.

    The cut is between the quote that ends one name and the quote that begins the next. If that is wrong (a name with
    quotes and commas, which no tag has), a slice has an unmatched quote and is no JSON; then all is parsed at once.
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
