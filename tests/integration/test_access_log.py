"""Denied and failed requests, read from the logs of real registries, become entries of the audit log."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from indexer.access_log import apply
from indexer.access_log.apply import PENDING_FOR, stage_pending
from indexer.access_log.endpoint import MAX_BODY_BYTES, add_access_endpoint
from indexer.access_log.tail import AccessLog, read_file
from indexer.audit.seal import seal
from indexer.audit.serialize import show_entry
from indexer.store.listing.audit import AuditFilter, sealed_entries
from tests.fixtures.tokens import ISSUER, REALM, SERVICE, certificate, claims, grant, rsa_key, sign
from tools.registry_server import HTPASSWD_PASSWORD, HTPASSWD_USER, Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from indexer.store.lookups import Lookups
    from indexer.store.pool import Pool
    from tests.fixtures.registries import StartRegistry

KNOWN = (HTPASSWD_USER, HTPASSWD_PASSWORD)
WRONG = (HTPASSWD_USER, "wrong")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
JSON_LOG = {"log": {"formatter": "json"}}
TOKEN = "collector-token-of-the-tests"


def later() -> datetime:
    """When everything read so far has settled."""
    return datetime.now(UTC) + PENDING_FOR * 2


async def entries_of(pool: Pool, lookups: Lookups) -> list[dict[str, Any]]:
    """The log, once what was pending has settled."""
    while await stage_pending(pool, lookups, now=later()):
        pass
    while await seal(pool, limit=1000):
        pass
    async with pool.acquire() as held:
        rows = await sealed_entries(held, scope=None, wanted=AuditFilter(), after=0, until=10**6, limit=10**6)
    return [show_entry(row) for row in rows]


async def read_all(pool: Pool, path: Path) -> None:
    while await read_file(pool, path, now=datetime.now(UTC)):
        pass


def line(status: int, *, tag: str = "v1", number: int = 0) -> dict[str, object]:
    """A line as Distribution writes it."""
    return {
        "msg": "response completed",
        "http.request.id": f"21111111-2222-4333-8444-{number:012}",
        "http.request.method": "GET",
        "http.request.remoteaddr": "192.0.2.7:4711",
        "http.request.uri": f"/v2/team/app/manifests/{tag}",
        "http.request.useragent": "docker/27",
        "http.response.status": status,
        "time": f"2026-01-01T00:00:{number % 60:02}Z",
    }


def challenge() -> dict[str, object]:
    return line(401) | {"msg": "error authorizing context: authorization token required"}


def text_of(*lines: object) -> bytes:
    return b"".join(orjson.dumps(one) + b"\n" for one in lines)


@pytest.fixture
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address for notifications, and the events that came to it."""
    events: list[dict[str, Any]] = []

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["events"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", events
    server.shutdown()
    server.server_close()
    thread.join()


async def test_log__of_real_registries(
    pool: Pool,
    lookups: Lookups,
    start_registry: StartRegistry,
    registry_version: int,
    told: tuple[str, list[dict[str, Any]]],
) -> None:
    """What was denied or failed is entered with who, from where and why; what a client does every day is not."""
    address, events = told
    posts = [Endpoint(address, ignore={})]
    registry = start_registry(registry_version, htpasswd=True, notifications=posts, extra=JSON_LOG)
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "layers": []}).encode()
    async with httpx.AsyncClient(
        base_url=registry.url, headers={"User-Agent": "test/1", "Accept": MANIFEST}
    ) as client:
        asked = [
            ("GET", "/v2/", None, 401),  # how every client begins
            ("PUT", "/v2/team/app/manifests/v1", WRONG, 401),
            ("PUT", "/v2/team/app/manifests/v2", KNOWN, 400),
            ("HEAD", "/v2/team/app/manifests/none", KNOWN, 404),
            ("GET", "/v2/team/app/manifests/none", KNOWN, 404),
            ("GET", "/v2/team/app/manifests/none", KNOWN, 404),
            ("GET", f"/v2/team/app/blobs/sha256:{0:064}", KNOWN, 404),
            ("DELETE", f"/v2/team/app/manifests/sha256:{0:064}", KNOWN, 404),
            ("PUT", "/v2/secret/app/manifests/v1", None, 401),  # and never came back with a password
        ]
        answers = []
        for method, path, auth, _ in asked:
            content = manifest if method == "PUT" else None
            answer = await client.request(
                method, path, auth=auth, content=content, headers={"Content-Type": MANIFEST}
            )
            answers.append(answer.status_code)
        assert [status for *_, status in asked] == answers
        challenged = await client.put(
            "/v2/team/app/manifests/v3", content=b"x", headers={"Content-Type": MANIFEST}
        )
        assert 401 == challenged.status_code
        found = await client.head("/v2/team/app/manifests/none", auth=KNOWN)
        assert 404 == found.status_code  # it did log in
    registry.stop()
    await read_all(pool, registry.log_path)
    entries = await entries_of(pool, lookups)
    shown = {
        (e["action"], e["request"]["method"], e["detail"]["named_repository"], e["tag"], e["detail"]["status"],
         e["detail"].get("times", 1))
        for e in entries
    }  # fmt: skip
    assert {
        ("request.denied", "PUT", "team/app", "v1", 401, 1),
        ("request.failed", "PUT", "team/app", "v2", 400, 1),
        ("request.failed", "GET", "team/app", "none", 404, 2),
        ("request.failed", "DELETE", "team/app", None, 404, 1),
        ("request.denied", "PUT", "secret/app", "v1", 401, 1),
    } == shown
    failed = next(entry for entry in entries if entry["tag"] == "v2")
    assert ("access-log", HTPASSWD_USER, "test/1", "127.0.0.1") == (
        failed["source"], failed["actor"]["name"], failed["request"]["user_agent"], failed["request"]["address"]
    )  # fmt: skip
    assert "digest invalid" == failed["detail"]["error"].lower().replace("_", " ")
    deleted = next(entry for entry in entries if entry["request"]["method"] == "DELETE")
    assert f"sha256:{0:064}" == deleted["detail"]["digest"]
    assert 0 == await pool.fetchval(
        "SELECT count(*) FROM repository"
    )  # a denied client adds nothing to the inventory
    assert [] == events


