"""Whether a checkpoint is pushed into the registry, and as what."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from indexer.oci.digest import digest_of
from reconciler.checkpoints.artifact import ARTIFACT_TYPE, EMPTY, artifact_of, size_of
from reconciler.checkpoints.decide import PushOutcome, Situation, decide

NEWEST, OLDER = digest_of(b"newest"), digest_of(b"older")
AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("standing", "size", "others", "outcome"),
    [
        (None, None, False, PushOutcome.PUSHED),
        (OLDER, None, True, PushOutcome.FOREIGN),
        (NEWEST, 7, False, PushOutcome.PRESENT),
        (OLDER, 5, True, PushOutcome.PUSHED),
        (OLDER, 5, False, PushOutcome.OWN_ENTRIES_ONLY),
    ],
)
def test_decide__pushes_what_is_new_over_nothing_but_its_own(
    standing: str | None, size: int | None, others: bool, outcome: PushOutcome
) -> None:
    """Every rule of the page above, one row each."""
    situation = Situation(newest=NEWEST, present=standing, size=size, others=others)  # type: ignore[arg-type]
    assert outcome == decide(situation)


def test_artifact__is_the_note_and_says_its_size() -> None:
    """An OCI 1.1 artifact: empty config, the note as its only layer, the size as an annotation and as its tag."""
    note = "origin\n12\nroot\n\n— origin signature\n"
    made = artifact_of(size=12, signed_at=AT, note=note)
    manifest = json.loads(made.manifest)
    assert ARTIFACT_TYPE == manifest["artifactType"]
    assert ("application/vnd.oci.empty.v1+json", digest_of(EMPTY), 2) == tuple(manifest["config"].values())
    assert [digest_of(note.encode())] == [layer["digest"] for layer in manifest["layers"]]
    assert (EMPTY, note.encode()) == made.blobs
    assert {
        "org.opencontainers.image.created": "2026-05-01T00:00:00.000000Z",
        "registry-indexer.audit.checkpoint.size": "12",
    } == manifest["annotations"]
    assert ("12", 12) == (made.tag, size_of(made.manifest))
    assert made.digest == artifact_of(size=12, signed_at=AT, note=note).digest


@pytest.mark.parametrize(
    "text",
    [
        b"no JSON",
        b"[]",
        b"{}",
        json.dumps({"artifactType": "application/x", "annotations": {}}).encode(),
        json.dumps({"artifactType": ARTIFACT_TYPE}).encode(),
        json.dumps({"artifactType": ARTIFACT_TYPE, "annotations": []}).encode(),
        json.dumps(
            {"artifactType": ARTIFACT_TYPE, "annotations": {"registry-indexer.audit.checkpoint.size": 5}}
        ).encode(),
        json.dumps(
            {
                "artifactType": ARTIFACT_TYPE,
                "annotations": {"registry-indexer.audit.checkpoint.size": "9" * 30},
            }
        ).encode(),
    ],
)
def test_size_of__what_is_no_checkpoint_has_none(text: bytes) -> None:
    """Anybody may push anything under any tag."""
    assert size_of(text) is None
