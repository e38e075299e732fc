"""``POST /notifications`` from outside: who may post, what is taken, and that nobody holds up anybody."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import socket
import uuid
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.installation import API_TOKEN, TOKEN
from tests.fixtures.requests import REQUESTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.installation import Installation

LIMIT = 16 * 1024 * 1024
SLOW_CLIENTS = 60
APP = "team/app"
DIGEST = "sha256:" + "ab" * 32


def event(**changes: Any) -> dict[str, Any]:
    """A push as Distribution 3.x tells it, with some of it changed; ``target`` is merged."""
    target = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": DIGEST,
        "size": 500,
        "repository": APP,
        "tag": "v1",
        **changes.pop("target", {}),
    }
    return {
        "id": str(uuid.uuid4()),
        "timestamp": "2026-01-02T03:04:05.678901234Z",
        "action": "push",
        "target": target,
        "request": {
            "id": str(uuid.uuid4()),
            "addr": "192.0.2.1:4711",
            "host": "registry.example",
            "method": "PUT",
            "useragent": "docker/27",
        },
        "actor": {"name": "ci"},
        "source": {"addr": "registry:5000", "instanceID": "one"},
        **changes,
    }


def envelope(*events: Any) -> bytes:
    return json.dumps({"events": events}).encode()


def raw_request(path: str, length: int, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: indexer", f"Authorization: Bearer {TOKEN}"]
    lines += [f"Content-Length: {length}", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connect(installation: Installation) -> socket.socket:
    host, _, port = installation.address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


# --- who may post ----------------------------------------------------------------------------------------


def test_door__tokens(installation: Installation) -> None:
    """Only the notifications token opens the door; the operator's is refused there, and this one elsewhere."""

    def post(path: str, *authorizations: str) -> int:
        headers = [("Authorization", value) for value in authorizations]
        body = envelope(event())
        return REQUESTS.post(f"{installation.url}{path}", content=body, headers=headers).status_code

    basic = base64.b64encode(f"indexer:{TOKEN}".encode()).decode()
    for path in ("/notifications", "/notifications/"):
        assert 401 == post(path)
        assert 401 == post(path, "Bearer wrong")
        assert 401 == post(path, f"Bearer {TOKEN}x")
        assert 401 == post(path, "Bearer")
        assert 401 == post(path, f"Basic {basic}")
        assert 401 == post(path, f"Bearer {API_TOKEN}")
        assert 202 == post(path, f"Bearer {TOKEN}")
        assert 202 == post(path, f"bearer {TOKEN}")
        assert 202 == post(path, f"Basic {basic}", f"Bearer {TOKEN}")
    for asked in ("/api/v1/repositories", "/api/v1/status", "/api/v1/audit/export"):
        assert 401 == installation.ask(asked, TOKEN).status_code
        assert 401 == installation.ask(asked, None).status_code
        assert 401 == installation.ask(asked, "wrong").status_code
        assert 200 == installation.ask(asked).status_code


def test_door__refused_leaves_no_trace(installation: Installation) -> None:
    """What comes without the token is neither stored nor quarantined."""
    assert 401 == installation.post(envelope(event()), {"Authorization": "Bearer wrong"})
    assert 401 == installation.post(b"junk", {"Authorization": f"Bearer {API_TOKEN}"})
    assert 202 == installation.post(envelope(event(target={"tag": "v2"})))
    installation.until_applied()
    assert ["v2"] == list(installation.tags(APP))
    assert 0 == installation.get("/api/v1/status")["quarantine"]


