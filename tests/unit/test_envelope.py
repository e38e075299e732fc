"""Envelopes: whatever can be decoded is, and what cannot be says why."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.ingest.envelope import MAX_EVENTS, MAX_VALUES, Decoded, decode, decode_events, split_address
from indexer.inventory.events import EventAction

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DIGEST = "sha256:" + "a" * 64


def event(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": "01a20b7d-18a0-743f-9ab4-152ba40242a6",
        "timestamp": "2026-05-01T11:59:59.123456789Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": DIGEST,
            "size": 401,
            "repository": "team/app",
            "tag": "v1",
        },
        "request": {
            "id": "r-1",
            "addr": "10.0.0.7:4711",
            "host": "registry",
            "method": "PUT",
            "useragent": "x",
        },
        "actor": {"name": "ada"},
        "source": {"addr": "registry:5000", "instanceID": "i-1"},
    }
    return made | changes


def of(*events: Any, encoding: str = "") -> Decoded:
    body = json.dumps({"events": list(events)}).encode()
    return decode(body, content_encoding=encoding, received_at=NOW)


def test_decode__a_push_by_tag() -> None:
    """Every field arrives where it belongs; nanoseconds are cut to microseconds; the port is apart."""
    (found,) = of(event()).events
    assert (EventAction.PUSH, "team/app", "v1", DIGEST) == (
        found.action, found.repository, found.tag, found.digest,
    )  # fmt: skip
    assert datetime(2026, 5, 1, 11, 59, 59, 123456, UTC) == found.occurred_at
    assert ("10.0.0.7", 4711) == (found.request.address, found.request.port)
    assert "ada" == found.actor


def test_decode__a_delete_of_3_x_with_empty_strings() -> None:
    """Empty strings in a target mean absent."""
    target = {"mediaType": "", "digest": "", "size": 0, "repository": "team/app", "tag": "v1"}
    (found,) = of(event(action="delete", target=target)).events
    assert found.digest is None
    assert "v1" == found.tag


@pytest.mark.parametrize("body", [b"{}", b'{"events": null}', b'{"events": []}', b"  {} "])
def test_decode__nothing_is_nothing(body: bytes) -> None:
    """An envelope without events is legal: Distribution omits an empty list."""
    assert Decoded() == decode(body, content_encoding="", received_at=NOW)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"7", b'"x"', b"{", b"\xff\xfe", b'{"a": 1}', b'{"events": {}}', b"[" * 200_000],
    ids=["empty", "list", "null", "number", "text", "cut", "binary", "foreign", "events-object", "nested"],
)
def test_decode__what_is_no_envelope_is_refused_whole(body: bytes) -> None:
    """An undecodable body gives one refusal with a reason and no event."""
    decoded = decode(body, content_encoding="", received_at=NOW)
    assert decoded.events == ()
    (refused,) = decoded.refused
    assert refused.body is None
    assert refused.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"action": "rename"}, "unknown action 'rename'"),
        ({"action": None}, "unknown action 'None'"),
        ({"target": None}, "no repository"),
        ({"target": {"repository": "Team/App", "digest": DIGEST}}, "not a repository name"),
        ({"target": {"repository": "a\x00b", "digest": DIGEST}}, "not a repository name"),
        ({"target": {"repository": "a", "digest": "sha256:xyz"}}, "not a sha256 or sha512 digest"),
        ({"target": {"repository": "a", "digest": DIGEST, "tag": "no spaces"}}, "not a tag"),
        ({"target": {"repository": "a"}}, "a push without a digest"),
        ({"action": "delete", "target": {"repository": "a"}}, "a delete without tag or digest"),
    ],
)
def test_decode__a_bad_event_is_refused_alone(changes: dict[str, Any], reason: str) -> None:
    """The other events of its envelope are applied; the refused one is kept as an envelope of its own."""
    decoded = of(event(), event(**changes), event())
    assert 2 == len(decoded.events)
    (refused,) = decoded.refused
    assert reason in refused.reason
    assert refused.body is not None
    assert 1 == len(json.loads(refused.body)["events"])


def test_decode__hostile_strings_are_made_storable_and_said_so() -> None:
    """NUL is written out, a huge user agent is cut, and the notes name both."""
    request = event()["request"] | {"useragent": "A" * 200_000}
    (found,) = of(event(actor={"name": "ev\x00il"}, request=request)).events
    assert "ev\\u0000il" == found.actor
    assert 1024 == len(found.request.user_agent)
    assert {"actor.name": "NUL escaped", "request.useragent": "cut from 200000 characters"} == found.notes[
        "altered"
    ]


def test_decode__the_id_of_a_write_is_not_passed_on() -> None:
    """What the proxy added to the user agent is ours; the event that is forwarded has what the client sent."""
    sent = event()
    marked = event(request=sent["request"] | {"useragent": "docker/27 indexer-write/0123456789abcdef"})
    decoded = of(marked)
    assert "0123456789abcdef" == decoded.events[0].write
    assert "docker/27" == decoded.events[0].request.user_agent
    assert (marked | {"request": sent["request"] | {"useragent": "docker/27"}},) == decoded.originals


def test_decode__a_lone_surrogate_is_replaced() -> None:
    """JSON can write half a character; it is replaced, not refused."""
    body = json.dumps({"events": [event(actor={"name": "\ud800x"})]}).encode()
    (found,) = decode(body, content_encoding="", received_at=NOW).events
    assert "?x" == found.actor


@pytest.mark.parametrize(
    "timestamp", ["", "yesterday", None, 7, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"]
)
def test_decode__an_unreadable_timestamp_becomes_the_receipt(timestamp: object) -> None:
    """An event whose time cannot be believed is applied all the same, dated by its receipt."""
    (found,) = of(event(timestamp=timestamp)).events
    assert NOW == found.occurred_at
    assert found.notes.keys() & {"timestamp_unreadable", "timestamp_ahead"}


def test_decode__a_clock_that_runs_ahead_is_held_back() -> None:
    """An event cannot be later than its receipt, or it would shut out all later news."""
    (found,) = of(event(timestamp=(NOW + timedelta(hours=1)).isoformat())).events
    assert NOW == found.occurred_at


def test_decode__another_time_zone_is_utc_here() -> None:
    """2.8 writes the zone of its process."""
    (found,) = of(event(timestamp="2026-05-01T17:00:00.5+05:30")).events
    assert datetime(2026, 5, 1, 11, 30, 0, 500000, UTC) == found.occurred_at


def test_decode__an_event_without_id_has_the_same_one_again() -> None:
    """A redelivery is byte-identical, so its content identifies it."""
    (first,), (second,) = of(event(id=None)).events, of(event(id=None)).events
    assert first.id == second.id
    assert first.id.startswith("sha256:")


def test_decode__compressed_by_a_proxy() -> None:
    """A body that a proxy compressed is decoded; one that only claims to be is refused with a reason."""
    body = gzip.compress(json.dumps({"events": [event()]}).encode())
    assert 1 == len(decode(body, content_encoding="gzip", received_at=NOW).events)
    (refused,) = decode(b"no gzip", content_encoding="gzip", received_at=NOW).refused
    assert "cannot be decompressed" in refused.reason


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("10.0.0.7:4711", ("10.0.0.7", 4711)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("2001:db8::1", ("2001:db8::1", None)),
        ("203.0.113.9", ("203.0.113.9", None)),
        ("a:99999", ("a:99999", None)),
        ("", ("", None)),
    ],
)
def test_decode__addresses(address: str, expected: tuple[str, int | None]) -> None:
    """Host and port are told apart; behind a proxy there is no port."""
    (found,) = of(event(request={"addr": address})).events
    assert expected == (found.request.address, found.request.port)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON,
    st.dictionaries(
        st.sampled_from(["id", "timestamp", "action", "target", "request", "actor", "source"]), JSON
    ),
)
def test_decode__never_raises(anything: Any, changes: dict[str, Any]) -> None:
    """Whatever JSON comes, it is decoded or refused."""
    decode(json.dumps(anything).encode(), content_encoding="", received_at=NOW)
    of(event(**changes))


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "deflate", "br"]))
def test_decode__never_raises_on_bytes(body: bytes, encoding: str) -> None:
    """Whatever bytes come, they are decoded or refused."""
    decode(body, content_encoding=encoding, received_at=NOW)


@pytest.mark.parametrize("depth", [*range(900, 1000, 7), 971, 1020, 5000])
def test_decode__never_raises_however_deep(depth: int) -> None:
    """An event that is nested too deeply is refused, by itself where the envelope can be read; its neighbours stay."""
    bad = '{"id":"b","action":"rename","target":{"repository":"g/a"},"x":' + "[" * depth + "]" * depth + "}"
    body = f'{{"events":[{json.dumps(event(id="1"))},{bad},{json.dumps(event(id="2"))}]}}'
    decoded = decode(body.encode(), content_encoding="", received_at=NOW)
    assert len(decoded.refused) == 1
    assert len(decoded.events) in (0, 2)
    assert decoded.events or decoded.refused[0].reason.startswith("not JSON")


def test_decode__an_event_that_cannot_be_written_again_is_kept_with_its_delivery(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is lost: ``body`` None keeps the whole delivery."""

    def too_deep(*_given: Any, **_named: Any) -> str:
        raise RecursionError

    monkeypatch.setattr("indexer.ingest.envelope.json.dumps", too_deep)
    decoded = decode_events([event(), event(action="rename")], received_at=NOW)
    assert len(decoded.events) == 1
    assert [(each.body, "rename" in each.reason) for each in decoded.refused] == [(None, True)]


