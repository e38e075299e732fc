"""Reads ``_catalog`` in spite of the bugs of every released version.

What was measured on 2.8.2, 3.0.0 and 3.1.1, on filesystem and S3, and what is done about it:

- A page has at most ``catalog.maxentries`` names (1,000 unless configured); asking for more is a 400. The largest
  accepted size is used: for every page the registry reads its storage again, and names get lost at page boundaries.
- A repository nested under another, its next component beginning with a digit (``debian/12`` beside ``debian``), is
  listed *before* its parent. A page that ends between the two
  - on 2.8 has no link, as if the catalog ended there: after a full page without a link the next one is requested;
  - on 3.x panics and drops the connection: the page is requested with another size;
  - on all of them hides the parent, which the next page treats as listed already. So does S3 with ``team/app-extra``
    before ``team/app`` (3.0.0 to 3.1.1).
- So a catalog of several pages is read again with another page size, whose boundaries lie elsewhere, until a reading
  shows nothing new; then each name that a boundary could hide is requested.
- Pages are not sorted as text, and may repeat names.
- If ``catalog.maxentries`` is 1 no other size is accepted; then each name is a boundary, and every name that one could
  hide is requested.

A catalog must end: pages without new names, or more pages or names than any registry has, end the reading, and the
listing is incomplete.

Still, absence from a catalog proves nothing: see ``CatalogListing``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from indexer.common.errors import RegistryDenied, RegistryError, RegistryMisbehaved, RegistryUnavailable
from indexer.oci.reference import RepositoryName, parse_repository_name
from reconciler.registry.answers import CatalogListing
from reconciler.registry.auth import CATALOG_SCOPE
from reconciler.registry.exchange import RegistryResponse, Request
from reconciler.registry.headers import next_page_marker
from reconciler.registry.names import INVALID_KEPT, SHOWN, SHOWN_LENGTH
from reconciler.registry.tags import LISTING_LIMIT_BYTES, list_tags
from reconciler.registry.transport import Transport

PAGE_SIZES: Final = (10_000, 1000, 500, 250, 100, 50, 25, 10, 5, 1)
"""Tried from the left until one is accepted."""

MAX_NAMES: Final = 1_000_000
"""Repositories that are kept (about 200 MB); more would take days to reconcile. Beyond, the listing is incomplete."""
MAX_PAGES: Final = 100_000
IDLE_PAGES: Final = 10
"""Pages in a row without a new name that are accepted: some repeats are possible, endless ones are not."""

_MAX_READINGS: Final = 4
_MAX_DROPS: Final = 2
_OK: Final = 200
_BAD_REQUEST: Final = 400
_SIZE_REFUSED: Final = "PAGINATION_NUMBER_INVALID"
_FEW: Final = 3
_HIDING = re.compile(r"(?=/[0-9])|(?=[-.])")

OnNames = Callable[[Sequence[RepositoryName]], None]


@dataclass(frozen=True, slots=True)
class _Page:
    answer: RegistryResponse
    names: Sequence[str]
    size: int
    link: str | None

    @property
    def next_marker(self) -> str | None:
        """The marker of the next page: the link's, or after a full page without one (2.8) the last name."""
        if self.link is not None or len(self.names) < self.size:
            return self.link
        return self.names[-1]


