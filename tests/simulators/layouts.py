"""Storage of a registry, written as Distribution's filesystem driver lays it out, and damaged as it can be found.

``Layout`` writes single files. ``generate(root, seed)`` writes a whole registry that has something of everything that a
collector treats differently: shared layers, nested indexes, children that are missing, referrers, tags that moved or
went, repositories that never had a tag, links to nothing; in every fourth one something that ends a collection.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"

NAMES: Final = (
    *(
        "0",
        "0/9z",
        "a",
        "a/1",
        "a/b",
        "a/b/c",
        "a-b",
        "a_b",
        "a.b",
        "b/x",
        "b/9",
        "b",
        "team/app",
        "team/app-extra",
    ),
    *("team/app/7", "z", "z/__y".replace("/__", "/0__")),
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A manifest, and what it refers to: blobs, or the manifests that are its children."""

    data: bytes
    blobs: tuple[bytes, ...] = ()
    children: tuple[Stored, ...] = ()

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return digest_of(self.data)


def digest_of(data: bytes) -> str:
    """Name content."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def image(
    seed: str, *, layers: tuple[bytes, ...] | None = None, kind: str = OCI_MANIFEST, **more: Any
) -> Stored:
    """Make an image. ``kind`` "" leaves its ``mediaType`` out; ``more`` is added to the document."""
    config = json.dumps({"seed": seed}).encode()
    found = (f"layer of {seed}".encode(),) if layers is None else layers
    document: dict[str, Any] = {
        "schemaVersion": 2,
        **({"mediaType": kind} if kind else {}),
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(each, "application/vnd.oci.image.layer.v1.tar+gzip") for each in found],
        **more,
    }
    return Stored(json.dumps(document).encode(), (config, *found))


def index(children: tuple[Stored, ...], *, kind: str = OCI_INDEX, **more: Any) -> Stored:
    """Make an index over manifests."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        **({"mediaType": kind} if kind else {}),
        "manifests": [
            {**descriptor(each.data, OCI_MANIFEST), "platform": {"architecture": f"arch{at}", "os": "linux"}}
            for at, each in enumerate(children)
        ],
        **more,
    }
    return Stored(json.dumps(document).encode(), children=children)


def referrer(seed: str, subject: Stored) -> Stored:
    """Make an artifact that is attached to a manifest."""
    return image(seed, subject=descriptor(subject.data, OCI_MANIFEST), artifactType="application/vnd.example")


def schema1(seed: str) -> Stored:
    """Make a Docker schema 1 manifest, as old registries have stored it: without its signatures."""
    layer = f"old layer of {seed}".encode()
    document = {
        "schemaVersion": 1,
        "name": "old",
        "tag": seed,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(layer)}],
        "history": [{"v1Compatibility": json.dumps({"id": seed})}],
    }
    return Stored(json.dumps(document, indent=3).encode(), (layer,))


