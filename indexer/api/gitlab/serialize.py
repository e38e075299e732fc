"""Rows → the bodies of GitLab's contract (sections 1.4 to 1.9). Pure.

Times are UTC with three digits, cut off, not rounded. ``created_at`` is when a tag was created, ``updated_at`` when it
was last moved to another manifest (absent if never), ``published_at`` the later of the two. How a time is known is only
in our own API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from indexer.oci.digest import digest_from_bytes
from indexer.oci.media_types import is_index
from indexer.oci.platform import parse_platform
from indexer.store.gitlab import ReferrerOfTag, RepositoryRow
from indexer.store.instants import known
from indexer.store.listing.interned import FacetRow
from indexer.store.listing.page_query import Row

Facets = Mapping[int, FacetRow]


def timestamp(at: datetime) -> str:
    """Return an instant as the fork writes it: ``2022-06-07T12:10:12.412Z``."""
    text = orjson.dumps(at).decode()  # a third of isoformat()'s time, and a page has up to 1,000; in quotes
    return f"{text[1:24]}Z" if at.microsecond else f"{text[1:20]}.000Z"


def repository(row: RepositoryRow) -> dict[str, Any]:
    """Return a repository (section 1.4)."""
    shown = {"name": _last_segment(row.name), "path": row.name, "created_at": timestamp(row.created_at)}
    published = known(row.last_published_at)
    return shown if published is None else shown | {"last_published_at": timestamp(published)}


def base_path(path: str) -> dict[str, Any]:
    """Return a path that is no repository but has some below it, for their size."""
    return {"name": _last_segment(path), "path": path, "created_at": ""}


def size(size_bytes: int, *, estimated: bool) -> dict[str, Any]:
    """Return a size and its precision; ``untagged``: an estimate over all manifests, tagged or not."""
    return {"size_bytes": size_bytes, "size_precision": "untagged" if estimated else "default"}


def sub_repository(row: Row) -> dict[str, Any]:
    """Return a repository of a list (section 1.7)."""
    name = row["name"]
    return {"name": _last_segment(name), "path": name, "created_at": timestamp(row["created_at"])}


def tag(row: Row, facets: Facets, referrers: Mapping[bytes, Sequence[ReferrerOfTag]]) -> dict[str, Any]:
    """Return a tag of a list (section 1.5).

    ``size_bytes`` is always a number, since GitLab asks the registry for each tag where it is null. The same holds for
    the digest: that of a tag whose manifest is not known is empty, which GitLab's page shows as invalid.
    """
    media_type, digest = facets[row["facet_id"]].media_type, row["digest"]
    index = is_index(media_type)
    shown = {
        "name": row["name"],
        "digest": _digest(digest),
        "media_type": media_type,
        "size_bytes": 0 if index else row["size_bytes"],
        **tag_times(row),
    }
    if not index and (config := row["config_digest"]) is not None:
        shown["config_digest"] = digest_from_bytes(config)
    if digest in referrers:
        shown["referrers"] = [
            {"artifactType": each.artifact_type, "digest": each.digest} for each in referrers[digest]
        ]
    return shown


def tag_times(row: Row) -> dict[str, str]:
    """Return when a tag was created, moved and published.

    A publish time that was taken from the image, since no better one is known, may be before the tag was first seen.
    Then it is the time of creation as well.
    """
    published, since = row["published_at"], row["alive_since"]
    shown = timestamp(published)
    if since is None or since >= published:
        return {"created_at": shown, "published_at": shown}
    return {"created_at": timestamp(since), "updated_at": shown, "published_at": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A tag with all manifests below it: ``descendants`` are rows with their parent, ``facets`` their media types."""

    repository: str
    row: Row
    descendants: Sequence[Row]
    facets: Facets


def detail(found: Detail) -> dict[str, Any]:
    """Return a tag with its image (section 1.6)."""
    images = _Images(found.facets, found.descendants)
    return {
        "repository": found.repository,
        "name": found.row["name"],
        "image": images.image(found.row, found.row["manifest_id"]),
        **tag_times(found.row),
    }


@dataclass(slots=True)
class _Images:
    """Builds images from rows. Each parent is used once, so that a cycle of references ends."""

    facets: Facets
    rows: Sequence[Row]
    _below: dict[int, list[Row]] = field(init=False)

    def __post_init__(self) -> None:
        self._below = {}
        for row in self.rows:
            self._below.setdefault(row["parent_id"], []).append(row)

    def image(self, row: Row, manifest_id: int | None) -> dict[str, Any]:
        facet = self._facet(row)
        manifest: dict[str, Any] = {"digest": _digest(row["digest"]), "media_type": facet.media_type}
        if is_index(facet.media_type):
            below = [] if manifest_id is None else self._below.pop(manifest_id, [])
            manifest["references"] = [self.image(child, child["child_id"]) for child in below]
            return {"size_bytes": 0, "manifest": manifest}
        shown = {"size_bytes": row["size_bytes"], "manifest": manifest}
        return shown if row["config_digest"] is None else shown | {"config": self._config(row, facet)}

    def _facet(self, row: Row) -> FacetRow:
        """Return media type and platforms; of a manifest that the repository does not have, as the index says."""
        if row["facet_id"] is not None:
            return self.facets[row["facet_id"]]
        return FacetRow(media_type=row["stated_media_type"], artifact_type="", kind="unknown", platforms=())

    def _config(self, row: Row, facet: FacetRow) -> dict[str, Any]:
        config: dict[str, Any] = {
            "digest": digest_from_bytes(row["config_digest"]),
            "media_type": row["config_media_type"] or "",
        }
        platforms = (_platform(text) for text in self._platforms(row, facet))
        known_one = next((platform for platform in platforms if platform is not None), None)
        if known_one is None:
            return config
        version = row.get("os_version")
        return config | {"platform": known_one | ({"os_version": version} if version else {})}

    def _platforms(self, row: Row, facet: FacetRow) -> Iterator[str]:
        """Yield the platforms of the image's own config, then the one that the index says."""
        yield from facet.platforms
        if stated := row.get("platform"):
            yield stated


def _platform(text: str) -> dict[str, str] | None:
    try:
        platform = parse_platform(text)
    except ValueError:  # the image's config may have any text, slashes included
        return None
    shown = {"architecture": platform.architecture, "os": platform.os}
    return shown | {"variant": platform.variant} if platform.variant else shown


def _digest(packed: bytes | None) -> str:
    return "" if packed is None else digest_from_bytes(packed)


def _last_segment(path: str) -> str:
    return path.rpartition("/")[2]
