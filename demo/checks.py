"""Is what is shown true? Every row against the ledger, and the listing against the registry itself."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

from demo.ledger import Drift, Entry
from demo.story import WEB

if TYPE_CHECKING:
    from collections.abc import Iterator

    from demo.asking import Json, Shown
    from demo.ledger import Ledger, Pushed
    from demo.stage import Stage

ARM = "linux/arm64"


def problems(shown: Shown, ledger: Ledger, stage: Stage) -> list[str]:
    """Return what is wrong, one line each; nothing where all is as it was done."""
    return [
        *_tags(shown.tags, ledger),
        *_registry_agrees(shown.tags, ledger, stage),
        *_filtered(shown.on_arm, ledger),
        *_one_tag(shown.one_tag, ledger),
        *_history(shown.history, ledger),
        *_audit(shown.audit, ledger),
        *_drift(shown.drift, ledger),
    ]


def summary(shown: Shown) -> str:
    """Say what was compared."""
    return (
        f"{len(shown.tags)} tags in every field and with the registry, {len(shown.audit)} audit entries, "
        f"{len(shown.drift)} repairs, {len(shown.history)} intervals of history"
    )


def _tags(rows: list[Json], ledger: Ledger) -> Iterator[str]:
    """Expect what was announced in the order of its events; since when the rest is there can be guessed only."""
    names = [(row["repository"], row["name"]) for row in rows]
    newest_first = list(reversed(ledger.tags))
    announced = [name for name in newest_first if ledger.tags[name].actor is not None]
    if sorted(names) != sorted(newest_first) or [name for name in names if name in announced] != announced:
        yield f"the listing has {names}, but published were, newest first, {newest_first}"
        return
    times = [row["published_at"] for row in rows]
    if times != sorted(times, reverse=True):
        yield f"the listing is not sorted by publish time: {times}"
    for row in rows:
        key = row["repository"], row["name"]
        yield from _differences(f"{key[0]}:{key[1]}", row, _expected_tag(ledger.tags[key], ledger.pulls[key]))
        yield from _published(f"{key[0]}:{key[1]}", row, ledger.tags[key])
        if row["verified_at"] is None:
            yield f"{key[0]}:{key[1]} was never verified"


def _published(name: str, row: Json, pushed: Pushed) -> Iterator[str]:
    """Expect an event's own time; without one, that of the observation that found it."""
    began, ended = pushed.between
    at, source = datetime.fromisoformat(row["published_at"]), row["published_at_source"]
    if pushed.actor is not None:
        true = source == "event" and began <= at <= ended
    else:
        true = source == "first-seen" and at > began
    if not true:
        yield f"{name} was published at {at} by {source}; pushed it was between {began} and {ended}"


def _expected_tag(pushed: Pushed, pulls: int) -> Json:
    image = pushed.image
    expected: dict[str, Any] = {
        "digest": image.digest,
        "media_type": image.media_type,
        "artifact_type": pushed.artifact_type,
        "kind": pushed.kind,
        "size_bytes": image.size_bytes,
        "platforms": _platforms(pushed),
        "pushed_by": pushed.actor,
        "pull_count": pulls,
        "broken": False,
        "broken_reason": None,
    }
    if pushed.kind == "image":
        config = image.blobs[0]
        created = json.loads(config.data)["created"]
        expected |= {"config_digest": config.digest, "created_at": created.replace("Z", ".000000Z")}
    return expected


def _platforms(pushed: Pushed) -> list[str]:
    if pushed.image.children:
        return sorted(child.platform for child in pushed.image.children)
    return [pushed.image.platform] if pushed.image.platform else []


def _registry_agrees(rows: list[Json], ledger: Ledger, stage: Stage) -> Iterator[str]:
    """Ask the registry itself: which tags there are, and where each points."""
    truth: dict[tuple[str, str], str | None] = {}
    with stage.client("reconciler") as client:
        for repository in sorted({name for name, _ in ledger.tags}):
            listed = json.loads(client.request("GET", f"/v2/{repository}/tags/list").body)["tags"] or []
            truth |= {(repository, tag): client.digest_of(repository, tag) for tag in listed}
    shown = {(row["repository"], row["name"]): row["digest"] for row in rows}
    if shown != truth:
        yield f"the registry holds {truth}, the listing says {shown}"


