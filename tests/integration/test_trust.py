"""The registry's tokens at our doors: what they open of our own API, and that a real registry thinks alike."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from indexer.api.trust import key_set as key_set_of
from indexer.api.trust import load_keys
from indexer.oci.digest import digest_to_bytes
from tests.fixtures.everything import fill
from tests.fixtures.rows import TagRow, digest, put_repository
from tests.fixtures.tokens import (
    ISSUER,
    REALM,
    SERVICE,
    certificate,
    claims,
    ec_key,
    encode,
    grant,
    kid,
    mint,
    rsa_key,
    sign,
)
from tests.fixtures.trusting import Trusting, pull
from tests.unit.test_tokens import attacks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.registries import StartRegistry
    from tools.registry_server import RegistryServer

APP = "team/app"
OF_APP = (
    f"/api/v1/repositories/{APP}",
    f"/api/v1/repositories/{APP}/tags",
    f"/api/v1/repositories/{APP}/tags/latest",
    f"/api/v1/repositories/{APP}/tags/latest/history",
    f"/api/v1/repositories/{APP}/manifests",
    f"/gitlab/v1/repositories/{APP}/tags/list/",
)
LISTS = ("/api/v1/repositories", "/api/v1/tags", "/api/v1/drift")
LOG = ("/api/v1/audit", "/api/v1/audit/export")
CATALOG = grant("catalog", "*", kind="registry")
AUDIT = grant("audit", "*", kind="registry")


async def test_grant__opens_its_repository(trusting: Trusting) -> None:
    """Who may pull a repository may read everything of it, and nothing of another."""
    await fill(trusting.pool)
    for path in OF_APP:
        assert await trusting.status(path, pull(APP)) == 200, path
        assert await trusting.status(path, grant(APP, "*")) == 200, path
        for other in (pull("other"), grant(APP, "push"), pull("team/*"), pull("*"), CATALOG, AUDIT):
            assert await trusting.status(path, other) in (401, 404), path


async def test_grant__an_ungranted_repository_is_like_a_missing_one(trusting: Trusting) -> None:
    """Our own API answers to the letter the same for a repository one may not read and for one that is not there."""
    await fill(trusting.pool)
    for path in OF_APP[:-1]:
        ungranted = await trusting.ask(path, token=mint(pull("other")))
        missing = await trusting.ask(path.replace(APP, "team/none"), token=mint(pull("other")))
        assert ungranted.status == missing.status == 404
        assert await ungranted.text() == await missing.text()


async def test_grant__lists_show_what_is_granted(trusting: Trusting) -> None:
    """Lists are narrowed to what may be pulled; the catalog's grant lists every name, and opens none."""
    await fill(trusting.pool)

    async def names(*access: dict[str, Any]) -> list[str]:
        body = await trusting.json("/api/v1/repositories", token=mint(*access))
        return [each["name"] for each in body["items"]]

    assert await names() == []
    assert await names(pull("other"), pull("team/none")) == ["other"]
    assert await names(CATALOG) == await names(CATALOG, pull("other")) == ["empty", "other", APP]
    tags = await trusting.json("/api/v1/tags", token=mint(pull("other"), CATALOG))
    assert {each["repository"] for each in tags["items"]} == {"other"}
    drift = await trusting.json("/api/v1/drift", token=mint(pull("other")))
    assert (drift["items"], drift["runs"]) == ([], [])
    assert (await trusting.json("/api/v1/drift", token=mint(pull(APP))))["items"]


PAST = "2020-01-01T00:00:00Z"
NOW = "2030-01-01T00:00:00Z"
OF_THE_PAST: tuple[tuple[str, dict[str, str]], ...] = (
    ("/api/v1/history", {"at": NOW}),
    ("/api/v1/history", {"digest": digest("one")}),
    ("/api/v1/history/moved", {}),
    ("/api/v1/changes", {"since": PAST, "until": NOW}),
)


@pytest.mark.parametrize(("path", "query"), OF_THE_PAST)
async def test_grant__the_past_is_narrowed_to_what_may_be_pulled(
    trusting: Trusting, path: str, query: dict[str, str]
) -> None:
    """Questions about the past show a token what it may pull, and nothing of others, whatever it asks for."""
    await fill(trusting.pool)
    await trusting.pool.execute(
        "WITH moved AS (UPDATE tag_history SET is_replacement = true, name = replace(name, 'x', 'v2.0.0') "
        "WHERE name IN ('v1.0.0', 'x') RETURNING *) "
        "INSERT INTO tag_history (repository_id, name, valid_from, valid_to, manifest_id, from_source) "
        "SELECT repository_id, name, valid_from - interval '1 hour', valid_from, (SELECT id FROM manifest WHERE "
        "digest = $1), 'event' FROM moved",
        digest_to_bytes(digest("two")),
    )
    await trusting.pool.execute("UPDATE tag SET name = 'v2.0.0' WHERE name = 'x'")

    async def repositories(*access: dict[str, Any], **more: str) -> set[str]:
        body = await trusting.json(path, token=mint(*access), **(query | more))
        return {each["repository"] for each in body["items"]}

    everything = {each["repository"] for each in (await trusting.json(path, **query))["items"]}
    assert {APP, "other"} == everything
    assert {APP} == await repositories(pull(APP))
    assert {"other"} == await repositories(pull("other"), CATALOG, AUDIT)
    assert everything == await repositories(pull(APP), pull("other"))
    for access in ((pull("team/none"),), (CATALOG,), (AUDIT,), (grant(APP, "push"),), ()):
        assert set() == await repositories(*access), access
    assert set() == await repositories(pull("other"), repository=APP)
    assert set() == await repositories(pull("other"), prefix="team/")
    assert (await trusting.ask(path, token=None, **query)).status == 401


