"""What belongs together in a repository: an index and its children, a manifest and what is attached to it.

- Children stay as long as an index that refers to them.
- Referrers stay with their subject, at any depth, and so do the tags that carry them where a registry has no referrers
  API: ``sha256-<hex>`` (the schema's index) and ``sha256-<hex>.sig``, ``.att``, ``.sbom`` (cosign's). Such a tag is a
  carrier; no rule of tags is about it.
- What a manifest that stays refers to stays, and that includes the subject of a referrer that stays for itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum, unique
from operator import attrgetter
from typing import NamedTuple

from indexer.oci.digest import Digest
from indexer.oci.referrers import fallback_tag
from indexer.policies.facts import ManifestFacts, TagFacts

_CARRIER = re.compile(r"(sha256-[0-9a-f]{64})(?:\.(?:sig|att|sbom))?\Z|(sha512-[0-9a-f]{64})\Z", re.ASCII)


@unique
class Tie(StrEnum):
    """Why a manifest is needed."""

    CHILD_OF = "live.child_of"
    REFERRER_OF = "live.referrer_of"
    SUBJECT_OF = "live.subject_of"


class Live(NamedTuple):
    """That a manifest stays, and why; ``other`` is the manifest that needs it, where one does."""

    reason: str
    other: str | None = None


def carried(tag: str) -> str | None:
    """Return the part of a carrier's name that tells its subject, None for an ordinary tag."""
    if not tag.startswith("sha"):
        return None
    match = _CARRIER.match(tag)
    return None if match is None else match[1] or match[2]


class Families:
    """Who refers to whom among the manifests of a repository, and which tags carry what."""

    def __init__(self, manifests: Sequence[ManifestFacts], tags: Sequence[TagFacts]) -> None:
        self.manifests: Mapping[str, ManifestFacts] = {
            each.digest: each for each in sorted(manifests, key=attrgetter("digest"))
        }
        self.tags_of: dict[str, tuple[str, ...]] = {}
        """Every tag of a digest, in the order of names."""
        self.carriers: dict[str, str | None] = {}
        """The carriers, and the digest of each one's subject; None where no manifest here is that."""
        self._parents: dict[str, list[str]] = defaultdict(list)
        self._referrers: dict[str, list[str]] = defaultdict(list)
        self._carried: dict[str, list[str]] = defaultdict(list)
        self._add_tags(tags)
        for manifest in self.manifests.values():
            for child in manifest.children:
                self._parents[child].append(manifest.digest)
            if manifest.subject is not None:
                self._referrers[manifest.subject].append(manifest.digest)

    def _add_tags(self, tags: Sequence[TagFacts]) -> None:
        stems: dict[str, str] = {}
        for tag in sorted(tags, key=attrgetter("name")):
            if tag.digest is not None:
                self.tags_of[tag.digest] = (*self.tags_of.get(tag.digest, ()), tag.name)
            stem = carried(tag.name)
            if stem is None:
                continue
            if not stems:
                stems = {fallback_tag(Digest(digest)): digest for digest in self.manifests}
            subject = stems.get(stem)
            self.carriers[tag.name] = subject
            if subject is not None and tag.digest is not None:
                self._carried[subject].append(tag.digest)

    def parents(self, digest: str) -> Sequence[str]:
        """Return the indexes here that refer to a manifest."""
        return self._parents.get(digest, ())

    def descendants(self, digest: str) -> Iterator[str]:
        """Yield the children of a manifest that are here, at any depth, each once, without itself."""
        return self._reached(digest, self._children)

    def ancestors(self, digest: str) -> Iterator[str]:
        """Yield the indexes that refer to a manifest, at any depth."""
        return self._reached(digest, self.parents)

    def family(self, digest: str) -> Iterator[str]:
        """Yield what stays as long as a manifest does: children, and what is attached, at any depth, with itself."""
        yield digest
        if self._followers(digest):
            yield from self._reached(digest, self._followers)

    def is_alone(self, digest: str) -> bool:
        """Tell whether a manifest has neither children nor anything attached."""
        return not self._followers(digest)

    def followed(self, digest: str) -> list[str]:
        """Return whom a manifest goes with: indexes that refer to it, and its subject, where they are here."""
        subject = self.manifests[digest].subject
        return [
            *self.parents(digest),
            *([subject] if subject is not None and subject in self.manifests else []),
        ]

    def spread(self, live: dict[str, Live], roots: Iterable[tuple[str, Live]]) -> None:
        """Add to ``live`` what roots need, and what that needs in turn; what is live already stays as it is."""
        left = []
        for digest, why in roots:
            if digest in self.manifests and digest not in live:
                live[digest] = why
                left.append(digest)
        while left:
            at = left.pop()
            manifest = self.manifests[at]
            if manifest.subject is None and not self._followers(at):
                continue
            subject = () if manifest.subject is None else (manifest.subject,)
            attached = (*self._referrers.get(at, ()), *self._carried.get(at, ()))
            ties = ((Tie.CHILD_OF, manifest.children), (Tie.REFERRER_OF, attached), (Tie.SUBJECT_OF, subject))
            for tie, others in ties:
                for other in others:
                    if other not in live and other in self.manifests:
                        live[other] = Live(tie, at)
                        left.append(other)

    def _children(self, digest: str) -> Sequence[str]:
        manifest = self.manifests.get(digest)
        return () if manifest is None else manifest.children

    def _followers(self, digest: str) -> Sequence[str]:
        children = self._children(digest)
        if digest not in self._referrers and digest not in self._carried:
            return children
        return (*children, *self._referrers.get(digest, ()), *self._carried.get(digest, ()))

    def _reached(self, digest: str, step: Callable[[str], Sequence[str]]) -> Iterator[str]:
        known = {digest}
        left = [digest]
        while left:
            for other in step(left.pop()):
                if other not in known and other in self.manifests:
                    known.add(other)
                    left.append(other)
                    yield other
