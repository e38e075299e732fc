"""Getting in to real registries: token servers, certificates, maintenance, damaged storage."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from indexer.common.errors import ConfigurationError, RegistryDenied, RegistryMisbehaved, RegistryUnavailable
from indexer.oci.reference import RepositoryName, TagName
from reconciler.registry import catalog
from reconciler.registry.answers import Confirmed, Found, ManifestContent, NotFound
from reconciler.registry.auth import Credentials
from reconciler.registry.client import RegistryClient
from reconciler.registry.transport import TransportSettings
from tests.contract.conftest import IMPATIENT, push
from tests.fixtures.registries import StartRegistry
from tests.fixtures.storage import tag_link_of
from tools.registry_server import RegistryServer
from tools.sample_images import oci_image

APP = RepositoryName("team/app")
LATEST = TagName("latest")
ISSUER, SERVICE = "test-issuer", "test-registry"
ROBOT = Credentials("robot", "secret")

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the test's keys")


def client_of(url: str, **fields: Any) -> RegistryClient:
    """Return a client that does not wait long."""
    return RegistryClient(TransportSettings(base_url=url, retry=IMPATIENT, **fields))


def make_certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a self-signed certificate for 127.0.0.1 and its key."""
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
    ]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def base64url(content: bytes) -> str:
    """Encode as JSON Web Tokens do."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass(slots=True)
class TokenServer:
    """A token server: ``grant`` decides the actions of a scope, ``lifetime_seconds`` what it claims."""

    certificate: Path
    key: Path
    realm: str = ""
    lifetime_seconds: int = 300
    expired_by_seconds: int = 0
    asked: list[tuple[list[str], str | None]] = field(default_factory=list)
    grant: Callable[[str, str, list[str]], list[str]] = lambda _type, _name, actions: actions

    async def answer(self, request: web.Request) -> web.Response:
        """Answer a token request."""
        authorization = request.headers.get("Authorization")
        scopes = request.query.getall("scope", [])
        self.asked.append((scopes, authorization))
        if authorization != ROBOT.basic:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        assert request.query["service"] == SERVICE
        return web.json_response({"token": self.sign(scopes), "expires_in": self.lifetime_seconds})

    def sign(self, scopes: list[str]) -> str:
        """Sign a token as Distribution's both versions take it: RS256 with the certificate in the header."""
        der = "".join(self.certificate.read_text().strip().splitlines()[1:-1])
        now = int(time.time()) - self.expired_by_seconds
        claims = {
            "iss": ISSUER,
            "sub": "robot",
            "aud": SERVICE,
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
        }
        claims |= {"jti": secrets.token_hex(8), "access": [self.access(scope) for scope in scopes]}
        header = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        signed = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        signature = subprocess.run(command, input=signed.encode(), check=True, capture_output=True).stdout
        return f"{signed}.{base64url(signature)}"

    def access(self, scope: str) -> dict[str, Any]:
        """Return the token's entry for a scope."""
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        return {"type": kind, "name": name, "actions": self.grant(kind, name, actions.split(","))}


