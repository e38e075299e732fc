"""Feeds to a real NATS server that lets in only whom it knows, by password, token or certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from indexer.store.pool import Pool
from tests.fixtures.feed_secrets import RIGHT, WRONG, refusal, secret
from tests.fixtures.feeding import MakeFeed, deliver_all, write_log
from tests.fixtures.nats import looking
from tests.fixtures.sinks import Certificates, Server

pytestmark = pytest.mark.usefixtures("log_without_secrets")

StartNats = Callable[..., Server]

BY_PASSWORD = f'authorization {{ user: "feeds", password: "{RIGHT}" }}\n'
BY_TOKEN = f'authorization {{ token: "{RIGHT}" }}\n'


async def make_stream(server: Server, **options: Any) -> None:
    async with looking(server, **options) as stream:
        await stream.add_stream(name="AUDIT", subjects=["registry.audit.>"])


async def count(server: Server, **options: Any) -> int:
    async with looking(server, **options) as stream:
        return (await stream.stream_info("AUDIT")).state.messages


@pytest.mark.parametrize("kind", ["password", "token"])
async def test_nats__wrong_secret_is_said_and_the_right_one_delivers(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats, tmp_path: Path, kind: str
) -> None:
    """The operator reads that the server refuses, mends the file, and everything is there."""
    server = start_nats(access=BY_PASSWORD if kind == "password" else BY_TOKEN)
    known = {"user": "feeds", "password": RIGHT} if kind == "password" else {"token": RIGHT}
    await make_stream(server, **known)
    await write_log(pool, "team/app:v1", "team/app:v2")
    table = {"kind": "nats", "servers": [f"nats://127.0.0.1:{server.port}"]}
    if kind == "password":
        table["user"] = "feeds"
    wrong = make_feed(**table, **{f"{kind}_file": secret(tmp_path, WRONG)})
    assert "the server refuses us: Authorization Violation" == await refusal(pool, wrong)
    await wrong.close()
    await deliver_all(pool, make_feed(**table, **{f"{kind}_file": secret(tmp_path, RIGHT)}))
    assert 2 == await count(server, **known)


async def test_nats__password_that_changed_at_the_server(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats, tmp_path: Path
) -> None:
    """The feed waits with what is new, and goes on by itself when the server takes its password again."""
    server = start_nats(access=BY_PASSWORD)
    config = server.directory / "nats.conf"
    await make_stream(server, user="feeds", password=RIGHT)
    table = {"kind": "nats", "servers": [f"nats://127.0.0.1:{server.port}"], "user": "feeds"}
    feed = make_feed(**table, password_file=secret(tmp_path, RIGHT))
    await write_log(pool, "team/app:v1")
    await deliver_all(pool, feed)
    server.stop()
    config.write_text(config.read_text().replace(RIGHT, "another"), encoding="utf-8")
    server.start()
    await write_log(pool, "team/app:v2", "team/app:v3")
    await feed._sink.close()  # or the first attempt may only find that the connection is closed
    assert "the server refuses us: Authorization Violation" == await refusal(pool, feed, position=1)
    server.stop()
    config.write_text(config.read_text().replace("another", RIGHT), encoding="utf-8")
    server.start()
    await deliver_all(pool, feed)
    assert 3 == await count(server, user="feeds", password=RIGHT)


async def test_nats__user_that_may_not_publish(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats, tmp_path: Path
) -> None:
    """The server answers such a message with nothing; what it says beside is what the feed says."""
    server = start_nats(
        access=f'authorization {{ users: [{{ user: "feeds", password: "{RIGHT}", '
        'permissions: { publish: ["other.>"], subscribe: [">"] } } ] }\n'
    )
    await write_log(pool, "team/app:v1")
    table = {"kind": "nats", "servers": [f"nats://127.0.0.1:{server.port}"], "user": "feeds"}
    feed = make_feed(**table, password_file=secret(tmp_path, RIGHT), timeout="2s")
    said = await refusal(pool, feed)
    assert 'the server refuses us: permissions violation for publish to "registry.audit.tag.created"' == said


@pytest.mark.parametrize("scheme", ["tls", "nats"])
async def test_nats__own_authority(
    pool: Pool,
    make_feed: MakeFeed,
    start_nats: StartNats,
    certificates: Certificates,
    scheme: str,
) -> None:
    """Without ca_file the certificate is not trusted; with it all is delivered, also where the server asks for TLS."""
    server = start_nats(tls=True, access=BY_PASSWORD)
    known = {
        "user": "feeds", "password": RIGHT, "tls": ssl.create_default_context(cafile=certificates.ca)
    }  # fmt: skip
    await make_stream(server, **known)
    await write_log(pool, "team/app:v1", "team/app:v2")
    table: dict[str, Any] = {
        "kind": "nats",
        "servers": [f"{scheme}://localhost:{server.port}"],
        "user": "feeds",
    }
    table["password_file"] = secret(server.directory, RIGHT)
    nobody = make_feed(**table)
    assert (await refusal(pool, nobody)).startswith("the server's certificate is not trusted: ")
    await nobody.close()
    await deliver_all(pool, make_feed(**table, ca_file=certificates.ca))
    assert 2 == await count(server, **known)


async def test_nats__server_asks_for_our_certificate(
    pool: Pool, make_feed: MakeFeed, start_nats: StartNats, certificates: Certificates
) -> None:
    """Without one the feed says so; with certificate_file and key_file all is delivered."""
    server = start_nats(tls=True, ask_clients=True)
    context = ssl.create_default_context(cafile=certificates.ca)
    context.load_cert_chain(certificates.certificate, certificates.key)
    await make_stream(server, tls=context)
    await write_log(pool, "team/app:v1", "team/app:v2")
    table = {"kind": "nats", "servers": [f"tls://localhost:{server.port}"], "ca_file": certificates.ca}
    nobody = make_feed(**table)
    assert "the server asks for a certificate of ours (certificate_file)" == await refusal(pool, nobody)
    await nobody.close()
    ours = {"certificate_file": certificates.certificate, "key_file": certificates.key}
    await deliver_all(pool, make_feed(**table, **ours))
    assert 2 == await count(server, tls=context)


async def test_nats__no_password_in_the_clear(pool: Pool, make_feed: MakeFeed, tmp_path: Path) -> None:
    """Whoever stands between and leaves TLS out of the server's greeting is told nothing by a ``tls://`` feed."""
    announced = bytearray()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"version": "2.9.10", "headers": true, "auth_required": true}\r\n')
        announced.extend(await reader.read())
        writer.close()

    await write_log(pool, "team/app:v1")
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as between:
        port = between.sockets[0].getsockname()[1]
        table = {"kind": "nats", "servers": [f"tls://127.0.0.1:{port}"], "user": "feeds"}
        feed = make_feed(**table, password_file=secret(tmp_path, RIGHT), timeout="3s")
        said = await refusal(pool, feed)
    assert ("the server offers no TLS, and tls:// was asked for", b"") == (said, bytes(announced))