def descriptor(data: bytes, media_type: str) -> dict[str, Any]:
    """Point at content."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


@dataclass(frozen=True, slots=True)
class Layout:
    """The root directory of a ``filesystem`` driver, written to behind the registry's back."""

    root: Path
    said: list[str] = field(default_factory=list)

    @property
    def base(self) -> Path:
        """Where the registry writes."""
        return self.root / "docker" / "registry" / "v2"

    def repository(self, name: str) -> Path:
        """The directory of a repository."""
        return self.base / "repositories" / name

    def revision(self, name: str, digest: str) -> Path:
        """The directory of a repository's link to a manifest."""
        return self.repository(name) / "_manifests" / "revisions" / digest.replace(":", "/")

    def layer(self, name: str, digest: str) -> Path:
        """The directory of a repository's link to a blob."""
        return self.repository(name) / "_layers" / digest.replace(":", "/")

    def tag_directory(self, name: str, tag: str) -> Path:
        """The directory of a tag."""
        return self.repository(name) / "_manifests" / "tags" / tag

    def blob(self, digest: str) -> Path:
        """The directory of the bytes of a digest."""
        algorithm, _, encoded = digest.partition(":")
        return self.base / "blobs" / algorithm / encoded[:2] / encoded

    def put_blob(self, data: bytes) -> str:
        """Store content; return its digest."""
        digest = digest_of(data)
        write(self.blob(digest) / "data", data)
        return digest

    def link_layer(self, name: str, digest: str) -> None:
        """Let a repository serve a blob."""
        write(self.layer(name, digest) / "link", digest.encode())

    def push(self, name: str, stored: Stored, *tags: str, children: bool = True) -> str:
        """Write what a push by tags, or by digest without any, leaves behind; return the digest."""
        (self.repository(name) / "_uploads").mkdir(parents=True, exist_ok=True)
        (self.repository(name) / "_layers").mkdir(parents=True, exist_ok=True)
        for each in stored.blobs:
            self.link_layer(name, self.put_blob(each))
        for child in stored.children if children else ():
            self.push(name, child)
        digest = self.put_blob(stored.data)
        write(self.revision(name, digest) / "link", digest.encode())
        for tag in tags:
            self.tag(name, tag, digest)
        return digest

    def tag(self, name: str, tag: str, digest: str) -> None:
        """Point a tag at a manifest."""
        place = self.tag_directory(name, tag)
        write(place / "index" / digest.replace(":", "/") / "link", digest.encode())
        write(place / "current" / "link", digest.encode())

    def untag(self, name: str, tag: str) -> None:
        """Delete a tag, as 3.x does: the directory of tags stays, though it may be empty."""
        shutil.rmtree(self.tag_directory(name, tag))

    def unlink(self, name: str, digest: str) -> None:
        """Delete a manifest by digest, as the API does: its link goes, its directory stays."""
        (self.revision(name, digest) / "link").unlink()

    def lose_blob(self, digest: str) -> None:
        """Lose the bytes of a digest."""
        shutil.rmtree(self.blob(digest))


@dataclass(frozen=True, slots=True)
class Whole:
    """A manifest that can be pulled from a repository, with everything that it refers to."""

    references: frozenset[str]
    is_index: bool
    subject: str | None


def whole_manifests(layout: Layout) -> dict[tuple[str, str], Whole]:
    """Return every manifest that a client could pull by its digest, by repository and digest."""
    found: dict[tuple[str, str], Whole] = {}
    for directory in sorted(layout.base.glob("repositories/**/_manifests")):
        name = str(directory.parent.relative_to(layout.base / "repositories"))
        for digest in sorted(links_of(directory / "revisions")):
            _whole(layout, name, digest, found)
    return found


def _whole(layout: Layout, name: str, digest: str, found: dict[tuple[str, str], Whole]) -> bool:
    if (name, digest) in found:
        return True
    place = layout.blob(digest) / "data"
    link = layout.revision(name, digest) / "link"
    if not link.exists() or link.read_text() != digest or not place.exists():
        return False
    content = place.read_bytes()
    if digest_of(content) != digest:
        return False
    document = json.loads(content)
    pointers = [each["digest"] for each in document.get("manifests", ())]
    if "manifests" in document:
        is_whole = all(_whole(layout, name, each, found) for each in pointers)
    else:
        old = [each["blobSum"] for each in document.get("fsLayers", ())]
        new = [
            each["digest"] for each in (*document.get("layers", ()), *filter(None, [document.get("config")]))
        ]
        pointers = [*old, *new]
        served = links_of(layout.repository(name) / "_layers")
        is_whole = all(each in served and (layout.blob(each) / "data").exists() for each in pointers)
    if is_whole:
        subject = document.get("subject", {}).get("digest")
        found[name, digest] = Whole(frozenset(pointers), "manifests" in document, subject)
    return is_whole


def links_of(directory: Path) -> frozenset[str]:
    """Return the digests of the links in a directory whose content is what their path says."""
    found = directory.glob("sha256/*/link")
    return frozenset(
        f"sha256:{each.parent.name}" for each in found if each.read_text() == f"sha256:{each.parent.name}"
    )