def test_decode__too_many_events_are_refused_as_one() -> None:
    """The number of events of an envelope is bounded, whatever its bytes are when compressed."""
    body = gzip.compress(b'{"events":[' + b",".join([b"0"] * (MAX_EVENTS + 1)) + b"]}")
    decoded = decode(body, content_encoding="gzip", received_at=NOW)
    assert (decoded.events, len(decoded.refused), decoded.refused[0].body) == ((), 1, None)
    assert "10001 events in one envelope" in decoded.refused[0].reason
    body = b'{"events":[' + b",".join([b"0"] * MAX_EVENTS) + b"]}"
    assert len(decode(body, content_encoding="", received_at=NOW).refused) == MAX_EVENTS


@pytest.mark.parametrize(
    "pieces",
    [(b'{"events":[{"target":{"references":[', b"{}", b"]}}]}"), (b'{"events":[{', b'"a":0', b"}]}")],
    ids=["references", "members"],
)
def test_decode__too_many_values_are_refused_before_they_are_made(pieces: tuple[bytes, bytes, bytes]) -> None:
    """Whatever they are of: tiny values take a hundred times their bytes once they are parsed."""
    before, value, after = pieces
    body = before + b",".join([value] * (MAX_VALUES + 2)) + after
    decoded = decode(body, content_encoding="", received_at=NOW)
    assert (decoded.events, len(decoded.refused), decoded.refused[0].body) == ((), 1, None)
    assert "values in one envelope" in decoded.refused[0].reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.7:4711", ("10.0.0.7", 4711)),
        ("[::1]:80", ("::1", 80)),
        ("10.0.0.7:65536", ("10.0.0.7:65536", None)),
        ("10.0.0.7:" + "9" * 5000, ("10.0.0.7:" + "9" * 5000, None)),
        ("10.0.0.7:\u0661", ("10.0.0.7", 1)),
    ],
    ids=["v4", "v6", "beyond", "thousands of digits", "digits of another script"],
)
def test_split_address(text: str, expected: tuple[str, int | None]) -> None:
    """A port that is none belongs to the address; no number of digits is too many to say so."""
    assert split_address(text) == expected