async def test_log__of_real_registries_with_tokens(
    pool: Pool, lookups: Lookups, start_registry: StartRegistry, registry_version: int, tmp_path: Path
) -> None:
    """Whoever got no token, a junk one, or one that does not reach is denied, and why; a handshake is no denial."""
    pem = certificate(rsa_key())
    (tmp_path / "bundle.pem").write_bytes(pem)
    token = {
        "realm": REALM,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(tmp_path / "bundle.pem"),
    }
    registry = start_registry(registry_version, extra=JSON_LOG | {"auth": {"token": token}})
    x5c = {"kid": None, "x5c": ["".join(pem.decode().split("-----")[2].split())]}

    def bearer(*actions: str) -> dict[str, str]:
        signed = sign(claims(grant("team/app", *actions), sub="alice"), header=x5c)
        return {"Authorization": f"Bearer {signed}"}

    asked: list[tuple[str, str, dict[str, str], int]] = [
        ("PUT", "/v2/secret/app/manifests/none", {}, 401),
        ("PUT", "/v2/secret/app/manifests/junk", {"Authorization": "Bearer junk"}, 401),
        ("PUT", "/v2/secret/app/manifests/less", bearer("pull"), 401),
        ("GET", "/v2/_catalog", {}, 401),
        ("GET", "/v2/team/app/tags/list", {}, 401),
        ("GET", "/v2/team/app/manifests/v1", bearer("pull"), 404),  # the same client: it got its token
    ]
    async with httpx.AsyncClient(base_url=registry.url, headers={"User-Agent": "test/1"}) as client:
        for method, path, headers, status in asked:
            answer = await client.request(method, path, headers=headers)
            assert (path, status) == (path, answer.status_code)
    registry.stop()
    await read_all(pool, registry.log_path)
    entries = await entries_of(pool, lookups)
    shown = {
        (e["action"], e["detail"].get("named_repository"), e["tag"], e["detail"]["status"],
         e["detail"]["error"], (e["actor"] or {}).get("name"))
        for e in entries
    }  # fmt: skip
    assert {
        ("request.denied", "secret/app", "none", 401, "authorization token required", None),
        ("request.denied", "secret/app", "junk", 401, "malformed token", None),
        ("request.denied", "secret/app", "less", 401, "insufficient scope", None),
        ("request.denied", None, None, 401, "authorization token required", None),
        ("request.failed", "team/app", "v1", 404, "manifest unknown", "alice"),
    } == shown
    assert {("access-log", "127.0.0.1", "test/1")} == {
        (e["source"], e["request"]["address"], e["request"]["user_agent"]) for e in entries
    }


