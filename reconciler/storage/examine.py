"""One pass over a storage: what is damaged, and what the bytes belong to.

What looks damaged is read a second time, some time later, and is a finding only if it is there both times: a push or a
deletion that is under way is not damage. Nothing is returned of a pass that did not come to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from indexer.oci.digest import Digest
from indexer.oci.reference import RepositoryName
from indexer.store.collections import MOST_AWAITED
from reconciler.storage.bytes import Accounts, RootShare, Share, TagShare, Totals, Waiting, in_order
from reconciler.storage.contents import Contents, Illegible
from reconciler.storage.damage import (
    Finding,
    RepositoryRead,
    Severity,
    judge_repository,
    judge_unreferenced,
    suspects,
    wanted_contents,
)
from reconciler.storage.observe import Others, Reader, holdings_of

Progress = Callable[[int, int, str], None]
NOTHING: Final = Waiting(blobs=0, bytes=0, unreferenced_bytes=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What a pass found.

    - ``findings``: by repository and path; empty where only bytes were asked for.
    - ``compared``: blobs whose bytes were compared with their digests, manifests included.
    - ``roots``: digests that tags point to. ``tags``: empty unless they were asked for.
    - ``wrong_bytes``: of blobs whose bytes were compared, and are wrong. ``trash``: what deleted tags need.
    - ``unreferenced``: some of the blobs that nothing refers to. ``gone``: how many of those that were ``awaited`` are
      not there any more.
    """

    findings: Sequence[Finding]
    totals: Totals
    repositories: Sequence[Share]
    prefixes: Sequence[Share]
    tags: Sequence[TagShare]
    others: Others
    compared: int
    unreferenced: Sequence[Digest] = ()
    gone: int = 0
    roots: Iterable[RootShare] = ()
    wrong_bytes: int = 0
    trash: Waiting = NOTHING

    @property
    def damaged(self) -> Sequence[Finding]:
        """The findings for which something cannot be pulled."""
        return [each for each in self.findings if each.severity is Severity.DAMAGED]


def examine(
    reader: Reader,
    *,
    now: datetime,
    checking: bool,
    content: bool = False,
    known_wrong: Iterable[Digest] = (),
    with_tags: bool = False,
    awaited: Iterable[Digest] = (),
    in_trash: Iterable[Digest] = (),
    settle: Callable[[], None] = lambda: None,
    progress: Progress = lambda _done, _total, _unit: None,
) -> Examined:
    """Read the storage once. ``settle`` waits until what is under way has ended, before anything is called damaged.

    ``checking`` False: only bytes; links are not read, except those of tags. ``content``: compare all bytes.
    ``known_wrong``: blobs that were found to be wrong before; these are compared in any case. ``awaited``: blobs that
    were there when the storage was read before. ``in_trash``: what is needed to put deleted tags back.
    """
    reader.list_blobs()
    _compare(reader, sorted(reader.sizes if content else set(known_wrong) & reader.sizes.keys()), progress)
    names = [RepositoryName(name) for name in in_order(reader.repositories())]
    accounts = Accounts(reader.sizes, now=now, with_tags=with_tags)
    findings: dict[RepositoryName, list[Finding]] = {}
    needed: set[Digest] = set()
    for at, name in enumerate(names):
        progress(at, len(names), "repositories")
        read = reader.repository(name, links=checking)
        contents = _contents_of(reader, read)
        accounts.add(holdings_of(read), contents)
        needed |= _needed_by(read, contents) & reader.wrong
        if checking and (found := _judge(reader, read, contents, now)):
            findings[name] = found
    if any(each.severity is Severity.DAMAGED for found in findings.values() for each in found):
        settle()
        findings = _confirmed(reader, findings, now)
    progress(len(names), len(names), "repositories")
    all_findings = [each for found in findings.values() for each in found]
    if checking:
        all_findings += _unreferenced(reader, all_findings, needed)
    shares = accounts.shares()
    roots, tags = accounts.tagged()
    reader.ask_again(awaited := frozenset(awaited))
    return Examined(
        findings=all_findings,
        totals=accounts.totals(),
        repositories=shares[0],
        prefixes=shares[1],
        tags=tags,
        others=reader.others,
        compared=len(reader.proven) + len(reader.wrong),
        unreferenced=accounts.unreferenced(MOST_AWAITED),
        gone=len(awaited - reader.sizes.keys()),
        roots=roots,
        wrong_bytes=sum(reader.sizes.get(each, 0) for each in reader.wrong),
        trash=accounts.waiting(in_trash),
    )


