"""Answering challenges: what is sent where, and which tokens are kept how long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from indexer.common.errors import RegistryDenied, RegistryMisbehaved
from indexer.oci.reference import RepositoryName
from reconciler.registry.auth import Authenticator, Credentials, repository_scope
from reconciler.registry.auth import TokenServer as Configured
from reconciler.registry.challenges import Challenge

REALM = "https://auth.test/token"
BEARER = Challenge("bearer", {"realm": REALM, "service": "registry.test", "scope": "repository:a:pull"})
BASIC = Challenge("basic", {"realm": "x"})
ROBOT = Credentials("robot", "sécret")
PULL = repository_scope(RepositoryName("a"), "pull")


class TokenServer:
    """Hands out numbered tokens and remembers what it was asked."""

    def __init__(self, **answer: Any) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]], str | None]] = []
        self.answer = answer or {"expires_in": 100}
        self.now = 1000.0

    async def __call__(
        self, realm: str, *, query: Sequence[tuple[str, str]], authorization: str | None
    ) -> bytes:
        self.asked.append((realm, list(query), authorization))
        await asyncio.sleep(0)
        return json.dumps({"token": f"t{len(self.asked)}", **self.answer}).encode()

    def authenticator(
        self,
        credentials: Credentials | None = ROBOT,
        *,
        base_url: str = "https://registry.test",
        configured: Configured | None = None,
    ) -> Authenticator:
        """Return an authenticator whose clock is ours."""
        return Authenticator(
            credentials,
            base_url=base_url,
            fetch_token=self,
            configured=configured,
            monotonic=lambda: self.now,
        )


async def test_header_for__nothing_unasked() -> None:
    """Before the registry asks, nothing is sent and no token is fetched."""
    server = TokenServer()

    assert await server.authenticator().header_for(PULL) is None
    assert server.asked == []


async def test_answer__bearer() -> None:
    """The token request carries service, scope and the account, with the password as Basic.

    The scope is what our request needs, not what the challenge names.
    """
    server = TokenServer()
    challenge = Challenge("bearer", {**BEARER.parameters, "scope": "repository:other/repo:push,delete"})

    header = await server.authenticator().answer([BASIC, challenge], PULL, refused=None)

    assert header == "Bearer t1"
    query = [("service", "registry.test"), ("scope", "repository:a:pull")]
    assert server.asked == [(REALM, [*query, ("account", "robot")], ROBOT.basic)]


async def test_answer__of_two_repositories() -> None:
    """A blob is mounted with one token for both repositories: each is a scope of its own."""
    server = TokenServer()
    both = f"{repository_scope(RepositoryName('a'), 'pull', 'push')} {repository_scope(RepositoryName('b'), 'pull')}"

    assert await server.authenticator().answer([BEARER], both, refused=None) == "Bearer t1"
    scopes = [value for name, value in server.asked[0][1] if name == "scope"]
    assert scopes == ["repository:a:pull,push", "repository:b:pull"]


async def test_answer__anonymous_bearer() -> None:
    """Without credentials a token is asked for anonymously, as public registries allow."""
    server = TokenServer()

    assert await server.authenticator(None).answer([BEARER], PULL, refused=None) == "Bearer t1"
    assert server.asked[0][2] is None


async def test_header_for__token_until_it_nearly_expires() -> None:
    """A token serves its scope until ten seconds before its end; other scopes have their own."""
    server = TokenServer(expires_in=100)
    authenticator = server.authenticator()
    await authenticator.answer([BEARER], PULL, refused=None)

    server.now += 89
    assert await authenticator.header_for(PULL) == "Bearer t1"
    assert await authenticator.header_for("registry:catalog:*") == "Bearer t2"
    server.now += 2
    assert await authenticator.header_for(PULL) == "Bearer t3"
    assert server.asked[1][1][1] == ("scope", "registry:catalog:*")


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(None, 50), (0, 50), (-5, 50), ("x", 50), (True, 50), (4, 2)]
)
async def test_header_for__odd_lifetimes(lifetime: object, seconds: int) -> None:
    """An absent or odd lifetime is the specification's 60 seconds; a short one is used by half."""
    server = TokenServer(expires_in=lifetime)
    authenticator = server.authenticator()
    await authenticator.answer([BEARER], PULL, refused=None)

    server.now += seconds - 0.5
    assert await authenticator.header_for(PULL) == "Bearer t1"
    server.now += 1
    assert await authenticator.header_for(PULL) == "Bearer t2"