def write(place: Path, data: bytes) -> None:
    """Write a file and the directories above it."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)


# --- whole registries -------------------------------------------------------------------------------------


def generate(root: Path, seed: int) -> Layout:
    """Write a registry; the same seed writes the same one."""
    draw = random.Random(seed)
    layout = Layout(root)
    layout.base.joinpath("blobs").mkdir(parents=True)
    layout.base.joinpath("repositories").mkdir(parents=True)
    pool = _pool(draw)
    names = draw.sample(NAMES, draw.randint(2, 7))
    for name in names:
        _fill(layout, draw, name, pool)
    for _ in range(draw.randint(0, 5)):
        draw.choice(_WEAR)(layout, draw, names)
    if seed % 4 == 3:
        draw.choice(_FATAL)(layout, draw, names)
    return layout


def _pool(draw: random.Random) -> list[Stored]:
    """Manifests that share layers and children."""
    layers = [f"layer {number}".encode() for number in range(8)]
    kinds = (OCI_MANIFEST, OCI_MANIFEST, DOCKER_MANIFEST, "")
    images = [
        image(
            f"image {number}",
            layers=tuple(draw.sample(layers, draw.randint(0, 3))),
            kind=draw.choice(kinds),
        )
        for number in range(12)
    ]
    lists = [
        index(tuple(draw.sample(images, draw.randint(0, 3))), kind=draw.choice((OCI_INDEX, DOCKER_LIST, "")))
        for _ in range(5)
    ]
    nested = [index((draw.choice(lists), draw.choice(images))) for _ in range(2)]
    attached = [referrer(f"referrer {number}", draw.choice([*images, *lists])) for number in range(4)]
    return [*images, *lists, *nested, *attached]


def _fill(layout: Layout, draw: random.Random, name: str, pool: list[Stored]) -> None:
    """Push, move, delete and untag in one repository."""
    style = draw.random()
    if style < 0.08:
        layout.link_layer(name, layout.put_blob(f"blob of {name}".encode()))
        return
    if style < 0.14:
        write(layout.repository(name) / "_uploads" / "00000000-0000-4000-8000-000000000000" / "data", b"x")
        return
    may_tag = style > 0.25 or draw.random() < 0.7
    pushed: list[str] = []
    for _ in range(draw.randint(1, 6)):
        stored = draw.choice(pool)
        tags = draw.sample(("v1", "v2", "latest"), draw.choice((0, 1, 1, 2))) if may_tag else []
        pushed.append(layout.push(name, stored, *tags))
    if draw.random() < 0.3:
        _try(lambda: layout.unlink(name, draw.choice(pushed)))
    if draw.random() < 0.3:
        _try(lambda: layout.untag(name, draw.choice(("v1", "v2", "latest"))))


def _try(act: Any) -> None:
    try:
        act()
    except FileNotFoundError:
        return


def _files(layout: Layout, pattern: str) -> list[Path]:
    return sorted(layout.base.glob(pattern))


def _one(layout: Layout, draw: random.Random, pattern: str) -> Path | None:
    found = _files(layout, pattern)
    return draw.choice(found) if found else None


REVISIONS: Final = "repositories/**/_manifests/revisions/sha256/*/link"
LAYERS: Final = "repositories/**/_layers/sha256/*/link"
CURRENT: Final = "repositories/**/_manifests/tags/*/current/link"
DATA: Final = "blobs/sha256/*/*/data"


def _lose_layer_link(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    if place := _one(layout, draw, LAYERS):
        place.unlink()


def _lose_revision(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    if place := _one(layout, draw, REVISIONS):
        place.unlink()


def _lose_data(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    if place := _one(layout, draw, DATA):
        shutil.rmtree(place.parent)


def _loose_blob(layout: Layout, draw: random.Random, names: list[str]) -> None:
    digest = layout.put_blob(f"loose {draw.random()}".encode())
    if draw.random() < 0.5:
        layout.link_layer(draw.choice(names), digest)


def _half_tag(layout: Layout, draw: random.Random, names: list[str]) -> None:
    if place := _one(layout, draw, CURRENT):
        place.unlink()


def _tag_to_nothing(layout: Layout, draw: random.Random, names: list[str]) -> None:
    layout.tag(draw.choice(names), "dangling", digest_of(f"{draw.random()}".encode()))


def _bare(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """A repository whose every file is gone; its directories stay."""
    base = layout.repository(f"bare/{draw.choice('abc')}")
    for part in draw.choice(
        (("_layers",), ("_layers", "_manifests/revisions"), ("_layers", "_manifests/tags"))
    ):
        (base / part).mkdir(parents=True, exist_ok=True)


def _manifest_as_layer(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """2.1 linked manifests as layers."""
    if place := _one(layout, draw, REVISIONS):
        digest = place.read_text()
        name = str(place.relative_to(layout.base / "repositories")).partition("/_manifests/")[0]
        layout.link_layer(name, digest)
        if draw.random() < 0.5:
            place.unlink()


def _link_to_another(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """A link whose content is another digest than its path says."""
    pattern = draw.choice((REVISIONS, LAYERS))
    one, other = _one(layout, draw, pattern), _one(layout, draw, REVISIONS)
    if one and other and other.stat().st_size:
        one.write_bytes(other.read_bytes())


def _content_of_another(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """A manifest's bytes are another's."""
    one, other = _one(layout, draw, REVISIONS), _one(layout, draw, REVISIONS)
    if one and other:
        source, target = (layout.blob(each.read_text()) / "data" for each in (other, one))
        if source.exists() and target.exists():
            target.write_bytes(source.read_bytes())


def _old_signatures(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """Before 2.3, signatures of schema 1 lay below the revision; the files are still there."""
    if place := _one(layout, draw, REVISIONS):
        digest = layout.put_blob(f"signature {draw.random()}".encode())
        write(place.parent / "signatures" / digest.replace(":", "/") / "link", digest.encode())


_WEAR = (
    *(_lose_layer_link, _lose_revision, _lose_data, _loose_blob, _half_tag, _tag_to_nothing, _bare),
    *(_manifest_as_layer, _link_to_another, _content_of_another, _old_signatures),
)


def _cut_link(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    pattern = draw.choice((REVISIONS, LAYERS, CURRENT, "repositories/**/tags/*/index/sha256/*/link"))
    if place := _one(layout, draw, pattern):
        whole = place.read_bytes()
        place.write_bytes(draw.choice((b"", whole[:20], whole + b"\n", whole.upper())))


def _bad_manifest(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    """A manifest's bytes are cut off, or of a kind that the collector does not read."""
    if place := _one(layout, draw, REVISIONS):
        target = layout.blob(place.read_text()) / "data"
        if not target.exists():
            return
        whole = target.read_bytes()
        target.write_bytes(
            draw.choice(
                (
                    b"",
                    whole[: len(whole) // 2],
                    b"[]",
                    b"{}",
                    b'{"schemaVersion": 3}',
                    b'{"schemaVersion": 2, "mediaType": "application/json"}',
                    b'{"schemaVersion": 2, "config": "text"}',
                    b'{"schemaVersion": 2, "manifests": {}}',
                    whole.replace(b'"size": ', b'"size": 1.5, "was": '),
                    whole.ljust(4 * 1024 * 1024 + 1),
                )
            )
        )


def _schema1(layout: Layout, draw: random.Random, names: list[str]) -> None:
    layout.push(draw.choice(names), schema1("old"), "old")


def _no_layers(layout: Layout, draw: random.Random, names: list[str]) -> None:
    shutil.rmtree(layout.repository(draw.choice(names)) / "_layers", ignore_errors=True)


def _stray(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    write(
        layout.base / draw.choice(("blobs/sha256/ab/data", "blobs/lost/data", "blobs/sha256/ab/cd/data")),
        b"x",
    )


def _odd_name(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    layout.push(
        draw.choice(("Upper/lower", "upper/LOWER", "a--b/c", "a__b", "trailing-", "a..b")), image("odd"), "v1"
    )


def _no_blobs(layout: Layout, draw: random.Random, _names: list[str]) -> None:
    shutil.rmtree(layout.base / draw.choice(("blobs", "repositories")))


_FATAL = (*(_cut_link, _bad_manifest) * 3, _schema1, _no_layers, _stray, _odd_name, _no_blobs)
