"""What a real dry run printed is read whole; text that is no whole dry run is not taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reconciler.collection.dry_run import Counts, DryRun, read_dry_run

DIRECTORY = Path(__file__).parents[1] / "captures" / "garbage_collect"
NAMES: dict[str, str] = json.loads((DIRECTORY / "names.json").read_text())

PLAIN = {"app:deleted (manifest)", "app:deleted (blob 0)", "app:deleted (blob 1)", "loose blob (blob 0)"}
UNTAGGED_3 = {
    *PLAIN,
    *("app:old-v1 (manifest)", "app:old-v1 (blob 0)", "app:old-v1 (blob 1)"),
    *(f"sbom by digest with subject ({part})" for part in ("manifest", "blob 0", "blob 1")),
    *(f"cache digest-only ({part})" for part in ("manifest", "blob 0", "blob 1")),
}


def read(name: str) -> DryRun:
    return read_dry_run((DIRECTORY / f"{name}.txt").read_text().splitlines(keepends=True))


def names(digests: object) -> set[str]:
    return {NAMES[digest] for digest in digests}  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", ["2.8.2", "3.0.0", "3.1.1"])
def test_read_dry_run__plain(version: str) -> None:
    """Without --delete-untagged all versions name the same blobs, and every manifest of the registry."""
    found = read(f"{version}.dry-run")

    assert found.problem is None
    assert found.unread == 0
    assert found.counts == Counts(marked=29, blobs=4, manifests=0)
    assert found.repositories == ("gc/app", "gc/cache", "gc/list", "gc/multi", "gc/signed")
    assert names(found.blobs) == PLAIN
    assert found.manifests == frozenset()
    assert names(digest for _, digest in found.marked_manifests) == {
        name for name in NAMES.values() if name.endswith("(manifest)") and "deleted" not in name
    } - {"loose blob (manifest)"}


@pytest.mark.parametrize("version", ["3.0.0", "3.1.1"])
def test_read_dry_run__untagged_of_3(version: str) -> None:
    """Candidates name their repository, layer links theirs, and a repository without tags is told."""
    found = read(f"{version}.dry-run-delete-untagged")

    assert found.problem is None
    assert found.counts == Counts(marked=20, blobs=13, manifests=2)
    assert names(found.blobs) == UNTAGGED_3
    assert {(name, NAMES[digest]) for name, digest in found.manifests} == {
        ("gc/app", "app:old-v1 (manifest)"),
        ("gc/signed", "sbom by digest with subject (manifest)"),
    }
    assert found.never_tagged == {"gc/cache"}
    assert {name for name, _ in found.layer_links} == {"gc/app", "gc/cache", "gc/signed"}
    assert len(found.layer_links) == 9


def test_read_dry_run__untagged_of_2() -> None:
    """2.8 names no repository with a candidate: it is the one whose section the line is in."""
    found = read("2.8.2.dry-run-delete-untagged-all-tagged")

    assert found.problem is None
    assert {(name, NAMES[digest]) for name, digest in found.manifests} == {
        ("gc/app", "app:old-v1 (manifest)"),
        ("gc/list", "list child amd64 (manifest)"),
        ("gc/list", "list child arm64 (manifest)"),
        ("gc/multi", "multi child amd64 (manifest)"),
        ("gc/multi", "multi child arm64 (manifest)"),
        ("gc/signed", "sbom by digest with subject (manifest)"),
    }


def test_read_dry_run__that_failed() -> None:
    """A run that ended before its counts says nothing about deletions, however much it printed."""
    found = read("2.8.2.dry-run-delete-untagged")

    assert found.counts is None
    assert found.problem is not None
    assert "failed" in found.problem
    assert found.blobs == frozenset()


WHOLE = (DIRECTORY / "3.1.1.dry-run-delete-untagged.txt").read_text().splitlines()


@pytest.mark.parametrize("lost", range(len(WHOLE)))
def test_read_dry_run__a_line_is_missing(lost: int) -> None:
    """A missing line is noticed, unless it says nothing that counts: a repository's name, a layer link, nothing."""
    line = WHOLE[lost]
    found = read_dry_run([*WHOLE[:lost], *WHOLE[lost + 1 :]])

    says_nothing = not line or " " not in line or "layer link" in line or "does not exist" in line
    assert (found.problem is None) is says_nothing


def test_read_dry_run__of_two_runs() -> None:
    """The text of two runs, one after the other, is not one run."""
    other = (DIRECTORY / "3.1.1.dry-run.txt").read_text().splitlines()

    assert read_dry_run([*other, *WHOLE]).problem is not None


@pytest.mark.parametrize(
    "line",
    [
        "time=2026-11-29T00:00:00Z level=info msg=whatever",
        "blob eligible for deletion: sha256:short",
        "manifest eligible for deletion: {app sha256:short []}",
        "app: layer link eligible for deletion: ",
        "failed to garbage collect: failed to mark: …",
    ],
)
def test_read_dry_run__other_lines(line: str) -> None:
    """A line of another form is counted, and taken for nothing."""
    found = read_dry_run([*WHOLE, line])

    assert found.unread == 1
    assert found.problem is None
    assert found == read_dry_run([line, *WHOLE])


def test_read_dry_run__windows_ends() -> None:
    """Line ends of any system are none of the line's."""
    assert read_dry_run([f"{line}\r\n" for line in WHOLE]) == read_dry_run(WHOLE)
