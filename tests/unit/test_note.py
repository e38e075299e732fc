"""Signed notes against the vector of Go's sumdb/note, which C2SP's signed-note describes."""

from __future__ import annotations

from base64 import b64encode

import pytest

from indexer.audit.note import Checkpoint, NoteRefused, SignerKey, VerifierKey, verify_note

PUBLIC = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PRIVATE = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
NOTE = f"{TEXT}\n— PeterNeumann {SIGNATURE}\n"
ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
CHECKPOINT = """\
example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa \
Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
"""


def test_note__is_that_of_the_vector() -> None:
    """Our signature is the published one, byte by byte, and the published key verifies it."""
    signer = SignerKey.parse(PRIVATE)
    assert (PUBLIC, PRIVATE, NOTE) == (str(signer.verifier), signer.secret_text(), signer.sign(TEXT))
    assert verify_note(NOTE, VerifierKey.parse(PUBLIC)) == TEXT


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("answer", "Answer"),
        NOTE.replace("x08go", "x08ga"),
        NOTE.replace("— Peter", "- Peter"),
        NOTE.removesuffix("\n"),
        TEXT,
        SignerKey.generate("PeterNeumann").sign(TEXT),
        NOTE.replace("PeterNeumann", "PeterNewmann"),
        "",
    ],
)
def test_note__altered_or_by_another_is_refused(note: str) -> None:
    """What was altered, is signed by another key of the same name or under another name, or is no note, is refused."""
    with pytest.raises(NoteRefused):
        verify_note(note, VerifierKey.parse(PUBLIC))


@pytest.mark.parametrize("key", [PUBLIC[:-1], PUBLIC.replace("c7", "c8"), "PeterNeumann", "", PRIVATE])
def test_key__damaged_is_refused(key: str) -> None:
    """A key whose id does not fit, or that is none, is refused."""
    with pytest.raises(NoteRefused):
        VerifierKey.parse(key)


@pytest.mark.parametrize("key", [PRIVATE[:-1], PRIVATE.replace("c7", "c8"), PUBLIC, "PRIVATE+KEY+", ""])
def test_signer__damaged_is_refused_and_not_repeated(key: str) -> None:
    """A log is not signed with a key that is not the one that was made for it."""
    with pytest.raises(NoteRefused) as refused:
        SignerKey.parse(key)
    assert "YEKFALVFGyN" not in str(refused.value)


@pytest.mark.parametrize(
    ("what", "instead"),
    [
        (ROOT, b64encode(bytes(31)).decode()),
        (ROOT, b64encode(bytes(33)).decode()),
        (ROOT, ROOT.removesuffix("=")),
        ("20852163", "020852163"),
        ("20852163", "-1"),
        ("20852163", "2e7"),
        ("example.com/behind-the-sofa\n20852163", "20852163"),
    ],
    ids=["short root", "long root", "no base64", "leading zero", "negative", "no number", "no origin"],
)
def test_checkpoint__that_is_none_is_refused(what: str, instead: str) -> None:
    """A size has one form and a root one length."""
    assert what in CHECKPOINT
    with pytest.raises(NoteRefused):
        Checkpoint.parse(CHECKPOINT.replace(what, instead, 1))


def test_checkpoint__is_read_and_written_as_the_standard_has_it() -> None:
    """The standard's example is read, and its text written again as it was."""
    checkpoint = Checkpoint.parse(CHECKPOINT)
    assert ("example.com/behind-the-sofa", 20852163) == (checkpoint.origin, checkpoint.size)
    assert CHECKPOINT.startswith(checkpoint.text() + "\n")
