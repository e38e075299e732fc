"""What is computed from a storage is what the registry's own collector says and does, set by set."""

from __future__ import annotations

import http.client
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from reconciler.collection.decide import Because, Collection, Drivers, Mode, collect
from reconciler.collection.dry_run import read_dry_run
from reconciler.collection.hazards import Code, Hazard, find_hazards
from reconciler.collection.reading import read_snapshot
from reconciler.storage.buckets import BucketStorage
from reconciler.storage.files import FileStorage
from reconciler.storage.whereabouts import Bucket as Where
from tests.fixtures.collectors import Collector, Ran, collector_of
from tests.simulators.layouts import Layout, Whole, generate, whole_manifests

if TYPE_CHECKING:
    from tools.s3_server import Bucket

FULL = pytest.mark.full
LAYOUTS = [*range(4), *(pytest.param(seed, marks=FULL) for seed in range(4, 44))]
COLLECTED = [2, 3, *(pytest.param(seed, marks=FULL) for seed in range(52, 60))]
"""Seeds of layouts. A layout with a seed of 3 modulo 4 has something that may end a collection."""

SAID = {
    Because.LINK: ("invalid checksum digest", "unsupported digest"),
    Because.CONTENT: ("failed to retrieve manifest", "interface conversion"),
    Because.SCHEMA1: ("unrecognized manifest schema version 1",),
    Because.NEVER_TAGGED: ("unknown repository",),
    Because.NO_LAYERS: ("_layers",),
    Because.NAME: ("failed to parse repo name",),
    Because.NO_REPOSITORIES: ("v2/repositories",),
    Because.NO_BLOBS: ("v2/blobs",),
    Because.STRAY: ("error enumerating blobs",),
}
"""What the collector prints where it fails."""


def planned(layout: Layout, garbage_collector: Collector, *, delete_untagged: bool) -> Collection:
    """Compute what a collection would do."""
    snapshot = read_snapshot(FileStorage(layout.root), garbage_collector.release)
    return collect(snapshot, Mode(garbage_collector.release, delete_untagged=delete_untagged))


def assert_equal(ours: Collection, ran: Ran) -> None:
    """Compare everything that a run says with what was computed."""
    theirs = read_dry_run(ran.out.splitlines())
    assert theirs.unread == 0
    if ours.aborts is not None:
        assert ran.code != 0, ours.aborts
        assert theirs.counts is None
        assert any(words in ran.errors for words in SAID[ours.aborts.because]), (
            ours.aborts,
            ran.errors[-600:],
        )
    else:
        assert ran.code == 0, ran.errors[-600:]
        assert theirs.problem is None
        assert theirs.counts is not None
        assert (theirs.counts.marked, theirs.counts.blobs) == (len(ours.marked), len(ours.blobs))
        assert theirs.blobs == ours.blobs
        assert theirs.manifests == ours.manifests
        assert theirs.layer_links == ours.layer_links
    assert theirs.marked == ours.marked
    assert theirs.marked_manifests == ours.marked_manifests
    assert theirs.repositories == ours.repositories
    assert theirs.never_tagged == {name for name, _ in ours.passed_over}


@pytest.mark.parametrize("delete_untagged", [False, True], ids=["plain", "delete-untagged"])
@pytest.mark.parametrize("seed", LAYOUTS)
def test_collect__is_the_dry_run(
    tmp_path: Path, garbage_collector: Collector, seed: int, delete_untagged: bool
) -> None:
    """Repositories, marks, blobs, manifests, layer links and counts are the real dry run's; so is failure."""
    layout = generate(tmp_path / "root", seed)
    ours = planned(layout, garbage_collector, delete_untagged=delete_untagged)

    ran = garbage_collector.run(layout.root, "--dry-run", *(["--delete-untagged"] if delete_untagged else []))

    assert_equal(ours, ran)


