"""Answers of a registry: frozen values, each with its time.

Every answer that may change the inventory has two times, because events are dated by the registry's clock and
observations by ours:

- ``observed_at``: our clock (UTC) just before the request was sent;
- ``registry_clock``: the ``Date`` header of the answer, whole seconds, rounded down by the registry
  (RFC 9110 section 6.6.1); None when a proxy removed it.

An answer shows the registry's state at or after the time of the request. So ``as_of``, the earlier of the two, is
never later than what was observed, whichever clock is ahead.
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
    """An answer with its times; see the module's docstring."""

    observed_at: datetime
    registry_clock: datetime | None

    @property
    def as_of(self) -> datetime:
        """The time of the answer: the earlier of our clock and the registry's."""
        if self.registry_clock is None:
            return self.observed_at
        return min(self.observed_at, self.registry_clock)


@unique
class NotFoundCode(StrEnum):
    """The ``code`` in the body of a 404 of the registry itself (distribution spec 1.1, "Error Codes")."""

    MANIFEST_UNKNOWN = "MANIFEST_UNKNOWN"
    NAME_UNKNOWN = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed(Dated):
    """304: the tag still points at ``digest``.

    The registry reads only the tag's link for this, so the manifest itself may be unreadable (measured on 2.8.2 and
    3.1.1).
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
    """A 404 of the registry itself, with the code of its error body; never a proxy's."""

    code: NotFoundCode


TagAnswer = Confirmed | Found | NotFound
ManifestAnswer = Found | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestContent(Dated):
    """A manifest's bytes, which hash to ``digest``. ``media_type`` is the Content-Type without parameters."""

    digest: Digest
    media_type: str
    content: bytes


ManifestRead = ManifestContent | NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class TagListing(Dated):
    """The names in ``tags/list``, sorted, each once.

    ``null``, ``[]`` and 404 NAME_UNKNOWN all give no names; the last also sets ``unknown_repository`` (a repository
    with only untagged manifests answers so on every version). ``complete`` is False if the listing is known to lack
    something, and ``reasons`` says what. ``left_out`` counts names that are no valid tag names (a NAS creates
    ``@eaDir`` everywhere); they do not make the listing incomplete. The first few are ``left_out_examples``. Even a
    complete listing may omit tags (3.1.0/3.1.1 on S3, distribution issue 4891): a tag missing here must be observed
    before it is recorded as deleted. Its times are those of the first page.
    """

    names: TagNames
    complete: bool
    unknown_repository: bool = False
    reasons: tuple[str, ...] = ()
    left_out: int = 0
    left_out_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogListing(Dated):
    """The names in ``_catalog``, merged over every reading that was needed, sorted, each once.

    ``complete`` is False if the readings disagreed to the end or broke off; ``reasons`` says how, for an operator.
    Absence from a catalog, complete or not, never proves a deletion: every version omits repositories in some layout,
    so a missing repository must be asked for by name. ``left_out`` counts names that are no valid repository names (at
    most ``names.INVALID_KEPT``), ``left_out_examples`` are the first few.
    """

    names: tuple[RepositoryName, ...]
    complete: bool
    reasons: tuple[str, ...] = ()
    left_out: int = 0
    left_out_examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Dated):
    """A registry answered ``GET /v2/`` with 200. ``api_version``: its ``Docker-Distribution-Api-Version`` header."""

    api_version: str | None


@unique
class Deletion(StrEnum):
    """The result of a DELETE."""

    ACCEPTED = "accepted"
    ABSENT = "absent"
    UNSUPPORTED = "unsupported"