def examine_again(reader: Reader, name: RepositoryName, *, now: datetime) -> list[Finding]:
    """Read one repository anew, with everything that its findings are about, and judge it."""
    read = reader.repository(name, counting=False)
    contents = _contents_of(reader, read)
    named = {each.digest for each in _judge(reader, read, contents, now) if each.digest is not None}
    reader.forget_missing(named)
    for digest in named & reader.wrong:
        reader.has_wrong_bytes(digest, again=True)
    return _judge(reader, read, _contents_of(reader, read), now)


def _compare(reader: Reader, digests: Sequence[Digest], progress: Progress) -> None:
    for at, digest in enumerate(digests):
        progress(at, len(digests), "blobs compared")
        reader.has_wrong_bytes(digest)


def _contents_of(reader: Reader, read: RepositoryRead) -> Mapping[Digest, Contents | Illegible]:
    """Read the manifests of a repository, and children that it links as layers only, as the registry of 2.1 did."""
    contents = dict(reader.read_manifests(wanted_contents(read)))
    waiting = list(contents.values())
    while waiting:
        each = waiting.pop()
        if isinstance(each, Contents) and each.is_index:
            more = [
                need.digest
                for need in each.needed
                if need.digest in read.layers and need.digest not in contents
            ]
            found = reader.read_manifests(more)
            contents.update(found)
            waiting += found.values()
    return contents


def _judge(
    reader: Reader, read: RepositoryRead, contents: Mapping[Digest, Contents | Illegible], now: datetime
) -> list[Finding]:
    targets = (link.digest for link in read.layers.values() if link.digest is not None)
    reader.ask_again({*_needed_by(read, contents), *read.layers, *targets})
    for digest in suspects(read, reader.blobs_read(contents)):
        reader.has_wrong_bytes(digest)
    return judge_repository(read, reader.blobs_read(contents), now=now)


def _needed_by(read: RepositoryRead, contents: Mapping[Digest, Contents | Illegible]) -> set[Digest]:
    """Return the manifests of a repository, and what they refer to."""
    found = {each.digest for one in contents.values() if isinstance(one, Contents) for each in one.needed}
    return found | wanted_contents(read)


def _confirmed(
    reader: Reader, findings: Mapping[RepositoryName, list[Finding]], now: datetime
) -> dict[RepositoryName, list[Finding]]:
    """Return what is still there when each repository with damage is read again."""
    confirmed: dict[RepositoryName, list[Finding]] = {}
    for name, found in findings.items():
        if all(each.severity is Severity.HARMLESS for each in found):
            confirmed[name] = found
            continue
        before = {each.key for each in found}
        still = [each for each in examine_again(reader, name, now=now) if each.key in before]
        if still:
            confirmed[name] = still
    return confirmed


def _unreferenced(reader: Reader, findings: Sequence[Finding], needed: set[Digest]) -> list[Finding]:
    """Return findings for wrong bytes that no repository needs, compared a second time."""
    named = {each.path for each in findings}
    left = [digest for digest in sorted(reader.wrong - needed) if reader.has_wrong_bytes(digest, again=True)]
    return [each for each in judge_unreferenced(left) if each.path not in named]


SETTLE_SECONDS: Final = 45.0
"""Longer than what a registry writes in parts takes. 2.8 untags after it removed a manifest: 39 s were seen on S3."""
