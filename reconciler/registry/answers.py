"""What a registry answered: frozen values, each dated.

Every answer that may change the inventory carries two clocks, because notifications are dated by the registry
and looks by us:

- ``observed_at``: our clock (UTC) just before the request that gave the answer was sent;
- ``registry_clock``: the ``Date`` header of the answer, whole seconds, rounded down by the registry
  (RFC 9110 section 6.6.1); None when a proxy took it away.

An answer speaks of the registry's state at some instant at or after the request was sent, so ``as_of``, the
earlier of the two, never claims more than was seen, whichever clock is ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from reconciler.registry.names import TagNames


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """When an answer was asked for and what the registry's clock said; see the module's docstring."""

    observed_at: datetime
    registry_clock: datetime | None

    @property
    def as_of(self) -> datetime:
        """The instant this answer may be dated by: the earlier of our clock and the registry's."""
        if self.registry_clock is None:
            return self.observed_at
        return min(self.observed_at, self.registry_clock)


@unique
class NotFoundCode(StrEnum):
    """Why there is nothing: the ``code`` of the registry's own 404 (distribution spec 1.1, "Error Codes")."""

    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_UNKNOWN = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Dated):
    """304: the tag still points at ``digest``.

    The registry reads only the tag link for this, so it says nothing about whether the manifest itself can
    still be read (measured on 2.8.2 and 3.1.1).
    """

    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Dated):
    """200: the manifest is there. ``size`` is its length in bytes, as the registry stores it."""

    digest: Digest
    media_type: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound(Dated):
    """The registry's own 404 in full, with the code of its error body; never a proxy's 404."""

    code: NotFoundCode


TagAnswer = Confirmed | Found | NotFound
ManifestAnswer = Found | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContent(Dated):
    """A manifest's bytes; they hash to ``digest``. ``media_type`` is the Content-Type without parameters."""

    digest: Digest
    media_type: str
    content: bytes


ManifestRead = ManifestContent | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class TagListing(Dated):
    """The names ``tags/list`` gave, sorted, each once.

    ``null``, ``[]`` and 404 NAME_UNKNOWN all give no names; the last also sets ``unknown_repository`` (a
    repository that holds only untagged manifests answers so on every version). ``complete`` is False where
    the listing is known to lack something, and ``reasons`` says what. ``left_out`` counts names that no tag can
    have (a NAS makes ``@eaDir`` everywhere): they take nothing away from the others, so they do not make it
    incomplete; the first few are ``left_out_examples``. Even a complete listing may omit tags
    (3.1.0/3.1.1 on S3, distribution issue 4891): a tag missing here has to be looked at before it is called
    deleted. Dated by its first page.
    """

    names: TagNames
    complete: bool
    unknown_repository: bool = False
    reasons: tuple[str, ...] = ()
    left_out: int = 0
    left_out_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogListing(Dated):
    """The names ``_catalog`` gave, merged over every walk that was needed, sorted, each once.

    ``complete`` is False where the walks disagreed to the end or broke off; ``reasons`` says how, in words
    for an operator. Absence from a catalog, complete or not, never proves a deletion: every version omits
    repositories in some layout. A missing repository has to be asked for by name. ``left_out`` counts names that
    no repository can have (at most ``names.ODD_KEPT``), ``left_out_examples`` are the first few.
    """

    names: tuple[RepositoryName, ...]
    complete: bool
    reasons: tuple[str, ...] = ()
    left_out: int = 0
    left_out_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Dated):
    """``GET /v2/`` was answered 200 by a registry; ``api_version`` is what it calls itself, if it does."""

    api_version: str | None


@unique
class Deletion(StrEnum):
    """What became of a DELETE."""

    ACCEPTED = "accepted"
    ABSENT = "absent"
    UNSUPPORTED = "unsupported"
