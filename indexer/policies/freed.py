"""How many bytes a plan frees, as a set: two manifests that share a layer free it together, and neither alone.

A blob is freed when every manifest that refers to it, in any repository, goes with the plan. A manifest is a blob,
too. Deleting a tag frees nothing by itself, and neither does unlinking a manifest until garbage is collected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from indexer.policies.facts import ManifestFacts


def blobs_of(manifest: ManifestFacts) -> list[tuple[str, int]]:
    """Return the blobs that a manifest holds, each once with its size: itself, config and layers; not its children."""
    return [(manifest.digest, manifest.size_bytes), *dict(manifest.blobs).items()]


def owners_of(manifests: Iterable[ManifestFacts]) -> Counter[str]:
    """Return how many manifests hold each blob; a manifest that two repositories hold is given twice."""
    return Counter(blob for manifest in manifests for blob, _ in blobs_of(manifest))


def freed_by_each(going: Iterable[ManifestFacts], owners: Mapping[str, int]) -> list[int]:
    """Return what each manifest frees after those before it are gone; the sum is what all free together.

    ``owners``: how many manifests of the whole registry hold a blob, trash and holds included. What it does not name is
    held by others: it counts as never freed.
    """
    left: dict[str, int] = {}
    found = []
    for manifest in going:
        freed = 0
        for blob, size in blobs_of(manifest):
            left[blob] = left.get(blob, owners.get(blob, 0)) - 1
            freed += size if left[blob] == 0 else 0
        found.append(freed)
    return found


def freed_bytes(going: Iterable[ManifestFacts], owners: Mapping[str, int]) -> int:
    """Return what some manifests free together."""
    return sum(freed_by_each(going, owners))