def _filtered(rows: list[Json], ledger: Ledger) -> Iterator[str]:
    expected = [
        tag
        for (repository, tag), pushed in reversed(ledger.tags.items())
        if repository == WEB and ARM in _platforms(pushed)
    ]
    if [row["name"] for row in rows] != expected:
        yield f"tags for {ARM}: {[row['name'] for row in rows]}, expected {expected}"


def _one_tag(row: Json, ledger: Ledger) -> Iterator[str]:
    referrers = [each["digest"] for each in row["referrers"]]
    attached = [ledger.tags[WEB, "1.2.0.sbom"].image.digest]
    if referrers != attached:
        yield f"referrers of {WEB}:1.2.0: {referrers}, attached was {attached}"
    same = sorted(
        tag
        for (repository, tag), pushed in ledger.tags.items()
        if repository == WEB and tag != "1.2.0" and pushed.image.digest == row["digest"]
    )
    if row["sibling_tags"] != same:
        yield f"other tags on the digest of {WEB}:1.2.0: {row['sibling_tags']}, expected {same}"


def _history(rows: list[Json], ledger: Ledger) -> Iterator[str]:
    shown = [(row["digest"], row["actor"]) for row in reversed(rows)]
    done = [
        (entry.digest, entry.actor)
        for entry in ledger.entries
        if (entry.repository, entry.tag) == (WEB, "latest") and entry.action.startswith("tag.")
    ]
    if shown != done:
        yield f"history of {WEB}:latest: {shown}, done was {done}"
    if rows and (rows[0]["to"] is not None or rows[-1]["to"] != rows[0]["from"]):
        yield f"history of {WEB}:latest has gaps: {rows}"


def _audit(rows: list[Json], ledger: Ledger) -> Iterator[str]:
    """Every entry once; those of notifications in the order of their events, each with its event's id."""
    shown = [
        Entry(
            row["action"],
            row["repository"],
            row["tag"],
            row["digest"],
            row["previous_digest"],
            (row["actor"] or {}).get("name"),
            row["source"],
        )
        for row in rows
    ]
    for entry, count in (Counter(shown) - Counter(ledger.entries)).items():
        yield f"the audit log has {count} times {entry}, which was not done"
    for entry, count in (Counter(ledger.entries) - Counter(shown)).items():
        yield f"the audit log lacks {count} times {entry}"
    announced = [
        entry for entry in reversed(shown) if entry.source == "notification" and entry.tag is not None
    ]
    done = [entry for entry in ledger.entries if entry.source == "notification" and entry.tag is not None]
    if announced != done:
        yield f"the audit log's order is {announced}, done was {done}"
    positions = sorted(row["position"] or 0 for row in rows)
    if positions != list(range(1, len(rows) + 1)):
        yield f"the audit log's positions have gaps: {positions}"
    for row in rows:
        if (row["source"] == "notification") != (row["event_id"] is not None):
            yield f"{row['action']} of {row['repository']} has the event id {row['event_id']}"


def _drift(rows: list[Json], ledger: Ledger) -> Iterator[str]:
    shown = [Drift(row["kind"], row["repository"], row["tag"], row["expected"], row["found"]) for row in rows]
    if Counter(shown) != Counter(ledger.drift):
        yield f"the reconcile found {shown}, changed behind its back was {ledger.drift}"
    yield from (f"{row['kind']} of {row['tag']} was not repaired" for row in rows if not row["repaired_at"])


def _differences(name: str, row: Json, expected: Json) -> Iterator[str]:
    for field, value in expected.items():
        if row[field] != value:
            yield f"{name}: {field} is {row[field]!r}, pushed was {value!r}"