def test_door__other_methods_and_no_redirect(installation: Installation) -> None:
    """Nothing near the path answers with a redirect, which a registry would take for success."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=installation.url, headers=headers, follow_redirects=False) as client:
        for path in ("/notifications", "/notifications/", "/notifications//", "//notifications", "/"):
            for method in ("GET", "PUT", "POST"):
                status = client.request(method, path, content=b"{}").status_code
                assert not 300 <= status < 400, (method, path, status)


# --- what is taken ---------------------------------------------------------------------------------------


def test_door__body_limit(installation: Installation) -> None:
    """16 MiB are taken; one byte more is 413, announced or chunked, and the sender gets to read it."""
    largest = envelope(event(padding="")).replace(b'"padding": ""', b'"padding": "%s"')
    largest %= b"x" * (LIMIT - len(largest) + 2)
    assert len(largest) == LIMIT

    def chunks(size: int) -> Iterator[bytes]:
        for _ in range(size // 65536):
            yield b" " * 65536
        yield b" " * (size % 65536)

    url, headers = f"{installation.url}/notifications", {"Authorization": f"Bearer {TOKEN}"}
    assert 202 == installation.post(largest)
    too_large = REQUESTS.post(url, content=largest + b" ", headers=headers, timeout=60)
    assert 413 == too_large.status_code
    assert str(LIMIT) in too_large.text
    assert 202 == REQUESTS.post(url, content=chunks(LIMIT), headers=headers, timeout=60).status_code
    assert 413 == REQUESTS.post(url, content=chunks(LIMIT + 1), headers=headers, timeout=60).status_code
    with closing(connect(installation)) as announced:
        announced.sendall(raw_request("/notifications", LIMIT + 1))
        assert b" 413 " in announced.recv(100).splitlines()[0]
    installation.until_applied()
    assert {"v1": DIGEST} == installation.tags(APP)


@pytest.mark.full
@pytest.mark.slow
def test_door__slow_clients(installation: Installation) -> None:
    """Sixty clients that stall in the middle of a body hold up nobody, and are turned away in the end."""
    body = envelope(event())
    with ExitStack() as stack:
        slow = [stack.enter_context(closing(connect(installation))) for _ in range(SLOW_CLIENTS)]
        for client in slow:
            client.sendall(raw_request("/notifications", len(body)) + body[:100])
        for number in range(20):
            assert 202 == installation.post(envelope(event(target={"tag": f"fast-{number}"})))
        assert 200 == installation.ask("/api/v1/repositories").status_code
        still_waiting = [client for client in slow if not readable(client)]
        assert slow == still_waiting, "the fast were answered first"
        answers = [client.recv(1000) for client in slow]
    assert {b"HTTP/1.1 408 Request Timeout"} == {answer.splitlines()[0] for answer in answers}
    installation.until_applied()
    assert 20 == len(installation.tags(APP))


def readable(client: socket.socket) -> bool:
    client.settimeout(0)
    try:
        return bool(client.recv(1, socket.MSG_PEEK) or True)
    except BlockingIOError:
        return False
    finally:
        client.settimeout(60)


def test_door__content_types(installation: Installation) -> None:
    """Whatever a proxy makes of the content type, the body is what counts."""
    content_types = [
        "application/vnd.docker.distribution.events.v1+json",
        "application/vnd.docker.distribution.events.v2+json",
        "text/html; charset=klingon",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "",
    ]
    for number, content_type in enumerate(content_types):
        body = envelope(event(target={"tag": f"t{number}"}))
        assert 202 == installation.post(body, {"Content-Type": content_type}), content_type
    installation.until_applied()
    assert len(content_types) == len(installation.tags(APP))


def test_door__several_events_and_compression(installation: Installation) -> None:
    """Several events in one envelope are all taken, the good beside the bad; gzip is undone."""
    several = envelope(
        event(target={"tag": "a"}), event(action="no such action"), "junk", event(target={"tag": "b"})
    )
    assert 202 == installation.post(several)
    compressed = gzip.compress(envelope(event(target={"tag": "c"})))
    assert 202 == installation.post(compressed, {"Content-Encoding": "gzip"})
    installation.until_applied()
    assert ["a", "b", "c"] == list(installation.tags(APP))
    assert 2 == installation.get("/api/v1/status")["quarantine"]


def test_door__expect_continue(installation: Installation) -> None:
    """A client that asks first whether to go on is told to."""
    body = envelope(event())
    with closing(connect(installation)) as client:
        client.sendall(raw_request("/notifications", len(body), Expect="100-continue"))
        assert b"100" in client.recv(1000)
        client.sendall(body)
        assert b" 202 " in client.recv(1000).splitlines()[0]


# --- what is hostile -------------------------------------------------------------------------------------

TAKEN = {
    "nul in the actor": event(actor={"name": "mal\0lory"}),
    "nul everywhere": event(
        request={"id": "\0", "addr": "\0", "host": "\0", "method": "\0", "useragent": "\0"},
        source={"addr": "\0", "instanceID": "\0"},
        target={"mediaType": "a/\0b", "url": "\0"},
    ),
    "user agent of 200 kB": event(request={"useragent": "Mozilla/" + "5" * 200_000, "addr": "192.0.2.1"}),
    "actor of 1 MB": event(actor={"name": "a" * 1_000_000}),
    "url that is a script": event(target={"url": "javascript:alert(document.cookie)"}),
    "host that is a script": event(
        request={"host": "<script>alert(1)</script>", "addr": "'; DROP TABLE tag"}
    ),
    "lone surrogates": event(actor={"name": "\ud800 \udfff"}),
    "right to left": event(actor={"name": "\u202egnp.exe"}),
    "fields that are nothing": event(request=None, actor=None, source=None),
    "fields of other types": event(request=[], actor="ci", source=7),
    "time without a zone": event(timestamp="2026-01-02T03:04:05"),
    "time of the year 9999": event(timestamp="9999-12-31T23:59:59Z"),
    "time of the year 1": event(timestamp="0001-01-01T00:00:00Z"),
    "time that is none": event(timestamp="yesterday"),
    "time that is a number": event(timestamp=1e300),
    "no time": event(timestamp=None),
    "id that is no uuid": event(id="../../etc/passwd"),
    "id of 100 kB": event(id="i" * 100_000),
    "id that is a list": event(id=[1]),
    "no id": event(id=None),
    "negative size": event(target={"size": -1}),
    "size beyond 64 bits": event(target={"size": 2**70}),
    "size that is text": event(target={"size": "large"}),
    "media type of 100 kB": event(target={"mediaType": "a" * 100_000}),
    "media type that is a list": event(target={"mediaType": []}),
    "references by the thousand": event(target={"references": [{"digest": DIGEST}] * 5000}),
    "depth within an event": event(extra=json.loads("[" * 150 + "]" * 150)),
}
"""Odd, but it can be told what happened: applied."""

QUARANTINED = {
    "nothing": b"",
    "blanks": b" \n\t",
    "not JSON": b"<html><body>502 Bad Gateway</body></html>",
    "not UTF-8": b"\xff\xfe\x00\x01" * 100,
    "not an object": b"[]",
    "null": b"null",
    "a number": b"1e999999",
    "digits by the thousand": b"1" * 50_000,
    "half": envelope(event())[:-20],
    "depth": b"[" * 200_000,
    "depth that ends": b'{"events":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "depth near Python's limit": b'{"events":[{"a":' + b"[" * 985 + b"]" * 985 + b"}]}",
    "depth of objects": b'{"events":[' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}",
    "events that are no list": b'{"events": {"a": 1}}',
    "events that are text": b'{"events": "push"}',
    "an event that is null": b'{"events": [null]}',
    "an event without a target": b'{"events": [{"action": "push", "id": "x"}]}',
    "no repository": envelope(event(target={"repository": ""})),
    "a repository that climbs": envelope(event(target={"repository": "../../etc"})),
    "a repository in capitals": envelope(event(target={"repository": "Team/App"})),
    "a repository with nul": envelope(event(target={"repository": "team\0app"})),
    "a repository of 10 kB": envelope(event(target={"repository": "a" * 10_000})),
    "a tag with a line break": envelope(event(target={"tag": "v1\r\nSet-Cookie: x"})),
    "a tag of 10 kB": envelope(event(target={"tag": "a" * 10_000})),
    "a digest that is none": envelope(event(target={"digest": "sha256:zz"})),
    "a digest of another kind": envelope(event(target={"digest": "md5:" + "ab" * 16})),
    "an unknown action": envelope(event(action="explode")),
    "an action that is a list": envelope(event(action=["push"])),
    "infinity": envelope(event(target={"repository": float("inf")})),
}
"""Nobody can tell what happened: kept for the operator."""


def test_door__hostile_but_told(installation: Installation) -> None:
    """Odd strings, times, ids and sizes never refuse an event: each is applied, once, and can be read again."""
    for number, (case, odd) in enumerate(TAKEN.items()):
        odd["target"]["tag"] = f"t{number}"
        assert 202 == installation.post(envelope(odd)), case
    installation.until_applied()
    quarantined = installation.run("indexer", "inbox", "list", "--json").json["quarantined"]
    assert [] == [row["reason"] for row in quarantined]
    expected = {f"t{number}": case for number, case in enumerate(TAKEN)}
    assert expected.keys() == installation.tags(APP).keys()
    entries = installation.audit("&action=tag.created")
    assert len(TAKEN) == len(entries)
    assert all(len(entry["request"]["user_agent"] or "") < 10_000 for entry in entries if entry["request"])
    assert "javascript:" not in json.dumps(entries)
    for path in ("/api/v1/tags", "/api/v1/drift", "/api/v1/audit/export", "/api/v1/audit/export?format=csv"):
        answer = installation.ask(path)
        assert 200 == answer.status_code, path
        assert "\0" not in answer.text
    assert 200 == REQUESTS.get(f"{installation.url}/metrics").status_code


def test_door__hostile_and_quarantined(installation: Installation) -> None:
    """What cannot be decoded is acknowledged, kept with its reason, shown in the status, and stalls nothing."""
    for case, body in QUARANTINED.items():
        assert 202 == installation.post(body), case
        tag = case.replace(" ", "-").replace("'", "")
        assert 202 == installation.post(envelope(event(target={"tag": tag}))), case
    assert 202 == installation.post(b"garbage, not gzip", {"Content-Encoding": "gzip"})
    bomb = gzip.compress(b" " * (80 * 1024 * 1024))
    assert 202 == installation.post(bomb, {"Content-Encoding": "gzip"})
    assert 202 == installation.post(b"{}"), "which is an envelope of nothing"
    installation.until_applied()
    assert len(QUARANTINED) == len(installation.tags(APP)), "the good ones between them"
    assert len(QUARANTINED) + 2 == installation.get("/api/v1/status")["quarantine"]
    kept = installation.run("indexer", "inbox", "list", "--json").json["quarantined"]
    assert len(QUARANTINED) + 2 == len(kept)
    assert all(row["reason"] for row in kept)


def test_inbox__list_and_retry(installation: Installation) -> None:
    """The quarantine is listed with reasons; one or all are put back, and come again if nothing is better."""
    assert "the quarantine is empty" in installation.run("indexer", "inbox", "list").output
    installation.post(b"first")
    installation.post(envelope(event(action="explode")))
    installation.until_applied()
    kept = installation.run("indexer", "inbox", "list", "--json").json["quarantined"]
    assert ["first", True] == [kept[0]["body_start"], "explode" in kept[1]["reason"]]
    listed = installation.run("indexer", "inbox", "list").output
    assert [row["reason"] in listed for row in kept] == [True, True]
    assert {"retried": 1} == installation.run("indexer", "inbox", "retry", str(kept[0]["id"]), "--json").json
    installation.until_applied()
    again = installation.run("indexer", "inbox", "list", "--json").json["quarantined"]
    assert sorted(row["body_start"] for row in kept) == sorted(row["body_start"] for row in again)
    assert {"retried": 2} == installation.run("indexer", "inbox", "retry", "--json").json
    installation.until_applied()
    assert 2 == installation.get("/api/v1/status")["quarantine"]
    absent = installation.run("indexer", "inbox", "retry", "999999")
    assert (1, True) == (absent.exit_code, "not in the quarantine: 999999" in absent.error)
    retried = installation.audit("&action=operator.inbox_retried")
    assert [1, 2] == [entry["detail"]["deliveries"] for entry in retried]
    assert {"operator"} == {entry["source"] for entry in retried}
    first = installation.run("indexer", "inbox", "list", "--json").json["quarantined"][0]["id"]
    discard = ("indexer", "inbox", "discard")
    assert 64 == installation.run(*discard, "--reason", "neither ids nor all").exit_code
    assert 64 == installation.run(*discard, str(first), "--reason", " ").exit_code
    assert {"discarded": 1} == installation.run(
        *discard, str(first), "--reason", "a health check", "--json"
    ).json
    assert 1 == installation.run(*discard, str(first), "--reason", "once more").exit_code
    assert {"discarded": 1} == installation.run(*discard, "--all", "--reason", "the rest", "--json").json
    assert 0 == installation.get("/api/v1/status")["quarantine"]
    discarded = installation.audit("&action=operator.inbox_discarded")
    assert ["a health check", "the rest"] == [entry["detail"]["reason"] for entry in discarded]
    assert {"operator"} == {entry["source"] for entry in discarded}


# --- what is not HTTP ------------------------------------------------------------------------------------


def test_door__not_http(installation: Installation) -> None:
    """Garbage on the wire is refused or cut off, and the next one is served."""
    post = b"POST /notifications HTTP/1.1\r\n"
    garbage = {
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        "no path": b"GET\r\n\r\n",
        "negative length": post + b"Content-Length: -1\r\n\r\n",
        "two lengths": post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "huge header": post + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        "nul": b"\0" * 1000,
    }
    for case, sent in garbage.items():
        with closing(connect(installation)) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert status_of(client) in {None, *range(400, 500)}, case
        assert 202 == installation.post(envelope(event())), case


def status_of(client: socket.socket) -> int | None:
    """The status of the answer; None where the connection was cut off."""
    answer = http.client.HTTPResponse(client)
    try:
        answer.begin()
    except (http.client.HTTPException, ConnectionError):
        return None
    return answer.status
