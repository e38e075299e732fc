"""Signing in by the registry's own user and password: the realm is asked, nothing is kept, guessing is bounded."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from structlog.testing import capture_logs

from indexer.api.routes import add_api
from indexer.api.session import RENEWABLE_SECONDS, Credentials, check_scopes, key_of, seal, unseal
from indexer.api.settings import ApiSettings
from indexer.common.errors import CallerError
from indexer.store.pool import open_pool
from tests.fixtures.realms import PASSWORD, USER, RealmServer, realm_serving
from tests.fixtures.rows import TagRow, put_repository
from tests.fixtures.tokens import SERVICE, grant, mint, trust_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PATH = "/api/v1/session"
OPERATOR = "operator-token-of-the-tests"
KEY = key_of(b"a secret")
ASKED = {"username": USER, "password": PASSWORD, "scopes": ["repository:team/app:pull"]}


@dataclass
class Place:
    """A client of the indexer, and the realm that it trusts."""

    client: TestClient[web.Request, web.Application]
    realm: RealmServer

    async def post(self, body: Any, **headers: str) -> ClientResponse:
        return await self.client.post(PATH, json=body, headers=headers)

    async def signed_in(self, body: Any) -> dict[str, Any]:
        response = await self.post(body)
        found: dict[str, Any] = await response.json()
        assert response.status == 200, found
        return found

    async def refused(self, body: Any, **headers: str) -> tuple[int, str]:
        response = await self.post(body, **headers)
        text = await response.text()
        assert PASSWORD not in text
        return response.status, (await response.json(content_type=None))["code"]


@asynccontextmanager
async def place(
    database_url: str, tmp_path: Path, *, realm: str | None = None, **settings: Any
) -> AsyncIterator[Place]:
    """Serve the API with trust in a realm: a server of the test, unless its address is given."""
    async with realm_serving() as (server, address):
        url = realm or f"{address}?client_id=docker"
        pool = await open_pool(database_url, size=6, application="tests")
        await put_repository(pool, "team/app", [TagRow(name="x")])
        await put_repository(pool, "other", [TagRow(name="x")])
        app = web.Application()
        trust = replace(trust_in(tmp_path), realm=url)
        add_api(
            app,
            pool=pool,
            settings=ApiSettings(**{"api_tokens": frozenset({OPERATOR}), "trust": trust, **settings}),
        )
        async with TestClient(TestServer(app, host="127.0.0.1")) as client:
            yield Place(client, server)
        await pool.close()


@pytest_asyncio.fixture
async def there(database_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    """The API, and the realm that it trusts."""
    async with place(database_url, tmp_path) as opened:
        yield opened


async def test_sign_in__gets_a_token_that_reads_what_the_realm_grants(there: Place) -> None:
    """The realm gets user, password, service and scopes, its own parameters stay; its token is good for the API."""
    found = await there.signed_in(ASKED)
    (asked,) = there.realm.asked
    assert (asked["user"], asked["scheme"], asked["scopes"]) == (USER, "Basic", ASKED["scopes"])
    assert asked["query"]["service"] == SERVICE
    assert asked["query"]["client_id"] == "docker"
    assert (found["name"], found["expires_in"], found["granted"]) == (USER, 300, ["repository:team/app:pull"])
    bearer = {"Authorization": f"Bearer {found['token']}"}
    assert (await there.client.get("/api/v1/repositories/team/app", headers=bearer)).status == 200
    assert (await there.client.get("/api/v1/repositories/other", headers=bearer)).status in (401, 404)


async def test_renewal__gets_the_next_token_without_the_password(there: Place) -> None:
    """It carries user and password, encrypted, and may ask for other scopes."""
    first = await there.signed_in(ASKED)
    assert PASSWORD not in str(first)
    assert base64.b64encode(PASSWORD.encode()).decode()[:8] not in str(first)
    second = await there.signed_in({"renewal": first["renewal"], "scopes": ["repository:team/web:pull"]})
    assert second["granted"] == ["repository:team/web:pull"]
    third = await there.signed_in({"renewal": second["renewal"]})
    assert (third["name"], third["granted"]) == (USER, [])


async def test_sign_in__says_what_may_be_asked_for(there: Place) -> None:
    """What the realm grants beyond reading is what the API allows: kinds of jobs, by repository."""
    there.realm.actions = frozenset({"pull", "push"})
    found = await there.signed_in(
        {**ASKED, "scopes": ["repository:team/app:pull,push,delete", "repository:team/web:pull"]}
    )
    assert found["granted"] == ["repository:team/app:pull,push", "repository:team/web:pull"]
    assert found["may_ask"] == {"team/app": ["restore"]}


async def test_sign_in__with_a_wrong_password(there: Place) -> None:
    """401, without a challenge that would make a browser open its own dialog."""
    response = await there.post({**ASKED, "password": "wrong"})
    assert (response.status, (await response.json(content_type=None))["code"]) == (401, "unauthorized")
    assert "Basic" not in response.headers.get("WWW-Authenticate", "")


async def test_guessing__is_bounded(there: Place) -> None:
    """After ten failures of a minute the realm is not asked any more, not even with the right password."""
    for number in range(10):
        assert await there.refused({**ASKED, "password": f"guess {number}"}) == (401, "unauthorized")
    assert await there.refused(ASKED) == (429, "too_many_attempts")
    assert (await there.post(ASKED)).headers["Retry-After"] == "60"
    assert len(there.realm.asked) == 10


async def test_success__is_not_counted(there: Place) -> None:
    """Whoever signs in and renews often is not locked out."""
    for _ in range(15):
        await there.signed_in(ASKED)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (web.Response(status=500), "realm_unavailable"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/steal"}), "realm_unavailable"),
        (web.Response(status=302, headers={"Location": "/jwt/auth?again"}), "realm_unavailable"),
        (web.Response(text="<html>"), "realm_unavailable"),
        (web.json_response({"token": 5}), "realm_unavailable"),
        (web.json_response([]), "realm_unavailable"),
        (web.json_response({"token": "not.a.jwt"}), "realm_token_not_valid"),
    ],
)
async def test_realm__that_is_away_or_answers_nonsense(there: Place, answer: web.Response, code: str) -> None:
    """503 and the reason; no redirect is followed with the password, and it is no failed attempt."""
    there.realm.answer = answer
    assert await there.refused(ASKED) == (503, code)
    assert len(there.realm.asked) == 1


async def test_realm__is_asked_without_a_proxy_of_the_environment(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password passes no proxy, and no cache keeps the answer."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with place(database_url, tmp_path) as there:
        response = await there.post(ASKED)
        assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")


async def test_realm__that_issues_for_another_service(there: Place) -> None:
    """A token that this API would not take is not passed on."""
    there.realm.issue = {"aud": "another"}
    assert await there.refused(ASKED) == (503, "realm_token_not_valid")


async def test_realm__does_not_listen(database_url: str, tmp_path: Path) -> None:
    """503, and attempts are not counted: nobody guessed anything."""
    async with place(database_url, tmp_path, realm="http://127.0.0.1:1/auth") as there:
        for _ in range(12):
            assert await there.refused(ASKED) == (503, "realm_unavailable")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400), ({"username": USER}, 400), ({"username": "", "password": "x"}, 400), ([], 400),
        ({**ASKED, "renewal": "x"}, 400), ({**ASKED, "more": 1}, 400), ({**ASKED, "scopes": ["repository:*:*"]}, 400),
        ({**ASKED, "scopes": ["repository:team/app:pull\nX: y"]}, 400), ({**ASKED, "scopes": "registry"}, 400),
        ({**ASKED, "scopes": ["registry:catalog:*"] * 101}, 400), ({**ASKED, "password": "x" * 9000}, 400),
        ({"renewal": "AAAA"}, 401), ({"renewal": "ü"}, 401), ({**ASKED, "username": "a:b"}, 401),
        ({**ASKED, "password": "a\nb"}, 401), ({**ASKED, "username": "x" * 70_000}, 413),
    ],
)  # fmt: skip
async def test_body__that_is_wrong(there: Place, body: Any, status: int) -> None:
    """Refused before the realm is asked, and the answer repeats nothing of it."""
    assert (await there.refused(body))[0] == status
    assert there.realm.asked == []


async def test_other_sites__cannot_sign_in(there: Place) -> None:
    """A page of another site is refused, whether its request is simple or asked for before."""
    assert await there.refused(ASKED, **{"Sec-Fetch-Site": "cross-site"}) == (403, "another_site")
    simple = await there.client.post(
        PATH, data='{"username":"a","password":"b"}', headers={"Content-Type": "text/plain"}
    )
    assert simple.status == 415
    options = await there.client.options(PATH)
    assert (options.status, "Access-Control-Allow-Origin" in options.headers) == (405, False)


async def test_log__has_no_user_and_no_password(there: Place) -> None:
    """Neither a success nor a failure leaves a name, a password or a token in the log."""
    with capture_logs() as logs:
        found = await there.signed_in(ASKED)
        for _ in range(12):
            await there.post({**ASKED, "password": "guess-guess"})
    text = str(logs)
    assert "sign_in_bounded" in text
    for secret in (USER, PASSWORD, "guess-guess", found["token"], found["renewal"]):
        assert secret not in text


async def test_show__says_what_is_offered_and_what_a_token_is(there: Place) -> None:
    """Without a token how to sign in; with one whose it is; a wrong one is a 401."""
    nobody = await (await there.client.get(PATH)).json()
    assert nobody == {
        "anonymous_read": False,
        "passwords": True,
        "registry": None,
        "name": None,
        "everything": False,
        "may_act": False,
        "may_ask": {},
    }
    operator = await (await there.client.get(PATH, headers={"Authorization": f"Bearer {OPERATOR}"})).json()
    assert (operator["name"], operator["everything"]) == ("operator", True)
    assert (operator["may_act"], operator["may_ask"]) == (False, {})  # it only reads
    limited = mint(grant("team/app", "pull"), sub="joon")
    shown = await (await there.client.get(PATH, headers={"Authorization": f"Bearer {limited}"})).json()
    assert (shown["name"], shown["everything"], shown["may_ask"]) == ("joon", False, {})
    deletes = mint(
        grant("team/app", "pull", "delete"), grant("team/web", "push"), grant("x", "*", kind="registry")
    )
    shown = await (await there.client.get(PATH, headers={"Authorization": f"Bearer {deletes}"})).json()
    assert shown["may_ask"] == {"team/app": ["delete", "restore"], "team/web": ["restore"]}
    assert (await there.client.get(PATH, headers={"Authorization": "Bearer nobody's"})).status == 401


async def test_show__says_who_may_act(database_url: str, tmp_path: Path) -> None:
    """An operator token has its name, and acts."""
    async with place(database_url, tmp_path, operator_tokens=(("ann", "token-of-ann"),)) as there:
        found = await (await there.client.get(PATH, headers={"Authorization": "Bearer token-of-ann"})).json()
        assert (found["name"], found["everything"], found["may_act"]) == ("ann", True, True)


@pytest.mark.parametrize("given", [{"trust": None}, {"realm": "a realm that is only a text"}])
async def test_sign_in__that_is_not_configured(
    database_url: str, tmp_path: Path, given: dict[str, Any]
) -> None:
    """Without trust, or where the realm is no address, there is nothing to ask: 404, and the page does not offer it."""
    async with place(database_url, tmp_path, **given) as there:
        assert await there.refused(ASKED) == (404, "no_sign_in")
        assert (await (await there.client.get(PATH)).json())["passwords"] is False


def test_renewal__ends_after_twelve_hours_and_with_another_key() -> None:
    """What is too old, changed, or of another database is refused alike."""
    given = Credentials(user=USER, password=PASSWORD, since=1000)
    renewal = seal(given, KEY)
    assert unseal(renewal, KEY, now=1000 + RENEWABLE_SECONDS) == given
    changed = renewal[:-4] + ("AAAA" if renewal[-4:] != "AAAA" else "BBBB")
    for bad, key, now in (
        (renewal, KEY, 1001 + RENEWABLE_SECONDS),
        (renewal, key_of(b"another"), 1000),
        (renewal, AESSIV(b"k" * 64), 1000),
        (changed, KEY, 1000),
    ):
        with pytest.raises(CallerError) as raised:
            unseal(bad, key, now=now)
        assert raised.value.status == 401


def test_renewal__does_not_reveal_the_length_of_a_password() -> None:
    """Passwords of usual length give renewals of one length."""
    lengths = {len(seal(Credentials(user="u", password="p" * size, since=1), KEY)) for size in range(8, 40)}
    assert len(lengths) == 1


@pytest.mark.parametrize(
    "scope", ["registry:catalog:*", "registry:audit:*", "repository:a/b:pull", "repository:a:pull,push"]
)
def test_scopes__of_this_api(scope: str) -> None:
    """What the console asks for."""
    check_scopes([scope])


@pytest.mark.parametrize(
    "scope",
    ["", "registry:catalog:delete", "registry:other:*", "repository:A:pull", "repository:a:*", "repository:a:pull push",
     "repository:a/*:pull", "repository(plugin):a:pull", "repository:a:pull&scope=x", f"repository:{'a' * 300}:pull"],
)  # fmt: skip
def test_scopes__of_anything_else(scope: str) -> None:
    """Nothing else is passed on to the realm."""
    with pytest.raises(CallerError):
        check_scopes([scope])
