"""What people do with a registry is seen in the listing and in the audit log; told by real registries."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.fixtures.installation import Installation
from tools.sample_images import Image, Pusher, multi_platform, oci_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.registry_server import RegistryServer

pytestmark = pytest.mark.slow

APP = "team/app"


def write_layout(directory: Path, images: dict[str, Image]) -> None:
    """Write images as an OCI layout, the form in which clients keep them on disk."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    manifests = []
    for name, image in images.items():
        write_blobs(blobs, image)
        named = {"annotations": {"org.opencontainers.image.ref.name": name}}
        manifests.append(image.manifest.descriptor(**named))
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": manifests}))


def write_blobs(directory: Path, image: Image) -> None:
    for child in image.children:
        write_blobs(directory, child)
    for blob in (*image.blobs, image.manifest):
        (directory / blob.digest.removeprefix("sha256:")).write_bytes(blob.data)


def run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_lifecycle__skopeo(
    installation: Installation, wired_registry: RegistryServer, skopeo: str, tmp_path: Path
) -> None:
    """What skopeo pushes, tags again and deletes is listed as the registry has it, and logged entry by entry."""
    image, index = oci_image("one"), multi_platform("two")
    write_layout(tmp_path / "layout", {"image": image, "index": index})
    installation.start("reconciler", "run")
    # Later than the first walk, which on a busy machine may see a tag before its notification is applied.
    installation.until(
        lambda: installation.get("/api/v1/status")["last_reconcile"], "the first full reconcile"
    )
    there = f"docker://{wired_registry.host}/{APP}"

    def copy(name: str, tag: str) -> None:
        options = ["--all", "--preserve-digests", "--dest-tls-verify=false"]
        source = f"oci:{tmp_path / 'layout'}:{name}"
        run([skopeo, "--insecure-policy", "copy", *options, source, f"{there}:{tag}"])

    def listed(**expected: str) -> None:
        installation.until(lambda: expected == installation.tags(APP), f"the listing to be {expected}")

    copy("image", "1.0")
    copy("image", "stable")
    copy("index", "2.0")
    listed(**{"1.0": image.digest, "stable": image.digest, "2.0": index.digest})
    copy("index", "stable")
    listed(**{"1.0": image.digest, "stable": index.digest, "2.0": index.digest})
    run([skopeo, "delete", "--tls-verify=false", f"{there}:1.0"])
    listed(**{"stable": index.digest, "2.0": index.digest})
    installation.until_settled()

    with Pusher(wired_registry.url) as client:
        truth = {tag: client.digest_of(APP, tag) for tag in ("stable", "2.0")}
    assert truth == installation.tags(APP)
    rows = installation.get(f"/api/v1/repositories/{APP}/tags")["items"]
    assert all(row["verified_at"] and not row["broken"] for row in rows)
    assert {index.size_bytes} == {row["size_bytes"] for row in rows}
    assert [["linux/amd64", "linux/arm64"]] * 2 == [row["platforms"] for row in rows]
    entries = [entry for entry in installation.audit(f"&repository={APP}") if entry["tag"]]
    assert [
        ("tag.created", "1.0", image.digest, None),
        ("tag.created", "stable", image.digest, None),
        ("tag.created", "2.0", index.digest, None),
        ("tag.moved", "stable", index.digest, image.digest),
        ("tag.deleted", "1.0", image.digest, image.digest),
    ] == [(e["action"], e["tag"], e["digest"], e["previous_digest"]) for e in entries]
    assert {"notification"} == {entry["source"] for entry in entries}
    assert len(entries) == len({entry["event_id"] for entry in entries})
    assert all("skopeo" in entry["request"]["user_agent"] for entry in entries)
    assert [] == installation.get("/api/v1/drift")["items"]


def test_lifecycle__speed(installation: Installation, wired_registry: RegistryServer, pusher: Pusher) -> None:
    """A push is listed at once and verified soon after; how soon is printed, since machines differ."""
    installation.start("reconciler", "run")
    installation.until(
        lambda: installation.get("/api/v1/status")["last_reconcile"], "the first full reconcile"
    )
    listed, verified = [], []
    for number in range(5):
        tag = f"v{number}"
        pusher.push(APP, oci_image(f"speed {number}"), tag)
        began = time.perf_counter()
        installation.until(partial(row_of, installation, tag), f"{tag} to be listed")
        listed.append(time.perf_counter() - began)
        installation.until(partial(is_verified, installation, tag), f"{tag} to be verified")
        verified.append(time.perf_counter() - began)
    print(
        f"\nregistry {wired_registry.version}: push to listed {seconds(listed)}, to verified {seconds(verified)}"
    )


def row_of(installation: Installation, tag: str) -> Any:
    answer = installation.ask(f"/api/v1/repositories/{APP}/tags/{tag}")
    return answer.json() if answer.status_code == 200 else None


def is_verified(installation: Installation, tag: str) -> bool:
    return row_of(installation, tag)["verified_at"] is not None


def seconds(measured: list[float]) -> str:
    return ", ".join(f"{each * 1000:.0f}" for each in sorted(measured)) + " ms"


