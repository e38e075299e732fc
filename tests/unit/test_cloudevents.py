"""Entries as CloudEvents, and requests as Standard Webhooks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from indexer.audit.cloudevents import DeliveredEvent, Origin, cloud_event
from indexer.feeds.http import encode, message_id, signature_headers, signing_key

LOG = UUID("6f1f2a34-0000-4000-8000-000000000001")
ENTRY: dict[str, Any] = {
    "position": 42,
    "occurred_at": "2026-01-01T00:00:00.500000Z",
    "action": "tag.moved",
    "repository": "team/app",
    "tag": "v1",
    "digest": "sha256:aa",
}


def event(**members: Any) -> DeliveredEvent:
    return cloud_event(ENTRY | members, Origin(log=LOG))


def test_event__has_the_attributes_of_a_cloudevent() -> None:
    """Required ones first, then those that are known; the entry is the data."""
    body = json.loads(cloud_event(ENTRY, Origin(log=LOG, source="urn:x", type_prefix="com.example")).body)
    assert body == {
        "specversion": "1.0",
        "id": "6f1f2a34-0000-4000-8000-000000000001/00000000000000000042",
        "source": "urn:x",
        "type": "com.example.tag.moved",
        "subject": "team/app:v1",
        "time": "2026-01-01T00:00:00.500000Z",
        "sequence": "00000000000000000042",
        "datacontenttype": "application/json",
        "data": ENTRY,
    }


@pytest.mark.parametrize(
    ("members", "subject"),
    [
        ({}, "team/app:v1"),
        ({"tag": None}, "team/app@sha256:aa"),
        ({"tag": None, "digest": None}, "team/app"),
        ({"repository": None}, None),
    ],
)
def test_subject__is_a_reference(members: dict[str, Any], subject: str | None) -> None:
    """What an event is about, as far as it is known; no attribute is ever null."""
    made = event(**members)
    assert subject == made.subject
    assert subject == json.loads(made.body).get("subject")
    assert (subject is None) == (b'"subject"' not in made.body)


def test_source__is_the_log_where_none_is_given() -> None:
    """Source and id together are unique, whatever an operator left out."""
    assert f"urn:uuid:{LOG}" == event().source


def test_webhook__is_signed_as_the_specification_says() -> None:
    """The example of Standard Webhooks: this secret, id, time and body give this signature."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signature_headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        keys=[key],
        now=datetime.fromtimestamp(1614265330, UTC),
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_webhook__has_a_signature_for_each_secret() -> None:
    """While a receiver changes secrets both verify."""
    keys = [signing_key("whsec_" + base64.b64encode(bytes([n]) * 24).decode()) for n in (1, 2)]
    both = signature_headers("a", b"b", keys=keys, now=datetime.fromtimestamp(0, UTC))["webhook-signature"]
    each = [
        signature_headers("a", b"b", keys=[key], now=datetime.fromtimestamp(0, UTC))["webhook-signature"]
        for key in keys
    ]
    assert " ".join(each) == both


def test_message__is_named_by_its_first_and_last() -> None:
    """The same batch has the same id when it is sent again, another batch another."""
    one, two = event(position=1), event(position=2)
    assert one.id == message_id([one])
    assert f"{one.id}-00000000000000000002" == message_id([one, two])


def test_splunk__gets_time_and_event() -> None:
    """The event collector's envelope, one after the other, with the time in seconds."""
    lines = encode([event(), event(position=43)], "splunk").split(b"\n")
    first = json.loads(lines[0])
    assert ("1767225600.500000", 2) == (first["time"], len(lines))
    assert json.loads(event().body) == first["event"]


def test_batches__are_json() -> None:
    """An array for CloudEvents' batch, lines for NDJSON, the event itself alone."""
    events = [event(), event(position=43)]
    assert [json.loads(e.body) for e in events] == json.loads(encode(events, "cloudevents-batch"))
    assert [json.loads(e.body) for e in events] == [
        json.loads(line) for line in encode(events, "ndjson").splitlines()
    ]
    assert events[0].body == encode(events[:1], "cloudevents")