@dataclass(slots=True)
class _Findings:
    """Everything the readings have shown so far."""

    on_names: OnNames | None
    names: set[RepositoryName] = field(default_factory=set)
    boundaries: set[str] = field(default_factory=set)
    invalid: set[str] = field(default_factory=set)
    """Names that are no valid repository names; only the first ``INVALID_KEPT`` are kept."""
    reasons: list[str] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether no more names are kept."""
        return len(self.names) >= MAX_NAMES

    def add(self, texts: Iterable[str]) -> int:
        """Add names and return how many were new."""
        fresh: list[RepositoryName] = []
        for text in texts:
            try:
                name = parse_repository_name(text)
            except ValueError:
                if len(self.invalid) < INVALID_KEPT:
                    self.invalid.add(text)  # a stray directory in the storage, which the API cannot address
                continue
            if name not in self.names and not self.is_full:
                self.names.add(name)
                fresh.append(name)
        if fresh and self.on_names is not None:
            self.on_names(tuple(fresh))
        return len(fresh)


async def list_repositories(
    transport: Transport, *, on_names: OnNames | None = None, page_size: int | None = None
) -> CatalogListing:
    """Read the catalog until it shows nothing new.

    ``page_size``: begin with this size instead of the largest accepted. Raises the registry errors if there is no first
    page, or access is denied; a later failure makes the listing incomplete.
    """
    first = await _first_page(transport, (page_size,) if page_size else PAGE_SIZES)
    findings = _Findings(on_names)
    complete = bool(await _read_pages(transport, first, first.size, findings))
    if findings.boundaries and complete:
        complete = await _read_again(transport, first.size, findings)
    complete = await _ask_for_hidden(transport, findings) and complete
    return CatalogListing(
        observed_at=first.answer.observed_at,
        registry_clock=first.answer.registry_clock,
        names=tuple(sorted(findings.names)),
        complete=complete,
        reasons=tuple(findings.reasons),
        left_out=len(findings.invalid),
        left_out_examples=tuple(text[:SHOWN_LENGTH] for text in sorted(findings.invalid)[:SHOWN]),
    )


async def _first_page(transport: Transport, sizes: Sequence[int]) -> _Page:
    for size in sizes:
        page = await _get_page(transport, size, None)
        if page is not None:
            return page
    raise RegistryMisbehaved(f"GET /v2/_catalog: no page size is accepted, not even {sizes[-1]}")


@dataclass(slots=True)
class _Progress:
    """The progress of one reading of the catalog, to notice one without an end."""

    shown: set[str] = field(default_factory=set)
    markers: set[str] = field(default_factory=set)
    idle: int = 0

    def stopped(self, page: _Page, marker: str) -> str | None:
        """Add a page and the marker after it; return why the reading must stop, None: it may continue."""
        before = len(self.shown)
        self.shown.update(page.names)
        self.idle = self.idle + 1 if len(self.shown) == before else 0
        if marker in self.markers:
            return f"the catalog's pages repeat from {marker[:80]!r}"
        self.markers.add(marker)
        if self.idle >= IDLE_PAGES:
            return (
                f"{IDLE_PAGES} pages of the catalog had no new names, and it says that there are more pages"
            )
        if len(self.shown) >= MAX_NAMES or len(self.markers) >= MAX_PAGES:
            return f"the catalog has no end: {len(self.shown)} names on {len(self.markers)} pages"
        return None


async def _read_pages(
    transport: Transport, page: _Page | None, size: int, findings: _Findings
) -> bool | None:
    """Read to the end, beginning with ``page`` if it is there; return whether the end was reached.

    None: the registry does not accept this page size.
    """
    progress = _Progress()
    marker: str | None = None
    try:
        while True:
            page = page or await _get_page(transport, size, marker)
            if page is None and marker is None:
                return None
            if page is None:
                findings.reasons.append(f"a page size of {size} was refused in the middle of the catalog")
                return False
            findings.add(page.names)
            marker = page.next_marker
            if marker is None:
                return True
            reason = progress.stopped(page, marker)
            if reason is not None:
                findings.reasons.append(reason)
                return False
            findings.boundaries.add(marker)
            page = None
    except RegistryDenied:
        raise
    except RegistryError as error:
        findings.reasons.append(str(error))
        return False


async def _read_again(transport: Transport, size: int, findings: _Findings) -> bool:
    """Read with other page sizes until nothing is new; return whether that was reached, or no other is accepted."""
    readings = 1
    for other in _other_sizes(size):
        before = len(findings.names)
        ended = await _read_pages(transport, None, other, findings)
        if ended is None:
            continue
        if not ended:
            return False
        if len(findings.names) == before:
            return True
        readings += 1
        if readings == _MAX_READINGS:
            break
    if readings == 1:
        return True
    findings.reasons.append(
        f"the catalog was read {readings} times, and each time it showed repositories that were not in it before"
    )
    return False


async def _ask_for_hidden(transport: Transport, findings: _Findings) -> bool:
    """List the tags of every name that a page boundary could hide; return whether all of them could be requested.

    A run of children longer than a page hides its parent whatever the page size. Only a repository with tags can be
    found this way; 3.1.1 on S3 lists "no tags" for names that never existed.
    """
    for name in sorted(_could_hide(findings.boundaries) - findings.names):
        try:
            listing = await list_tags(transport, name)
        except RegistryUnavailable as error:
            findings.reasons.append(str(error))
            return False
        except RegistryError:  # denied, or no repository: the name was only a guess
            continue
        if listing.names:
            findings.add([name])
    return True


def _could_hide(boundaries: Iterable[str]) -> set[RepositoryName]:
    """Return the names that are listed after a boundary but sort before it.

    They are prefixes of the boundary: up to a ``/`` before a digit (filesystem), or up to ``-`` or ``.`` (S3, where
    these bytes sort before ``/``).
    """
    hidden = set[RepositoryName]()
    for boundary in boundaries:
        for cut in _HIDING.finditer(boundary):
            try:
                hidden.add(parse_repository_name(boundary[: cut.start()]))
            except ValueError:
                continue
    return hidden


def _other_sizes(size: int) -> list[int]:
    """Return sizes near ``size`` whose page boundaries lie elsewhere."""
    if size <= _FEW:
        return [size + 1, size + 2, size + 3, *range(size - 1, 0, -1)]
    return [size - 1, size * 2 // 3, size // 2]


async def _get_page(transport: Transport, size: int, marker: str | None) -> _Page | None:
    """Get a page, with another size if the registry drops the connection; None: the size is refused."""
    try:
        return await _ask(transport, size, marker, repeatable=False)
    except RegistryUnavailable:
        # A dropped connection may be the panic of 3.x, which the same size would only repeat, or a real failure.
        drops = 0
        for other in _other_sizes(size):
            try:
                page = await _ask(transport, other, marker, repeatable=True)
            except RegistryUnavailable:
                drops += 1
                if drops == _MAX_DROPS:
                    break
                continue
            if page is not None or marker is None:
                return page  # None for the first page: the caller tries a smaller size
        raise


async def _ask(transport: Transport, size: int, marker: str | None, *, repeatable: bool) -> _Page | None:
    query = [("n", str(size))]
    if marker is not None:
        query.append(("last", marker))
    request = Request(
        method="GET",
        path="/v2/_catalog",
        scope=CATALOG_SCOPE,
        expect=frozenset({_OK, _BAD_REQUEST}),
        limit=LISTING_LIMIT_BYTES,
        query=query,
        timeout_seconds=transport.settings.listing_timeout_seconds,
        repeatable=repeatable,
    )
    answer = await transport.send(request)
    if answer.status == _BAD_REQUEST:
        if answer.error_codes() != (_SIZE_REFUSED,):
            raise RegistryMisbehaved(f"{answer.request_line}: 400 ({answer.content[:80]!r})")
        return None
    link = next_page_marker(answer.headers.getall("Link", []))
    return _Page(answer, _read_names(answer), size, link)


def _read_names(answer: RegistryResponse) -> list[str]:
    """Read ``{"repositories": [...] | null}``."""
    try:
        value: Any = orjson.loads(answer.content)
    except orjson.JSONDecodeError as error:
        raise RegistryMisbehaved(f"{answer.request_line}: 200, but not JSON ({error})") from error
    if not isinstance(value, dict) or "repositories" not in value:
        raise RegistryMisbehaved(f"{answer.request_line}: 200, but no catalog")
    names = value["repositories"] or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RegistryMisbehaved(f"{answer.request_line}: a catalog with names that are no strings")
    return names
