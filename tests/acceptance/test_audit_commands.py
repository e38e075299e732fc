"""What operators do to the audit log: archive its old months."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tests.fixtures.requests import REQUESTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation


def push(number: int) -> bytes:
    """A delivery that tells of a push."""
    event = {
        "id": f"11111111-2222-4333-8444-{number:012}",
        "timestamp": f"2026-01-01T00:00:0{number}Z",
        "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "size": 1,
            "digest": f"sha256:{number:064}",
            "repository": "team/app",
            "tag": f"v{number}",
        },
        "request": {"id": f"21111111-2222-4333-8444-{number:012}", "addr": "192.0.2.1:99", "method": "PUT"},
        "actor": {"name": "alice"},
        "source": {"addr": "registry:5000", "instanceID": "one"},
    }
    return json.dumps({"events": [event]}).encode()


def execute(installation: Installation, statement: str) -> str:
    """Change the database as time would; return what it says it did."""

    async def work() -> str:
        connection = await asyncpg.connect(installation.database_url)
        done: str = await connection.execute(statement)
        await connection.close()
        return done

    return asyncio.run(work())


def test_archive__takes_old_months_out_of_the_log(
    installation: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dry run says what would leave; then it is in a file that verifies alone, and not in the export."""
    original = installation.environment
    eager = {"INDEXER_AUDIT_CHECKPOINT_INTERVAL": "1ms"}
    monkeypatch.setattr(installation, "environment", lambda **given: original(**{**eager, **given}))
    installation.end(installation.server)
    installation.serve()
    for number in range(3):
        assert 202 == installation.post(push(number))
    installation.until_applied()
    whole = [json.loads(line) for line in installation.run("indexer", "audit", "export").output.splitlines()]
    assert whole
    this_month = f"{datetime.now(UTC):%Y-%m}"
    archive = ("indexer", "audit", "archive", "--before", this_month)
    assert "nothing is old enough" in installation.run(*archive, "--dry-run").output
    execute(installation, "UPDATE audit_part SET opened_at = now() - interval '40 days'")

    def signed() -> bool:
        status = installation.get("/api/v1/status")
        return bool(status["audit_proof"]["signed_position"] == status["audit_position"])

    installation.until(signed, "a checkpoint of everything")
    left = installation.run(*archive, "--output", str(tmp_path), "--json")
    assert 0 == left.exit_code, left.error
    (one,) = left.json["left"]
    assert 1 == one["first_position"]
    entries = [
        json.loads(line) for line in gzip.decompress((tmp_path / one["file"]).read_bytes()).splitlines()
    ]
    assert list(range(1, one["last_position"] + 1)) == [entry["position"] for entry in entries]
    key = tmp_path / "log.key"
    key.write_text(installation.run("indexer", "audit", "key").output)
    archived = tmp_path / one["file"]
    proof = archived.with_name(archived.name.replace(".ndjson.gz", ".proof"))
    verify = ("indexer", "audit", "verify", str(archived), "--proof", str(proof), "--key", str(key))
    verified = installation.run(*verify, INDEXER_DATABASE_URL=None)
    assert 0 == verified.exit_code, verified.output
    archived.write_bytes(gzip.compress(gzip.decompress(archived.read_bytes()).replace(b'"v1"', b'"v9"', 1)))
    altered = installation.run(*verify, "--json", INDEXER_DATABASE_URL=None)
    assert (1, "altered") == (altered.exit_code, altered.json["problem"]["fault"])
    first = min(entry["position"] for entry in entries if entry["tag"] == "v1")
    assert first == altered.json["problem"]["position"]
    shown = [{name: entry[name] for name in whole[0]} for entry in entries]
    assert whole == shown[: len(whole)]
    installation.until(lambda: bool(installation.audit("&action=log.archived")), "the entry about it")
    (said,) = installation.audit("&action=log.archived")
    assert one["file"] == said["detail"]["file"]
    installation.until_applied()
    kept = installation.run("indexer", "audit", "export").output.splitlines()
    assert [one["last_position"] + 1] == [json.loads(line)["position"] for line in kept]
    assert "nothing is old enough" in installation.run(*archive, "--output", str(tmp_path)).output


def test_archive__what_is_not_said_is_asked_for(installation: Installation) -> None:
    """Neither months nor directories are guessed."""
    for options, complaint in (
        ((), "INDEXER_AUDIT_KEEP"),
        (("--before", "March"), "not a month like 2026-03"),
        (("--before", "2026-13"), "not a month like 2026-03"),
        (("--before", "2026-03"), "--drop writes no archive"),
        (("--before", "2026-03", "--drop", "--output", "/archive"), "say one of them"),
        (
            ("--before", "2026-03", "--output", "/no/such/directory"),
            "--output: /no/such/directory does not exist",
        ),
    ):
        done = installation.run("indexer", "audit", "archive", *options)
        assert 64 == done.exit_code
        assert complaint in done.error


def test_access_log__is_read_from_files_and_received(installation: Installation, tmp_path: Path) -> None:
    """The server reads the file it is told of and opens the collector's door; what waits is in the database."""
    line = {
        "msg": "response completed with error",
        "http.request.id": "31111111-2222-4333-8444-000000000001",
        "http.request.method": "PUT",
        "http.request.remoteaddr": "192.0.2.7:4711",
        "http.request.uri": "/v2/team/app/manifests/v1",
        "http.response.status": 403,
        "time": "2026-01-01T00:00:00Z",
    }
    log = tmp_path / "registry.log"
    log.write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert (
        404 == REQUESTS.post(f"{installation.url}/access-log", content=b"").status_code
    )  # closed unless opened
    assert installation.server is not None
    installation.end(installation.server)
    installation.server = installation.start(
        "indexer", "serve", INDEXER_ACCESS_LOG=str(log), INDEXER_ACCESS_LOG_TOKEN="collector"
    )
    installation.until(installation._is_ready, "indexer serve to be ready")
    bearer = {"Authorization": "Bearer collector"}
    other = json.dumps(line | {"http.request.uri": "/v2/team/app/manifests/v2"}).encode()
    assert 202 == REQUESTS.post(f"{installation.url}/access-log", content=other, headers=bearer).status_code
    counted = 'indexer_access_log_lines_total{outcome="denied"} 2.0'
    installation.until(lambda: counted in installation.ask("/metrics").text, "both lines")
    waiting = "SELECT FROM access_log_pending"
    installation.until(lambda: execute(installation, waiting) == "SELECT 2", "both to be in the database")
    execute(installation, "UPDATE access_log_pending SET received_at = now() - interval '2 minutes'")
    installation.until(lambda: 2 == len(installation.audit("&action=request.denied")), "the entries")
    assert {"access-log"} == {entry["source"] for entry in installation.audit("&action=request.denied")}
    assert [] == installation.get("/api/v1/repositories")["items"]