@FULL
@pytest.mark.parametrize("version", [pytest.param("2.8", id="2.8"), pytest.param("3.1", id="3.x")])
@pytest.mark.parametrize("seed", [5, 23])
def test_collect__on_s3(tmp_path: Path, s3: Bucket, version: str, seed: int) -> None:
    """On S3, where no directory is empty and 3.x walks by keys, it is the dry run's, too."""
    layout = generate(tmp_path / "root", seed)
    upload(s3, layout)
    config = s3.storage()["storage"]
    bucket = Where(
        kind="s3",
        name=s3.name,
        prefix=str(config["s3"]["rootdirectory"]).strip("/"),
        options={
            "endpoint": s3.server.url,
            "region": "us-east-1",
            "access_key_id": "test",
            "secret_access_key": "test",
        },
        plain_http=True,
    )
    collector = collector_of(version)
    snapshot = read_snapshot(BucketStorage(bucket), collector.release)
    for delete_untagged in (False, True):
        mode = Mode(collector.release, delete_untagged=delete_untagged, drivers=Drivers.KEYS)
        options = ["--delete-untagged"] if delete_untagged else []
        section = {name: config[name] for name in ("s3", "redirect")}
        ran = collector.run(tmp_path / "config", "--dry-run", *options, storage=section)
        assert_equal(collect(snapshot, mode), ran)


def upload(s3: Bucket, layout: Layout) -> None:
    """Store a layout's files in a bucket."""
    connection = http.client.HTTPConnection(urlsplit(s3.server.url).netloc, timeout=60)
    for place in sorted(each for each in layout.root.rglob("*") if each.is_file()):
        connection.request("PUT", f"/{s3.name}/content/{place.relative_to(layout.root)}", place.read_bytes())
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()


@pytest.mark.parametrize("delete_untagged", [False, True], ids=["plain", "delete-untagged"])
@pytest.mark.parametrize("seed", COLLECTED)
def test_collect__is_what_happens(
    tmp_path: Path, garbage_collector: Collector, seed: int, delete_untagged: bool
) -> None:
    """A real collection deletes what was computed, no more and no less; what it damages was named, and nothing else."""
    layout = generate(tmp_path / "root", seed)
    mode = Mode(garbage_collector.release, delete_untagged=delete_untagged)
    snapshot = read_snapshot(FileStorage(layout.root), garbage_collector.release)
    ours = collect(snapshot, mode)
    hazards = find_hazards(snapshot, ours, mode, now=datetime.now(UTC))
    before, stored = whole_manifests(layout), everything(layout)

    ran = garbage_collector.run(layout.root, *(["--delete-untagged"] if delete_untagged else []))

    if not any(Code.BROKEN_LINK is each.code and "second time" in each.text for each in hazards):
        assert (ran.code == 0) is (ours.aborts is None)
        blobs, manifests, layer_links = (
            then - now for then, now in zip(stored, everything(layout), strict=True)
        )
        assert {digest for _, digest in blobs} == ours.blobs
        assert manifests == ours.manifests
        assert layer_links == ours.layer_links
    after = whole_manifests(layout)
    assert_named(before, after, ours, hazards)


def everything(layout: Layout) -> tuple[set[tuple[str, str]], ...]:
    """Return all blobs, all revision links and all layer links by repository and digest."""
    links = ("repositories/**/revisions/sha256/*/link", "repositories/**/_layers/sha256/*/link")
    return tuple(
        {(_repository_of(layout, each), f"sha256:{each.parent.name}") for each in layout.base.glob(pattern)}
        for pattern in ("blobs/sha256/*/*/data", *links)
    )


def _repository_of(layout: Layout, place: Path) -> str:
    return str(place.relative_to(layout.base)).partition("/_")[0].removeprefix("repositories/")


def assert_named(
    before: dict[tuple[str, str], Whole],
    after: dict[tuple[str, str], Whole],
    ours: Collection,
    hazards: tuple[Hazard, ...],
) -> None:
    """Check that each manifest which cannot be pulled any more was named, or was to be deleted and nobody misses it."""
    named = {(each.repository, each.digest) for each in hazards}
    whole_repositories = {Code.NEVER_TAGGED_LOSES, Code.NOT_SEEN}
    repositories = {each.repository for each in hazards if each.code in whole_repositories}
    kept = {each for each in before if each not in ours.manifests and each not in ours.passed_over}
    for name, digest in before.keys() - after.keys():
        lost = before[name, digest]
        if (name, digest) in named or name in repositories:
            continue
        if (name, digest) in ours.manifests:
            here = [before[other] for other in kept if other[0] == name]
            assert not any(each.is_index and digest in each.references for each in here), (name, digest)
            assert lost.subject is None or (name, lost.subject) not in kept, (name, digest)
        else:
            assert lost.is_index, (name, digest)
            assert any((name, child) not in after for child in lost.references), (name, digest)
    for hazard in hazards:
        if hazard.code in {Code.LAYER_LOST, Code.LAYER_LINK_LOST}:
            assert (hazard.repository, hazard.digest) not in after, hazard
