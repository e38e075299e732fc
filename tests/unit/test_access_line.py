"""Lines of access logs, as the registries and proxies write them, and what each comes to."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from indexer.access_log.decide import RequestOutcome, judge
from indexer.access_log.line import LONGEST_LINE, AccessLine, Unreadable, parse_line
from indexer.inventory.own_requests import signed
from indexer.oci.user_agent import user_agent

KEY = b"key"
NOW = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
REQUEST = {
    "go.version": "go1.19.8",
    "http.request.host": "registry.example:5000",
    "http.request.id": "16e03b14-3878-4287-92b1-97073a374afa",
    "http.request.method": "PUT",
    "http.request.remoteaddr": "192.0.2.7:42668",
    "http.request.uri": "/v2/team/app/manifests/v1",
    "http.request.useragent": "docker/27.0",
    "level": "error",
    "time": "2026-11-24T13:42:04.714508044Z",
    "vars.name": "team/app",
    "vars.reference": "v1",
}


def own(path: str, key: bytes = KEY) -> str:
    at = datetime(2026, 11, 24, 13, 42, 3, tzinfo=UTC)
    return f"{user_agent('1')} {signed(key, at=at, nonce=bytes(16), method='PUT', path=path)}"


REFUSED = 'error authorizing context: basic authentication challenge for realm "registry": '


def completed(status: object, **more: object) -> dict[str, object]:
    said = (
        "response completed" if isinstance(status, int) and status < 400 else "response completed with error"
    )
    return REQUEST | {"msg": said, "http.response.status": status} | more


def parse(source: object) -> AccessLine | None:
    return parse_line(orjson.dumps(source), now=NOW)


def outcome(source: object) -> str:
    line = parse(source)
    assert line is not None
    return judge(line, own_key=KEY).outcome


def test_line__of_distribution() -> None:
    """Everything that an entry shows is read from the line."""
    line = parse(
        completed(400, **{"err.code": "manifest invalid", "auth.user.name": "alice", "instance.id": "i1"})
    )
    assert line == AccessLine(
        at=datetime(2026, 11, 24, 13, 42, 4, 714508, tzinfo=UTC),
        status=400,
        method="PUT",
        repository="team/app",
        resource="manifests",
        reference="v1",
        address="192.0.2.7",
        port=42668,
        host="registry.example:5000",
        user_agent="docker/27.0",
        actor="alice",
        request_id="16e03b14-3878-4287-92b1-97073a374afa",
        error="manifest invalid",
        instance_id="i1",
    )


def test_line__of_a_refused_client_says_why() -> None:
    """A 401 is told by another line than all other answers, and ends with the registry's reason."""
    line = parse(REQUEST | {"msg": REFUSED + "authentication failure"})
    assert line is not None
    assert (401, "authentication failure") == (line.status, line.error)


@pytest.mark.parametrize(
    "said",
    ["authorized request", 'error authenticating user "tester": authentication failure', "anything", None],
)
def test_line__of_something_else_is_none(said: str | None) -> None:
    """The same request has several lines; one tells how it ended."""
    assert parse(REQUEST | {"msg": said}) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b'127.0.0.1 - - [24/Nov/2026] "GET /v2/ HTTP/1.1" 401 87',
        b"[1]",
        b'{"msg": "listening"}',
        b"{}",
    ],
)
def test_line__that_tells_of_no_request_is_none(text: bytes) -> None:
    """A registry's output holds other lines, too."""
    assert parse_line(text, now=NOW) is None


@pytest.mark.parametrize(
    "uri", ["/v2/", "/v2", "/", "/debug/health", "", "/v2/team/app", None, 7, "//[", "/v2/_catalogue"]
)
def test_line__of_no_repository_is_none(uri: object) -> None:
    """Pings and health checks are nobody's business."""
    assert parse(completed(500, **{"http.request.uri": uri})) is None


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"http.request.id": ',
        b"{" + b" " * LONGEST_LINE + b"}",
        orjson.dumps(completed("many")),
        orjson.dumps(completed(99)),
        orjson.dumps(completed(None)),
    ],
)
def test_line__that_cannot_be_read_says_so(text: bytes) -> None:
    """Broken, too long, or without a status."""
    with pytest.raises(Unreadable):
        parse_line(text, now=NOW)


