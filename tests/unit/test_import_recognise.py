"""What a line of an older history is, and how files are read."""

from __future__ import annotations

import gzip
import io
import json

import pytest

from indexer.history_import import reading
from indexer.history_import.reading import read_lines
from indexer.history_import.recognise import joined, recognise

EVENT = {"id": "1", "action": "push", "target": {"repository": "a/b"}}
ENTRY = {
    "id": 7,
    "action": "tag.created",
    "source": "notification",
    "occurred_at": "2025-01-01T00:00:00Z",
    "recorded_at": "2025-01-01T00:00:01Z",
    "repository": "a/b",
    "tag": "1",
    "digest": "sha256:" + "1" * 64,
    "event_id": "e",
    "request": {"id": "r", "address": "::1", "port": 9, "user_agent": "docker"},
    "actor": None,
    "registry": None,
    "detail": {},
}


def test_recognise__envelopes_and_bare_events() -> None:
    """An envelope is its events; an event by itself is one."""
    assert recognise({"events": [EVENT, EVENT]}, place="f:1").events == (EVENT, EVENT)
    assert recognise(EVENT, place="f:1").events == (EVENT,)


def test_recognise__an_entry_is_its_event() -> None:
    """An entry of a notification becomes the event it came of; one of a walk stays an entry."""
    (event,) = recognise(ENTRY, place="f:1").events
    assert event["action"] == "push"
    assert event["id"] == "e"
    assert event["request"]["addr"] == "[::1]:9"
    assert recognise(ENTRY | {"source": "walk"}, place="f:1").entry is not None


@pytest.mark.parametrize("value", [[], 1, None, "x", {}, {"events": 1}, {"action": "push"}])
def test_recognise__anything_else_is_refused(value: object) -> None:
    """What is none of them is an error, not a crash."""
    with pytest.raises(ValueError, match=r"neither|not a JSON object"):
        recognise(value, place="f:1")


def test_joined__entries_of_one_event_are_one() -> None:
    """The entry of the manifest and that of the tag came of one event, which names the tag."""
    manifest = recognise(ENTRY | {"action": "manifest.pushed", "tag": None}, place="f:1")
    tag = recognise(ENTRY, place="f:2")
    other = recognise(ENTRY | {"event_id": "f"}, place="f:3")
    assert list(joined(iter([manifest, tag, other]))) == [tag, other]


def test_read_lines__gzip_blank_and_bad_lines() -> None:
    """Compressed is read like plain; a line that is no JSON has its number and reason; blank ones are nothing."""
    content = b'\n{"a": 1}\n\nno\n{"b": 2}'
    for file in (content, gzip.compress(content)):
        lines = list(read_lines(io.BytesIO(file), name="f"))
        assert [(line.number, line.value) for line in lines] == [(2, {"a": 1}), (4, None), (5, {"b": 2})]
        assert lines[1].refused is not None


def test_read_lines__one_document_over_many_lines() -> None:
    """A file that is one JSON value is read as that."""
    (line,) = read_lines(io.BytesIO(json.dumps({"events": [EVENT]}, indent=1).encode()), name="f")
    assert line.value == {"events": [EVENT]}


def test_read_lines__a_line_too_long_costs_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before and after a line that is too long is read."""
    monkeypatch.setattr(reading, "MAX_LINE_BYTES", 20)
    content = b'{"a": 1}\n' + b'"' + b"x" * 100 + b'"\n{"b": 2}\n'
    lines = list(read_lines(io.BytesIO(content), name="f"))
    assert [line.value for line in lines] == [{"a": 1}, None, {"b": 2}]
    assert lines[1].refused == "longer than 20 bytes"