def test_lifecycle__server_killed_amid_a_burst(installation: Installation) -> None:
    """What was acknowledged before a kill -9 is in the log, once; what was not is delivered again, and once too."""
    acknowledged: set[str] = set()
    unsure: list[str] = []
    ids = [str(uuid.uuid4()) for _ in range(600)]
    halfway = threading.Event()

    def deliver(client: httpx.Client, event_id: str) -> None:
        number = ids.index(event_id)
        if number > len(ids) // 3:
            halfway.set()
        try:
            status = client.post("/notifications", content=envelope(event_id, f"t{number}")).status_code
        except httpx.TransportError:
            unsure.append(event_id)
            return
        assert status == 202
        acknowledged.add(event_id)

    headers = {"Authorization": installation.endpoint.config("")["headers"]["Authorization"][0]}
    with (
        httpx.Client(base_url=installation.url, headers=headers, timeout=30) as client,
        ThreadPoolExecutor(16) as threads,
    ):
        burst = [threads.submit(deliver, client, event_id) for event_id in ids]
        halfway.wait()
        assert -signal.SIGKILL == installation.end(installation.server, signal.SIGKILL)
        for each in burst:
            each.result()
    assert acknowledged
    assert unsure
    installation.serve()
    installation.until_applied()
    logged = [entry["event_id"] for entry in installation.audit("&action=tag.created")]
    assert acknowledged <= set(logged)
    for event_id in unsure:
        assert installation.post(envelope(event_id, f"t{ids.index(event_id)}")) == 202
    installation.until_applied()
    logged = [entry["event_id"] for entry in installation.audit("&action=tag.created")]
    assert sorted(ids) == sorted(logged)
    assert len(ids) == installation.get("/api/v1/repositories/burst")["tag_count"]


def envelope(event_id: str, tag: str) -> bytes:
    """One push, as Distribution 3.x writes it."""
    return json.dumps(
        {
            "events": [
                {
                    "id": event_id,
                    "timestamp": datetime.now(UTC).isoformat(),
                    "action": "push",
                    "target": {
                        "mediaType": "application/vnd.oci.image.manifest.v1+json",
                        "digest": "sha256:" + uuid.UUID(event_id).hex * 2,
                        "size": 500,
                        "repository": "burst",
                        "tag": tag,
                    },
                    "request": {"id": event_id, "addr": "192.0.2.1:4711", "method": "PUT"},
                    "actor": {"name": "ci"},
                    "source": {"addr": "registry:5000", "instanceID": "one"},
                }
            ]
        }
    ).encode()


def test_lifecycle__server_away_while_the_registry_is_busy(
    installation: Installation, wired_registry: RegistryServer, pusher: Pusher
) -> None:
    """A registry keeps what it could not deliver; once the server is back all of it arrives, each event once."""
    images = {f"t{number}": oci_image(f"away {number}", layer_sizes=(64,)) for number in range(30)}
    for number, (tag, image) in enumerate(images.items()):
        if number == 10:
            installation.end(installation.server, signal.SIGKILL)
        pusher.push(APP, image, tag)
    installation.serve()
    expected = {tag: image.digest for tag, image in images.items()}
    installation.until(lambda: expected == installation.tags(APP), "everything the registry kept")
    installation.until_applied()
    created = installation.audit("&action=tag.created")
    assert sorted(expected) == sorted(entry["tag"] for entry in created)
    assert len(created) == len({entry["event_id"] for entry in created})


def test_lifecycle__database_away_from_the_start(bare_installation: Installation) -> None:
    """Without its database the server is not ready, but takes and keeps what is told, over a kill -9 too."""
    installation = bare_installation
    nowhere = "postgresql://indexer:db-secret@127.0.0.1:1/indexer"
    server = installation.start("indexer", "serve", INDEXER_DATABASE_URL=nowhere)
    event_id = str(uuid.uuid4())
    installation.until(lambda: is_taken(installation, event_id), "the door to open")
    assert 503 == installation.ask("/readyz").status_code
    assert -signal.SIGKILL == installation.end(server, signal.SIGKILL)
    assert "db-secret" not in installation.last_words()
    assert 0 == installation.run("indexer", "migrate").exit_code
    installation.serve()
    installation.until(lambda: {"v1"} == set(installation.tags("burst")), "what was kept to be applied")
    installation.until_applied()
    assert [event_id] == [entry["event_id"] for entry in installation.audit("&action=tag.created")]


def test_lifecycle__reconciler_without_database(bare_installation: Installation) -> None:
    """A reconciler whose database is away waits, and ends with 0 when asked to; nobody has to start it once more."""
    installation = bare_installation
    nowhere = "postgresql://indexer:db-secret@127.0.0.1:1/indexer"
    reconciler = installation.start("reconciler", "run", INDEXER_DATABASE_URL=nowhere)
    installation.until(lambda: "waiting_for_database" in installation.last_words(), "it to say that it waits")
    assert reconciler.poll() is None
    assert 0 == installation.end(reconciler)
    assert "db-secret" not in installation.last_words()


def is_taken(installation: Installation, event_id: str) -> bool:
    """Deliver, as often as it takes, like a registry."""
    try:
        return installation.post(envelope(event_id, "v1")) == 202
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_lifecycle__stopped(installation: Installation, number: signal.Signals) -> None:
    """Asked to stop, the server answers what it has begun, and ends with 0; so does the reconciler."""
    reconciler = installation.start("reconciler", "run")
    installation.until(lambda: "reconciler run" in programs(installation), "the reconciler's loops")
    assert 202 == installation.post(envelope(str(uuid.uuid4()), "v1"))
    installation.until_applied()
    assert 0 == installation.end(installation.server, number)
    assert 0 == installation.end(reconciler, number)


def programs(installation: Installation) -> set[str]:
    """The programs whose loops have run."""
    loops = installation.get("/api/v1/status")["loops"]
    return {" ".join(loop["process"].split()[:2]) for loop in loops}