@pytest.fixture
async def token_server(tmp_path: Path) -> AsyncIterator[TokenServer]:
    """A token server on a port of its own, with its own key."""
    server = TokenServer(*make_certificate(tmp_path, "token"))
    application = web.Application()
    application.router.add_get("/token", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    server.realm = f"http://{host}:{port}/token"
    yield server
    await runner.cleanup()


def token_auth(server: TokenServer) -> dict[str, Any]:
    """Return the registry's configuration for a token server."""
    token = {"realm": server.realm, "service": SERVICE, "issuer": ISSUER}
    return {"auth": {"token": {**token, "rootcertbundle": str(server.certificate)}}}


@needs_openssl
async def test_bearer__every_noun(
    registry_version: int, start_registry: StartRegistry, token_server: TokenServer
) -> None:
    """With a token server everything works, each scope asked for once and its token used again."""
    server = start_registry(registry_version, extra=token_auth(token_server))
    async with client_of(server.url, credentials=ROBOT) as client:
        digest = await push(client, APP, oci_image("a"), "latest")
        await client.ping()
        assert (await client.list_repositories()).names == (APP,)
        assert tuple((await client.list_tags(APP)).names) == ("latest",)
        assert isinstance(await client.head_tag(APP, LATEST, if_digest=digest), Confirmed)
        assert isinstance(await client.head_tag(APP, LATEST), Found)
        assert isinstance(await client.get_manifest(APP, digest), ManifestContent)
        await client.delete_manifest(APP, digest)
        assert isinstance(await client.head_tag(APP, LATEST), NotFound)

    scopes = [sorted(scopes) for scopes, _ in token_server.asked]
    assert ["registry:catalog:*"] in scopes
    assert [f"repository:{APP}:pull"] in scopes
    assert [f"repository:{APP}:delete"] in scopes
    assert len(scopes) == 5  # catalog, pull, push, delete, and none for the ping


@needs_openssl
async def test_bearer__wrong_password_or_none(
    registry_version: int, start_registry: StartRegistry, token_server: TokenServer
) -> None:
    """A token server that refuses us denies us."""
    server = start_registry(registry_version, extra=token_auth(token_server))
    for credentials in (None, Credentials("robot", "wrong")):
        async with client_of(server.url, credentials=credentials) as client:
            with pytest.raises(RegistryDenied, match="token server"):
                await client.list_tags(APP)


@needs_openssl
async def test_bearer__granted_less_than_asked(
    registry_version: int, start_registry: StartRegistry, token_server: TokenServer
) -> None:
    """A token without the right denies that request alone."""
    token_server.grant = lambda kind, _name, actions: [] if kind == "registry" else actions
    server = start_registry(registry_version, extra=token_auth(token_server))
    async with client_of(server.url, credentials=ROBOT) as client:
        with pytest.raises(RegistryDenied, match="401"):
            await client.list_repositories()
        assert (await client.list_tags(APP)).unknown_repository


@needs_openssl
async def test_bearer__expired_under_way(
    registry_version: int, start_registry: StartRegistry, token_server: TokenServer
) -> None:
    """A token the registry calls expired, though we thought it good, is renewed without anybody noticing."""
    token_server.expired_by_seconds, token_server.lifetime_seconds = 600, 3600
    server = start_registry(registry_version, extra=token_auth(token_server))
    async with client_of(server.url, credentials=ROBOT) as client:
        with pytest.raises(RegistryDenied):
            await client.list_tags(APP)
        token_server.expired_by_seconds = 0
        assert (await client.list_tags(APP)).unknown_repository


@needs_openssl
async def test_tls__own_authority(
    registry_version: int, start_registry: StartRegistry, tmp_path: Path
) -> None:
    """A registry with a certificate of one's own is trusted with its CA file, and only with it."""
    certificate, key = make_certificate(tmp_path, "registry")
    other, _ = make_certificate(tmp_path, "other")
    server = start_registry(registry_version, tls=(certificate, key))

    async with client_of(server.url, ca_file=certificate) as client:
        assert (await client.ping()).api_version == "registry/2.0"
    for ca_file in (None, other):
        async with client_of(server.url, ca_file=ca_file) as client:
            with pytest.raises(RegistryMisbehaved, match="certificate is not trusted"):
                await client.ping()


@needs_openssl
async def test_tls__plain_http_spoken_to_it(
    registry_version: int, start_registry: StartRegistry, tmp_path: Path
) -> None:
    """HTTP to an HTTPS port, and HTTPS to an HTTP port, say what is wrong."""
    encrypted = start_registry(registry_version, tls=make_certificate(tmp_path, "registry"))
    plain = start_registry(registry_version)

    async with client_of(encrypted.url.replace("https", "http")) as client:
        with pytest.raises(RegistryMisbehaved, match="HTTPS server"):
            await client.ping()
    async with client_of(plain.url.replace("http", "https")) as client:
        with pytest.raises(RegistryMisbehaved, match="not the expected protocol"):
            await client.ping()


def test_ca_file__missing_or_empty(tmp_path: Path) -> None:
    """A CA file that cannot be read is a matter of configuration."""
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (tmp_path / "missing.pem", empty, tmp_path):
        with pytest.raises(ConfigurationError, match="CA file"):
            client_of("https://registry.test", ca_file=path)


async def test_put_manifest__read_only(registry_version: int, start_registry: StartRegistry) -> None:
    """A registry in maintenance refuses writes with a 405; looks go on."""
    maintenance: dict[str, Any] = {"readonly": {"enabled": False}}
    extra = {"storage": {"maintenance": maintenance}}
    server = start_registry(registry_version, extra=extra)
    async with client_of(server.url) as client:
        await push(client, APP, oci_image("a"), "latest")
        maintenance["readonly"] = {"enabled": True}
        server.restart()

        with pytest.raises(RegistryDenied, match="read-only"):
            await push(client, APP, oci_image("b"), "latest")
        with pytest.raises(RegistryDenied, match="read-only"):
            await client.put_manifest(APP, LATEST, b"{}", media_type=oci_image("a").media_type)
        assert isinstance(await client.head_tag(APP, LATEST), Found)


async def test_look_at_tag__empty_link_file(registry_version: int, start_registry: StartRegistry) -> None:
    """A crash can leave an empty tag link (issue 4489); the registry's 500 concludes nothing."""
    server = start_registry(registry_version)
    async with client_of(server.url) as client:
        await push(client, APP, oci_image("a"), "latest")
        tag_link_of(server, APP, "latest").write_bytes(b"")

        with pytest.raises(RegistryUnavailable, match="500"):
            await client.head_tag(APP, LATEST)


async def test_prefix__registry_below_a_path(
    registry_version: int, start_registry: StartRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry with ``http.prefix`` is used through a base URL with that path, uploads and pages too."""
    monkeypatch.setattr(RegistryServer, "_answers", accepts_connections)  # its /v2/ lies elsewhere
    server = start_registry(registry_version, extra={"http": {"prefix": "/behind/"}})
    async with client_of(f"{server.url}/behind/") as client:
        digest = await push(client, APP, oci_image("a"), "latest")
        assert isinstance(await client.head_tag(APP, LATEST, if_digest=digest), Confirmed)
        await push(client, "team/other", oci_image("a"), "latest")
        listing = await catalog.list_repositories(client._transport, page_size=1)
        assert listing.names == (APP, "team/other")
    async with client_of(server.url) as client:
        with pytest.raises(RegistryMisbehaved, match="404"):
            await client.ping()


def accepts_connections(server: RegistryServer) -> bool:
    """Tell whether a registry listens."""
    host, _, port = server.host.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