def test_line__of_caddy_and_nginx_and_collectors() -> None:
    """The proxies' lines are read alike, and a collector's wrapping is taken off once."""
    caddy = {
        "ts": 1795527724.5,
        "request": {
            "client_ip": "2001:db8::7",
            "method": "DELETE",
            "host": "registry.example",
            "uri": "/v2/team/app/manifests/v1?x=1",
            "headers": {"User-Agent": ["curl/8"]},
        },
        "user_id": "bob",
        "status": 403,
    }
    nginx = {
        "time": "2026-11-24T14:22:04+01:00", "remote_addr": "2001:db8::7", "method": "DELETE", "status": "403",
        "host": "registry.example", "uri": "/v2/team/app/manifests/v1?x=1", "user_agent": "curl/8", "user": "bob",
    }  # fmt: skip
    of_caddy, of_nginx = parse(caddy), parse(nginx)
    assert of_caddy is not None
    assert of_nginx is not None
    assert ("2001:db8::7", "v1", 403, "bob") == (
        of_caddy.address, of_caddy.reference, of_caddy.status, of_caddy.actor
    )  # fmt: skip
    assert datetime(2026, 11, 24, 13, 22, 4, tzinfo=UTC) == of_nginx.at
    assert (of_caddy.repository, of_caddy.user_agent) == (of_nginx.repository, of_nginx.user_agent)
    assert of_nginx == parse({"log": orjson.dumps(nginx).decode() + "\n", "stream": "stderr"})
    assert parse({"log": orjson.dumps({"log": "{}"}).decode()}) is None


def test_line__nothing_in_it_is_trusted() -> None:
    """Texts are bounded and storable, and a time that cannot be is now."""
    line = parse(
        completed(404)
        | {
            "http.request.useragent": "a\x00" * 2000,
            "http.request.uri": "/v2/" + "r" * 1000 + "/manifests/%00%ff",
            "time": "2999-01-01T00:00:00Z",
            "auth.user.name": {"no": "text"},
        }
    )
    assert line is not None
    assert len(line.user_agent) <= 512
    assert len(line.repository) <= 255
    assert "\x00" not in line.user_agent + line.reference
    assert (NOW, "") == (line.at, line.actor)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (completed(201), RequestOutcome.SUCCEEDED),
        (completed(304), RequestOutcome.SUCCEEDED),
        (REQUEST | {"msg": REFUSED + "invalid authorization credential"}, RequestOutcome.CHALLENGED),
        (REQUEST | {"msg": "error authorizing context: authorization token required"}, RequestOutcome.CHALLENGED),
        (REQUEST | {"msg": "error authorizing context: insufficient scope"}, RequestOutcome.CHALLENGED),
        (REQUEST | {"msg": REFUSED + "authentication failure"}, RequestOutcome.DENIED),
        (completed(403), RequestOutcome.DENIED),
        (completed(404), RequestOutcome.FAILED),
        (completed(404, **{"http.request.method": "HEAD"}), RequestOutcome.NOTHING),
        (completed(404, **{"http.request.method": "OPTIONS"}), RequestOutcome.NOTHING),
        (completed(404, **{"http.request.method": "GET", "http.request.uri": "/v2/a/blobs/sha256:0"}),
         RequestOutcome.NOTHING),
        (completed(400), RequestOutcome.FAILED),
        (completed(405), RequestOutcome.FAILED),
        (completed(429), RequestOutcome.FAILED),
        (completed(503, **{"http.request.uri": "/v2/a/blobs/uploads/1"}), RequestOutcome.FAILED),
        (completed(403, **{"http.request.useragent": "registry-indexer-reconciler/1"}), RequestOutcome.DENIED),
        (completed(403, **{"http.request.useragent": own("/v2/team/app/manifests/v1")}), RequestOutcome.NOTHING),
        (completed(403, **{"http.request.useragent": own("/v2/team/app/manifests/v2")}), RequestOutcome.DENIED),
        (completed(403, **{"http.request.useragent": own("/v2/team/app/manifests/v1", b"other")}),
         RequestOutcome.DENIED),
    ],
)  # fmt: skip
def test_judge__by_status_and_noun(source: dict[str, object], expected: RequestOutcome) -> None:
    """What the registry's clients do every day is nothing; what they were not given is an entry."""
    assert expected == outcome(source)


def of_nginx(user: str) -> dict[str, object]:
    uri = "/v2/team/app/manifests/v1"
    return {"time": 1795527724.5, "method": "PUT", "uri": uri, "status": "401", "user": user}


def of_caddy(asks: object, *, given: bool) -> dict[str, object]:
    headers: dict[str, list[str]] = {"Authorization": []} if given else {}
    request = {"method": "PUT", "uri": "/v2/team/app/manifests/v1", "headers": headers}
    return {"ts": 1795527724.5, "request": request, "status": 401, "resp_headers": {"Www-Authenticate": asks}}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (of_nginx("alice"), RequestOutcome.DENIED),
        (of_nginx(""), RequestOutcome.CHALLENGED),
        (of_nginx("-"), RequestOutcome.CHALLENGED),
        (of_caddy(['Basic realm="registry"'], given=True), RequestOutcome.DENIED),
        (of_caddy(['Basic realm="registry"'], given=False), RequestOutcome.CHALLENGED),
        (of_caddy(['Bearer realm="https://auth.example"'], given=True), RequestOutcome.CHALLENGED),
        (of_caddy("Basic", given=True), RequestOutcome.CHALLENGED),
        (of_caddy(None, given=True), RequestOutcome.CHALLENGED),
    ],
)
def test_judge__a_refused_password_in_a_proxys_log(
    source: dict[str, object], expected: RequestOutcome
) -> None:
    """A password that was refused is no challenge; a token that does not reach is: the client gets another."""
    assert expected == outcome(source)