async def test_log__request_ids_are_those_of_notifications(
    pool: Pool, start_registry: StartRegistry, registry_version: int, told: tuple[str, list[dict[str, Any]]]
) -> None:
    """The registry calls a request by one id, in its log and in its notifications; so entries of both can be joined."""
    address, events = told
    posts = [Endpoint(address, ignore={})]
    registry = start_registry(registry_version, notifications=posts, extra=JSON_LOG)
    config = b"{}"
    async with httpx.AsyncClient(base_url=registry.url) as client:
        digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        upload = (await client.post("/v2/team/app/blobs/uploads/")).headers["Location"]
        await client.put(f"{upload}{'&' if '?' in upload else '?'}digest={digest}", content=config)
        body = {
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 2},
        }  # fmt: skip
        pushed = await client.put("/v2/team/app/manifests/v1", json=body, headers={"Content-Type": MANIFEST})
        assert 201 == pushed.status_code
        # A pull that is refused because of what the client accepts is announced as a pull all the same.
        assert 404 == (await client.get("/v2/team/app/manifests/v1")).status_code
    for _ in range(200):
        if [event for event in events if event["action"] == "pull"]:
            break
        await asyncio.sleep(0.05)
    registry.stop()
    lines = [json.loads(one) for one in registry.log_path.read_text().splitlines() if one.startswith("{")]
    ids = {
        (one["http.request.method"], one["http.request.remoteaddr"], one["http.request.id"])
        for one in lines
        if str(one.get("msg")).startswith("response completed")
    }
    assert {"push", "pull"} == {event["action"] for event in events}
    for event in events:
        assert (event["request"]["method"], event["request"]["addr"], event["request"]["id"]) in ids


async def test_challenge__is_forgotten_when_the_client_logs_in(
    pool: Pool, lookups: Lookups, tmp_path: Path
) -> None:
    """Whether the client got on is asked of the same client and repository, over batches of lines."""
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(challenge(), challenge()))
    await read_all(pool, log)
    other: dict[str, Any] = {"http.request.remoteaddr": "192.0.2.8:4711"}
    elsewhere = line(200) | {"http.request.uri": "/v2/b/tags/list"} | other
    with log.open("ab") as file:
        file.write(text_of(line(200), challenge() | other, elsewhere))
    await read_all(pool, log)
    (entry,) = await entries_of(pool, lookups)
    assert ("request.denied", "192.0.2.8") == (entry["action"], entry["request"]["address"])


async def test_entries__of_the_same_are_one_with_the_count(
    pool: Pool, lookups: Lookups, tmp_path: Path
) -> None:
    """A client that tries for ever makes one entry a minute, with how often and between which instants."""
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(*[line(404, number=n) for n in range(30)], line(404, tag="v2", number=31)))
    await read_all(pool, log)
    assert 0 == await stage_pending(
        pool, lookups, now=datetime.now(UTC) + PENDING_FOR - timedelta(seconds=30)
    )
    first, second = sorted(await entries_of(pool, lookups), key=lambda entry: entry["tag"])
    assert 30 == first["detail"]["times"]
    assert ["2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:29.000000Z"] == first["occurred_between"]
    assert (None, "21111111-2222-4333-8444-000000000031") == (
        second["detail"].get("times"),
        second["request"]["id"],
    )


