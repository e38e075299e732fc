"""A registry's storage written straight to disk, as Distribution's filesystem driver lays it out (2.8 and 3.x).

A hundred thousand pushes would take longer than what is measured on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks._many_tags import name_of, tag_of
from tools.sample_images import oci_image

if TYPE_CHECKING:
    from pathlib import Path

    from tools.sample_images import Blob, Image


def fill(storage: Path, *, repositories: int, tags_each: int, shared_by: int = 1) -> None:
    """Write repositories whose every ``shared_by`` tags have a manifest and a config, and layers that all share."""
    root = storage / "docker" / "registry" / "v2"
    for number in range(repositories):
        here = root / "repositories" / name_of(number)
        for tag in range(tags_each):
            if tag % shared_by == 0:
                image = bench_image(number, tag)
                for blob in (image.manifest, *image.blobs):
                    _blob(root / "blobs", blob)
                for blob in image.blobs:
                    _link(here / "_layers", blob.digest)
                _link(here / "_manifests" / "revisions", image.digest)
            pointer = here / "_manifests" / "tags" / tag_of(tag)
            _link(pointer / "index", image.digest)
            (pointer / "current").mkdir()
            (pointer / "current" / "link").write_text(image.digest)


def bench_image(number: int, tag: int) -> Image:
    """Make the image of a tag of a repository: its config comes first among the blobs."""
    return oci_image("bench", labels={"number": f"{number}.{tag}"})


def _blob(directory: Path, blob: Blob) -> None:
    algorithm, _, number = blob.digest.partition(":")
    place = directory / algorithm / number[:2] / number
    if not place.exists():
        place.mkdir(parents=True)
        (place / "data").write_bytes(blob.data)


def _link(directory: Path, digest: str) -> None:
    algorithm, _, number = digest.partition(":")
    place = directory / algorithm / number
    place.mkdir(parents=True, exist_ok=True)
    (place / "link").write_text(digest)