async def test_answer__refused_token_is_renewed() -> None:
    """A refused token is thrown away; one that somebody renewed meanwhile is used."""
    server = TokenServer()
    authenticator = server.authenticator()
    first = await authenticator.answer([BEARER], PULL, refused=None)

    second = await authenticator.answer([BEARER], PULL, refused=first)
    again = await authenticator.answer([BEARER], PULL, refused=first)

    assert (first, second, again) == ("Bearer t1", "Bearer t2", "Bearer t2")


async def test_answer__one_fetch_for_many() -> None:
    """A hundred requests that want the same token cause one fetch."""
    server = TokenServer()
    authenticator = server.authenticator()

    headers = await asyncio.gather(*(authenticator.answer([BEARER], PULL, refused=None) for _ in range(100)))

    assert set(headers) == {"Bearer t1"}
    assert len(server.asked) == 1
    assert authenticator._locks == {}


async def test_tokens__are_bounded() -> None:
    """The least used token goes where there are too many."""
    server = TokenServer()
    authenticator = server.authenticator()
    await authenticator.answer([BEARER], PULL, refused=None)
    for number in range(5000):
        await authenticator.header_for(f"repository:r{number}:pull")

    assert len(authenticator._tokens) == 4096


async def test_answer__basic() -> None:
    """The password goes to the registry that asks for it, in UTF-8, and from then on with every request."""
    authenticator = TokenServer().authenticator()

    header = await authenticator.answer([BASIC], PULL, refused=None)

    assert header == "Basic cm9ib3Q6c8OpY3JldA=="
    assert await authenticator.header_for("anything") == header
    with pytest.raises(RegistryDenied, match="refused the password of 'robot'"):
        await authenticator.answer([BASIC], PULL, refused=header)


@pytest.mark.parametrize("challenges", [[], [Challenge("negotiate")]])
async def test_answer__no_way_in(challenges: list[Challenge]) -> None:
    """A challenge that cannot be answered denies."""
    with pytest.raises(RegistryDenied, match="only Basic and Bearer"):
        await TokenServer().authenticator().answer(challenges, PULL, refused=None)


async def test_answer__basic_without_credentials() -> None:
    """Without credentials the operator is told to set some."""
    with pytest.raises(RegistryDenied, match="none are configured"):
        await TokenServer().authenticator(None).answer([BASIC], PULL, refused=None)


@pytest.mark.parametrize("realm", ["", "token", "ftp://x", "http://[", "//auth.test"])
async def test_answer__realm_that_is_no_address(realm: str) -> None:
    """A realm has to be a web address."""
    with pytest.raises(RegistryMisbehaved, match="no token server"):
        await (
            TokenServer().authenticator().answer([Challenge("bearer", {"realm": realm})], PULL, refused=None)
        )


async def test_answer__no_password_in_the_clear() -> None:
    """An HTTPS registry cannot have the password sent over plain HTTP; without a password it may ask."""
    server = TokenServer()
    plain = Challenge("bearer", {"realm": "http://auth.test/token"})

    with pytest.raises(RegistryMisbehaved, match="no password is sent"):
        await server.authenticator().answer([plain], PULL, refused=None)
    assert server.asked == []
    assert await server.authenticator(None).answer([plain], PULL, refused=None)
    assert await server.authenticator(base_url="http://auth.test:5000").answer([plain], PULL, refused=None)