async def test_grant__the_log_takes_its_own(trusting: Trusting) -> None:
    """The audit log opens with ``registry:audit:*`` or an operator's token, and then all of it."""
    await fill(trusting.pool)
    for path in LOG:
        assert (await trusting.ask(path)).status == 200
        assert await trusting.status(path, AUDIT) == 200
        response = await trusting.ask(
            path, token=mint(pull(APP), CATALOG, grant("audit", "read", kind="registry"))
        )
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == (
            f'Bearer realm="{REALM}",service="{SERVICE}",scope="registry:audit:*",error="insufficient_scope"'
        )
    items = (await trusting.json("/api/v1/audit", token=mint(AUDIT)))["items"]
    assert len(items) == len((await trusting.json("/api/v1/audit"))["items"]) > 0


@pytest.mark.parametrize(
    ("path", "scope"),
    [(path, f',scope="repository:{APP}:pull"') for path in OF_APP]
    + [("/api/v1/repositories", ',scope="registry:catalog:*"'), ("/api/v1/tags", ""), ("/api/v1/status", "")]
    + [(path, ',scope="registry:audit:*"') for path in LOG]
    + [("/api/v1/no/such/thing", ""), ("/api/v1/repositories/Not-A-Name", "")],
)
async def test_challenge__on_every_read_without_a_good_token(
    trusting: Trusting, path: str, scope: str
) -> None:
    """Without a token the challenge says where to get which; with a bad one also that it is bad."""
    challenge = f'Bearer realm="{REALM}",service="{SERVICE}"{scope}'
    missing = await trusting.ask(path, token=None)
    bad = await trusting.ask(path, token=mint(pull(APP), exp=1))
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, challenge)
    assert (bad.status, bad.headers["WWW-Authenticate"]) == (401, f'{challenge},error="invalid_token"')


async def test_attacks__are_401_over_http(trusting: Trusting) -> None:
    """No attack on the trust is answered with anything but a 401, at either door."""
    await fill(trusting.pool)
    for name, token in attacks().items():
        if not token.isprintable() or not token.isascii():
            continue
        for path in (OF_APP[1], OF_APP[-1], "/gitlab/v1/"):
            assert (await trusting.ask(path, token=token)).status == 401, name


async def test_tokens__as_long_as_the_registry_takes(trusting: Trusting) -> None:
    """A token of most of a megabyte is read, one of more is a 431, and one past the server's limit no 5xx."""
    await fill(trusting.pool)
    large = mint(*(pull(f"group/project-{number}") for number in range(8000)), pull(APP))
    assert len(large) > 500_000
    for path in (OF_APP[1], OF_APP[-1]):
        assert (await trusting.ask(path, token=large)).status == 200
        assert (await trusting.ask(path, token="x" * 2_000_000)).status == 431
    assert await raw_status(trusting, b"x" * 6_000_000) in (400, 401, 431)


async def raw_status(trusting: Trusting, token: bytes) -> int:
    """Send a header past every limit; the server may hang up before it has read it all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", trusting.client.port)
    try:
        writer.write(b"GET /gitlab/v1/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
        await writer.drain()
        return int((await reader.readline()).split()[1])
    except ConnectionError:
        return 431
    finally:
        writer.close()


# --- the same tokens at a real registry ------------------------------------------------------------------


@pytest.fixture
def registry(start_registry: StartRegistry, registry_version: int, tmp_path: Path) -> RegistryServer:
    """A real registry that trusts the same keys; 3.x needs GitLab's name of the key in a JWK set."""
    bundle, key_set = tmp_path / "bundle.pem", tmp_path / "jwks.json"
    bundle.write_bytes(certificate(rsa_key()) + certificate(ec_key()))
    key_set.write_text(
        json.dumps(key_set_of(load_keys(bundle))), encoding="utf-8"
    )  # as `indexer jwks` prints it
    token = {"realm": REALM, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}
    if registry_version != 2:
        token["jwks"] = str(key_set)
    return start_registry(registry_version, extra={"auth": {"token": token}})


