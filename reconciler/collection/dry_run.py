"""Reads what ``garbage-collect --dry-run`` printed. Pure.

Its lines, in 2.8 and 3.x alike unless a release is named (registry/storage/garbagecollect.go):

    <repository>
    manifest eligible for deletion: <digest>                            2.8: of the repository named last
    <repository>: marking manifest <digest> <- a blank at the end
    <repository>: marking blob <digest>                                 2.8: again for each reference; 3.x: once, ever
    manifest tags path of repository <repository> does not exist        3.x
    manifest eligible for deletion: {<repository> <digest> [<tags>]}    3.x
    <n> blobs marked, <n> blobs and <n> manifests eligible for deletion
    blob eligible for deletion: <digest>
    <repository>: layer link eligible for deletion: <digest>            3.x

A run that failed has no line of counts, and what it printed before says nothing about deletions. Lines in other forms
(the registry logs to the same place if it is told to) are counted, not read. A real run prints the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from indexer.oci.digest import Digest, is_digest

_NAME: Final = r"(?P<name>[A-Za-z0-9][^\s{}]*?)"
_DIGEST: Final = r"(?P<digest>\S*)"
_MARKING: Final = re.compile(rf"{_NAME}: marking (?P<what>manifest|blob) {_DIGEST} ?\Z")
_LAYER_LINK: Final = re.compile(rf"{_NAME}: layer link eligible for deletion: {_DIGEST}\Z")
_BLOB: Final = re.compile(rf"blob eligible for deletion: {_DIGEST}\Z")
_MANIFEST: Final = re.compile(rf"manifest eligible for deletion: {_DIGEST}\Z")
_MANIFEST_OF: Final = re.compile(rf"manifest eligible for deletion: \{{{_NAME} {_DIGEST} \[.*\]\}}\Z")
_NEVER_TAGGED: Final = re.compile(rf"manifest tags path of repository {_NAME} does not exist\Z")
_COUNTS: Final = re.compile(
    r"(?P<marked>\d+) blobs marked, (?P<blobs>\d+) blobs and (?P<manifests>\d+) manifests eligible for deletion\Z"
)
_REPOSITORY: Final = re.compile(rf"{_NAME}\Z")


@dataclass(frozen=True, slots=True)
class Counts:
    """The line of counts."""

    marked: int
    blobs: int
    manifests: int


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a dry run said it would do.

    - ``marked_manifests``: every manifest that stays, with its repository. Without ``--delete-untagged`` this names
      all manifests of the registry, the untagged ones too, which the registry's API does not list.
    - ``never_tagged``: repositories whose manifests 3.x passes over.
    - ``unread``: the number of lines that have another form.
    - ``problem``: why the text is not the whole of a dry run that worked; None if it is.
    """

    repositories: tuple[str, ...]
    marked: frozenset[str]
    marked_manifests: frozenset[tuple[str, Digest]]
    blobs: frozenset[Digest]
    manifests: frozenset[tuple[str, Digest]]
    layer_links: frozenset[tuple[str, Digest]]
    never_tagged: frozenset[str]
    counts: Counts | None
    unread: int
    problem: str | None


@dataclass(slots=True)
class _Found:
    repositories: list[str] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)
    marked_manifests: set[tuple[str, Digest]] = field(default_factory=set)
    blobs: set[Digest] = field(default_factory=set)
    manifests: list[tuple[str, Digest]] = field(default_factory=list)
    layer_links: set[tuple[str, Digest]] = field(default_factory=set)
    never_tagged: set[str] = field(default_factory=set)
    counts: Counts | None = None
    unread: int = 0


def read_dry_run(lines: Iterable[str]) -> DryRun:
    """Read the lines of a dry run, with or without their ends."""
    found = _Found()
    for line in lines:
        text = line.rstrip("\r\n")
        if text and not _read_line(text, found):
            found.unread += 1
    return DryRun(
        repositories=tuple(found.repositories),
        marked=frozenset(found.marked),
        marked_manifests=frozenset(found.marked_manifests),
        blobs=frozenset(found.blobs),
        manifests=frozenset(found.manifests),
        layer_links=frozenset(found.layer_links),
        never_tagged=frozenset(found.never_tagged),
        counts=found.counts,
        unread=found.unread,
        problem=_problem(found),
    )


def _read_line(text: str, found: _Found) -> bool:
    """Take in one line; False if it has no form of the collector's."""
    return (
        _read_mark(text, found)
        or _read_deletion(text, found)
        or _read_counts(text, found)
        or _read_repository(text, found)
    )


def _read_mark(text: str, found: _Found) -> bool:
    line = _MARKING.match(text)
    if line is None:
        return False
    digest = line["digest"]
    found.marked.add(digest)
    if line["what"] == "manifest" and is_digest(digest):
        found.marked_manifests.add((line["name"], Digest(digest)))
    return True


def _read_deletion(text: str, found: _Found) -> bool:
    if (line := _LAYER_LINK.match(text)) is not None and is_digest(line["digest"]):
        found.layer_links.add((line["name"], Digest(line["digest"])))
    elif (line := _BLOB.match(text)) is not None and is_digest(line["digest"]):
        found.blobs.add(Digest(line["digest"]))
    elif (line := _MANIFEST_OF.match(text)) is not None and is_digest(line["digest"]):
        found.manifests.append((line["name"], Digest(line["digest"])))
    elif (line := _MANIFEST.match(text)) is not None and is_digest(line["digest"]) and found.repositories:
        found.manifests.append((found.repositories[-1], Digest(line["digest"])))
    elif (line := _NEVER_TAGGED.match(text)) is not None:
        found.never_tagged.add(line["name"])
    else:
        return False
    return True


def _read_counts(text: str, found: _Found) -> bool:
    line = _COUNTS.match(text)
    if line is None:
        return False
    found.counts = Counts(int(line["marked"]), int(line["blobs"]), int(line["manifests"]))
    return True


def _read_repository(text: str, found: _Found) -> bool:
    line = _REPOSITORY.match(text)
    if line is None or found.counts is not None:
        return False
    found.repositories.append(line["name"])
    return True


def _problem(found: _Found) -> str | None:
    counts = found.counts
    if counts is None:
        return (
            "the text has no line '… blobs marked, … eligible for deletion': the dry run failed, its output was cut "
            "off, or it ran with --quiet"
        )
    for what, said, named in (
        ("blobs", counts.blobs, len(found.blobs)),
        ("manifests", counts.manifests, len(found.manifests)),
        ("marked digests", counts.marked, len(found.marked)),
    ):
        if said != named:
            return f"the text counts {said} {what} and names {named}: lines are missing, or of two runs"
    return None