async def test_entries__are_bounded(
    pool: Pool, lookups: Lookups, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more different ones than may wait the rest is left out; what already waits is counted on."""
    monkeypatch.setattr(apply, "MOST_PENDING", 5)
    log = tmp_path / "registry.log"
    for _ in range(2):
        with log.open("ab") as file:
            file.write(text_of(*[line(404, tag=f"t{n}") for n in range(9)]))
        await read_all(pool, log)
    entries = await entries_of(pool, lookups)
    assert [2] * 5 == [entry["detail"]["times"] for entry in entries]


async def test_entry__of_a_repository_on_record_belongs_to_it(
    pool: Pool, lookups: Lookups, tmp_path: Path
) -> None:
    """Only a repository that exists is one of the entry; of others the name is a claim in the detail."""
    await pool.execute("INSERT INTO repository (name, created_at) VALUES ('team/app', now())")
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(line(404), line(404) | {"http.request.uri": "/v2/no/such/manifests/v1"}))
    await read_all(pool, log)
    entries = await entries_of(pool, lookups)
    shown = {(entry["repository"], entry["detail"].get("named_repository")) for entry in entries}
    assert {("team/app", None), (None, "no/such")} == shown


def tags_of(entries: list[dict[str, Any]]) -> list[str]:
    return sorted(entry["tag"] for entry in entries)


async def test_tail__over_rotations(pool: Pool, lookups: Lookups, tmp_path: Path) -> None:
    """Renamed while it was being written, the rest of the old file is read before the new one; each line once."""
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(line(404, tag="a")) + b'{"half a li')
    await read_all(pool, log)
    with log.open("ab") as file:
        file.write(b'ne": 1}\n' + text_of(line(404, tag="b")))
    log.rename(tmp_path / "registry.log.1")
    log.write_bytes(text_of(line(404, tag="c")))
    await read_all(pool, log)
    log.rename(tmp_path / "registry.log.2")
    (tmp_path / "registry.log.2").unlink()
    log.write_bytes(text_of(line(404, tag="d")))
    await read_all(pool, log)
    entries = await entries_of(pool, lookups)
    assert ["a", "b", "c", "d"] == tags_of(entries)
    assert [] == [entry for entry in entries if "times" in entry["detail"]]
    assert 1 == await pool.fetchval("SELECT count(*) FROM access_log_file")


async def test_tail__emptied_in_place_begins_again(pool: Pool, lookups: Lookups, tmp_path: Path) -> None:
    """``copytruncate`` keeps the file and takes its content away."""
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(line(404, tag="a"), line(404, tag="b")))
    await read_all(pool, log)
    log.write_bytes(text_of(line(404, tag="c")))
    await read_all(pool, log)
    assert ["a", "b", "c"] == tags_of(await entries_of(pool, lookups))


async def test_tail__a_line_without_end_does_not_hold_it_up(
    pool: Pool, lookups: Lookups, tmp_path: Path
) -> None:
    """What no line can be is passed over, and what follows is read; junk between lines as well."""
    log = tmp_path / "registry.log"
    log.write_bytes(b"{" + b"x" * 2_000_000 + b"\n\xff\xfe{\n{]\n" + text_of(line(404, tag="a")))
    await read_all(pool, log)
    assert ["a"] == tags_of(await entries_of(pool, lookups))


async def test_loop__goes_on_where_a_file_is_missing(pool: Pool, lookups: Lookups, tmp_path: Path) -> None:
    """A file that is not there yet keeps no other from being read."""
    log = tmp_path / "registry.log"
    log.write_bytes(text_of(line(404, tag="a")))
    loop = AccessLog(pool, lookups, [tmp_path / "none.log", log])
    assert 0 == (await loop.run_once()).rest_seconds
    assert 0 < (await loop.run_once()).rest_seconds
    assert ["a"] == tags_of(await entries_of(pool, lookups))


async def test_endpoint__takes_lines_with_its_own_token(pool: Pool, lookups: Lookups) -> None:
    """Compressed or not; and says what is wrong with what it does not take."""
    app = web.Application()
    add_access_endpoint(app, pool=pool, token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    server = TestServer(app, host="127.0.0.1")
    await server.start_server(auto_decompress=False)
    async with TestClient(server) as client:

        async def post(body: bytes, **headers: str) -> int:
            return (await client.post("/access-log", data=io.BytesIO(body), headers=bearer | headers)).status

        assert 202 == await post(text_of(line(404, tag="a")))
        assert 202 == await post(gzip.compress(text_of(line(404, tag="b"))), **{"Content-Encoding": "gzip"})
        assert 202 == await post(b"junk\n{]\n")
        assert 400 == await post(b"junk", **{"Content-Encoding": "gzip"})
        cut_off = gzip.compress(text_of(line(404)))[:-9]
        assert 400 == await post(cut_off, **{"Content-Encoding": "gzip"})
        assert 400 == await post(b"junk", **{"Content-Encoding": "br"})
        assert 413 == await post(b" " * (MAX_BODY_BYTES + 1))
        bomb = gzip.compress(b" " * 20_000_000)
        assert 413 == await post(bomb, **{"Content-Encoding": "gzip"})
        for given in ({}, {"Authorization": "Bearer no"}, {"Authorization": f"Basic {TOKEN}"}):
            assert 401 == (await client.post("/access-log", data=text_of(line(404)), headers=given)).status
    assert ["a", "b"] == tags_of(await entries_of(pool, lookups))