def ask_registry(server: RegistryServer, path: str, token: str | None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers.get("WWW-Authenticate", "")


def shared() -> dict[str, tuple[str, bool]]:
    """Tokens, and whether each opens ``team/app``."""
    now = int(time.time())
    key, curve, stranger = rsa_key(), ec_key(), rsa_key("stranger")
    good = mint(pull(APP))
    header, _, signature = good.split(".")
    other_claims = encode(claims(pull(APP), exp=now + 9999))
    embedded = {"x5c": [base64.b64encode(certificate(stranger)).decode()], "kid": None}
    return {
        "pull": (good, True),
        "any action": (mint(grant(APP, "*")), True),
        "ES256": (sign(claims(pull(APP)), key=curve), True),
        "audience a list": (mint(pull(APP), aud=["another", SERVICE]), True),
        "just expired": (mint(pull(APP), exp=now - 20), True),
        "soon valid": (mint(pull(APP), nbf=now + 20), True),
        "many grants": (mint(*(pull(f"group/p{number}") for number in range(2000)), pull(APP)), True),
        "of GitLab's client": (mint(grant(APP, "*"), pull(f"{APP}/*")), True),
        "no grant": (mint(), False),
        "push alone": (mint(grant(APP, "push")), False),
        "another repository": (mint(pull("team/other")), False),
        "a star for a name": (mint(pull("team/*"), pull("*"), pull(f"{APP}/*")), False),
        "another type": (mint(grant(APP, "pull", kind="registry")), False),
        "another issuer": (mint(pull(APP), iss="another"), False),
        "another audience": (mint(pull(APP), aud="another"), False),
        "no audience": (mint(pull(APP), aud=None), False),
        "no issuer": (mint(pull(APP), iss=None), False),
        "no expiry": (mint(pull(APP), exp=None), False),
        "expired": (mint(pull(APP), exp=now - 90), False),
        "not yet valid": (mint(pull(APP), nbf=now + 90), False),
        "another key": (mint(pull(APP), key=stranger), False),
        "another key, our kid": (sign(claims(pull(APP)), key=stranger, header={"kid": kid(key)}), False),
        "another key, embedded": (sign(claims(pull(APP)), key=stranger, header=embedded), False),
        "alg none": (f"{encode({'alg': 'none', 'kid': kid(key)})}.{other_claims}.", False),
        "other claims": (f"{header}.{other_claims}.{signature}", False),
        "garbage": ("garbage", False),
    }


async def test_trust__one_token_opens_both_or_neither(trusting: Trusting, registry: RegistryServer) -> None:
    """What a real registry with the same trust thinks of a token, we think of it too, and challenge alike."""
    await put_repository(trusting.pool, APP, [TagRow(name="v1")])
    differing: list[tuple[object, ...]] = []
    for name, (token, opens) in shared().items():
        if name == "audience a list" and registry.major == 2:
            continue  # 2.8 reads no lists; the trust of GitLab and 3.x does
        status, theirs = await asyncio.to_thread(ask_registry, registry, f"/v2/{APP}/tags/list", token)
        answers = [
            await trusting.ask(path, token=token)
            for path in (f"/gitlab/v1/repositories/{APP}/tags/list/", f"/api/v1/repositories/{APP}/tags")
        ]
        # The registry does not have the repository: whoever may ask is told so.
        opened = [{404: True, 401: False}[status], *(answer.status == 200 for answer in answers)]
        if opened != [opens] * 3:
            differing.append((name, opens, opened))
        if not opens:
            ours = answers[0].headers["WWW-Authenticate"]
            if theirs not in (
                ours,
                ours.removesuffix(',error="invalid_token"'),
            ):  # 3.x: not for a bad signature
                differing.append((name, theirs, ours))
    assert not differing, "\n".join(map(str, differing))


async def test_trust__challenges_alike_without_a_token(trusting: Trusting, registry: RegistryServer) -> None:
    """Without a token both doors name the same realm, service and scope."""
    _, theirs = await asyncio.to_thread(ask_registry, registry, f"/v2/{APP}/tags/list", None)
    ours = await trusting.ask(f"/gitlab/v1/repositories/{APP}/tags/list/", token=None)
    assert ours.headers["WWW-Authenticate"] == theirs
    _, theirs = await asyncio.to_thread(ask_registry, registry, "/v2/_catalog", None)
    ours = await trusting.ask("/api/v1/repositories", token=None)
    assert ours.headers["WWW-Authenticate"] == theirs
    body = json.loads(await (await trusting.ask(f"/gitlab/v1/repositories/{APP}/", token=None)).text())
    assert body["errors"][0]["detail"] == [{"Type": "repository", "Class": "", "Name": APP, "Action": "pull"}]