@pytest.mark.parametrize(
    ("base_url", "realm", "is_asked"),
    [
        ("https://registry.test", "https://auth.test/token", True),
        ("https://registry.test", "https://registry.test:8443/token", True),
        ("http://127.0.0.1:5000", "https://auth.test/token", True),
        ("http://[::1]:5000", "http://auth.test/token", True),
        ("http://localhost:5000", "https://auth.test/token", True),
        ("http://registry.test:5000", "http://registry.test:5001/token", True),
        ("http://registry.test:5000", "https://auth.test/token", False),
        ("http://10.0.0.5:5000", "http://10.0.0.6/token", False),
    ],
)
async def test_answer__token_server_on_another_host(base_url: str, realm: str, is_asked: bool) -> None:
    """Who could have written the challenge on the way cannot have the password sent to a host of his own.

    With the realm configured, or without a password, it is asked.
    """
    server = TokenServer()
    named = Challenge("bearer", {"realm": realm, "service": "x"})

    if is_asked:
        assert await server.authenticator(base_url=base_url).answer([named], PULL, refused=None)
    else:
        with pytest.raises(RegistryMisbehaved, match=f"RECONCILER_REGISTRY_TOKEN_REALM={realm}"):
            await server.authenticator(base_url=base_url).answer([named], PULL, refused=None)
        assert server.asked == []
    configured = server.authenticator(base_url=base_url, configured=Configured(realm=realm))
    assert await configured.answer([named], PULL, refused=None)
    assert await server.authenticator(None, base_url=base_url).answer([named], PULL, refused=None)


@pytest.mark.parametrize(
    "changed", [{"realm": "https://evil.test/token"}, {"service": "another"}], ids=["realm", "service"]
)
@pytest.mark.parametrize("configured", [None, Configured(realm=REALM, service="registry.test")])
async def test_answer__token_server_stays(configured: Configured | None, changed: dict[str, str]) -> None:
    """Realm and service are those of the first challenge, or the configured ones; another is asked for nothing."""
    server = TokenServer()
    authenticator = server.authenticator(configured=configured)
    other = Challenge("bearer", {**BEARER.parameters, **changed})

    if configured is None:
        await authenticator.answer([BEARER], PULL, refused=None)
    asked = len(server.asked)
    with pytest.raises(RegistryMisbehaved, match="no token is requested"):
        await authenticator.answer([other], "repository:b:pull", refused=None)

    assert len(server.asked) == asked
    assert await authenticator.answer([BEARER], "repository:b:pull", refused=None)


@pytest.mark.parametrize("token", [None, "", 5, "a\r\nX: y", "é"])
async def test_answer__no_token_in_the_answer(token: object) -> None:
    """A token server that gives none, or one no header could carry, misbehaves."""
    with pytest.raises(RegistryMisbehaved, match="no token"):
        await TokenServer(token=token).authenticator().answer([BEARER], PULL, refused=None)


async def test_answer__access_token() -> None:
    """OAuth's name for the token is understood too."""
    server = TokenServer(token=None, access_token="x")

    assert await server.authenticator().answer([BEARER], PULL, refused=None) == "Bearer x"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]"])
async def test_answer__not_a_token_servers_json(content: bytes) -> None:
    """A token server's answer has to be a JSON object."""

    async def fetch(realm: str, *, query: Sequence[tuple[str, str]], authorization: str | None) -> bytes:
        return content

    authenticator = Authenticator(ROBOT, base_url="https://registry.test", fetch_token=fetch)
    with pytest.raises(RegistryMisbehaved, match="is not"):
        await authenticator.answer([BEARER], PULL, refused=None)


def test_credentials__never_shown() -> None:
    """A password is not in the representation that logs and tracebacks show."""
    assert "sécret" not in repr(ROBOT)
    assert "sécret" not in f"{ROBOT}"
