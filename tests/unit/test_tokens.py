"""Tokens of the registry's own trust, and attacks on it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from indexer.api.auth import AUDIT, Access, Authenticator, Challenge, Principal, Unauthorized, pull_of
from indexer.api.tokens import ALGORITHMS, LEEWAY_SECONDS, SignedTokens
from indexer.api.trust import Trust, load_keys, read_trust
from indexer.common.errors import CallerError, ConfigurationError
from indexer.inventory.tag_protection import TagPatterns
from indexer.settings import Settings
from tests.fixtures.tokens import (
    ISSUER,
    REALM,
    SERVICE,
    certificate,
    claims,
    ec_key,
    encode,
    grant,
    jwks,
    kid,
    mint,
    rsa_key,
    sign,
    trust_in,
)

PULL = grant("team/app", "pull")


@dataclass(frozen=True, slots=True)
class Ago:
    """An instant so many seconds before the test runs; collection may lie minutes back."""

    seconds: int


def dated(changed: dict[str, Any]) -> dict[str, Any]:
    now = int(time.time())
    return {name: now - value.seconds if isinstance(value, Ago) else value for name, value in changed.items()}


@pytest.fixture
def tokens(tmp_path: Path) -> SignedTokens:
    return SignedTokens(trust_in(tmp_path))


def unsigned(header: dict[str, Any], signature: bytes = b"") -> str:
    return f"{encode(header)}.{encode(claims(PULL))}.{encode(signature)}"


def by_hmac(secret: bytes, alg: str = "HS256") -> str:
    """A token "signed" with something public for a secret."""
    signed = f"{encode({'alg': alg, 'kid': kid(rsa_key())})}.{encode(claims(PULL))}"
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


async def test_token__grants_what_it_says(tokens: SignedTokens) -> None:
    """A good token reads what it may pull; * is any action, and other actions are not reading."""
    token = mint(
        PULL, grant("team/all", "*"), grant("team/push", "push"), grant("catalog", "*", kind="registry")
    )
    principal = await tokens.verify(token)
    assert principal is not None
    assert principal.repositories == frozenset({"team/app", "team/all"})
    assert principal.may(Access("repository", "team/all", "push"))
    assert not principal.may(Access("repository", "team/app", "push"))
    assert principal.listed is None
    assert not principal.may(AUDIT)


@pytest.mark.parametrize("alg", ["RS256", "RS384", "RS512", "PS256", "ES256"])
@pytest.mark.parametrize("name", ["libtrust", "thumbprint", "nonsense", None])
async def test_token__any_algorithm_and_any_kid(tokens: SignedTokens, alg: str, name: str | None) -> None:
    """Every asymmetric algorithm of Distribution is taken, whatever the token calls its key."""
    key = ec_key() if alg == "ES256" else rsa_key()
    named = {"libtrust": kid(key), "thumbprint": key.thumbprint()}.get(name or "", name)
    token = sign(claims(PULL), key=key, alg=alg, header={"kid": named})
    assert (await tokens.verify(token)) is not None


@pytest.mark.parametrize(("curve", "alg"), [("P-384", "ES384"), ("P-521", "ES512"), ("Ed25519", "EdDSA")])
async def test_token__other_curves(tmp_path: Path, curve: Any, alg: str) -> None:
    """Keys on the other curves serve their own algorithm."""
    key = OKPKey.generate_key(curve) if curve == "Ed25519" else ECKey.generate_key(curve)
    tokens = SignedTokens(trust_in(tmp_path, key.as_pem(private=False)))
    token = sign(claims(PULL), key=key, alg=alg)
    assert (await tokens.verify(token)) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": [SERVICE]},
        {"aud": ["another", SERVICE]},
        {"exp": Ago(LEEWAY_SECONDS - 20)},
        {"nbf": Ago(20 - LEEWAY_SECONDS)},
        {"nbf": None, "iat": None, "jti": None},
        {"sub": "alice", "auth_type": "gitlab_or_ldap", "user": "ey.ey.ey"},
        {"access": None},
        {"access": []},
    ],
)
async def test_token__good_claims(tokens: SignedTokens, changed: dict[str, Any]) -> None:
    """The audience may be a list, clocks may differ by a minute, GitLab's own claims may be there or not."""
    assert (await tokens.verify(sign(claims(PULL, **dated(changed))))) is not None


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": None},
        {"aud": {"a": SERVICE}},
        {"aud": SERVICE + " "},
        {"iss": "another"},
        {"iss": [ISSUER]},
        {"iss": None},
        {"exp": Ago(LEEWAY_SECONDS + 20)},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": Ago(-LEEWAY_SECONDS - 20)},
        {"nbf": "0"},
        {"access": {"type": "repository"}},
        {"access": ["repository:team/app:pull"]},
        {"access": [{"type": "repository", "name": "team/app", "actions": "pull"}]},
        {"access": [{"type": "repository", "name": ["team/app"], "actions": ["pull"]}]},
        {"access": [{"type": "repository", "name": "team/app", "actions": [["pull"]]}]},
    ],
)
async def test_token__bad_claims_are_refused(tokens: SignedTokens, changed: dict[str, Any]) -> None:
    """Another issuer or audience, a time that is past, to come or none, and malformed grants are refused."""
    assert await tokens.verify(sign(claims(PULL, **dated(changed)))) is None


def attacks() -> dict[str, str]:
    stranger, public = rsa_key("stranger"), rsa_key().as_pem(private=False)
    good = mint(PULL)
    header, payload, signature = good.split(".")
    return {
        "alg none": unsigned({"alg": "none"}),
        "alg NONE": unsigned({"alg": "nOnE"}),
        "alg none, signed": unsigned({"alg": "none"}, b"x" * 256),
        "no alg": unsigned({}),
        "alg a list": unsigned({"alg": ["RS256"]}),
        "HS256 with the public key": by_hmac(public),
        "HS256 with the public key, stripped": by_hmac(public.strip()),
        "HS256 with the certificate": by_hmac(certificate(rsa_key())),
        "HS256 with the DER key": by_hmac(rsa_key().as_der(private=False)),
        "HS256 with nothing": by_hmac(b""),
        "another key": mint(PULL, key=stranger),
        "another key under our kid": sign(claims(PULL), key=stranger, header={"kid": kid(rsa_key())}),
        "another key, embedded": sign(
            claims(PULL), key=stranger, header={"kid": None, "jwk": stranger.as_dict(private=False)}
        ),
        "another key, its certificate embedded": sign(
            claims(PULL),
            key=stranger,
            header={"kid": None, "x5c": [base64.b64encode(certificate(stranger)).decode()]},
        ),
        "another key, at an address": sign(
            claims(PULL), key=stranger, header={"jku": "https://evil.test/jwks", "x5u": "https://evil.test/x"}
        ),
        "kid a path": sign(claims(PULL), key=stranger, header={"kid": "../../dev/null"}),
        "RS256 in name, ES256 in fact": f"{encode({'alg': 'RS256'})}.{payload}."
        + sign(claims(PULL), key=ec_key()).split(".")[2],
        "crit": sign(claims(PULL), header={"crit": ["exp"], "exp": 1}),
        "crit of the unknown": unsigned({"alg": "RS256", "crit": ["http://evil.test"]}),
        "crit empty": unsigned({"alg": "RS256", "crit": []}),
        "b64": unsigned({"alg": "RS256", "b64": False, "crit": ["b64"]}),
        "other claims under the signature": f"{header}.{encode(claims(grant('team/other', 'pull')))}.{signature}",
        "other header under the signature": f"{encode({'alg': 'RS512'})}.{payload}.{signature}",
        "signature left out": f"{header}.{payload}.",
        "signature of zeros": f"{header}.{payload}.{encode(bytes(256))}",
        "claims no object": sign(b"[]"),
        "claims not JSON": sign(b"\xff\xfe"),
        "claims nested": sign(b'{"a":' * 5000 + b"1" + b"}" * 5000),
        "header nested": f"{encode(b'[' * 40000)}.{payload}.{signature}",
        "header not an object": f"{encode(['RS256'])}.{payload}.{signature}",
        "header not base64": f"!!!.{payload}.{signature}",
        "header not ASCII": f"é.{payload}.{signature}",
        "two parts": f"{header}.{payload}",
        "four parts": f"{good}.x",
        "five parts, encrypted": "a.b.c.d.e",
        "dots": "..",
        "huge": "a" * 500_000 + "." + "b" * 400_000 + ".c",
        "huge header": f"{encode({'alg': 'RS256', 'x': 'x' * 400_000})}.{payload}.{signature}",
        "huge signature": f"{header}.{payload}.{'A' * 400_000}",
        "NUL": "\x00.\x00.\x00",
        "surrogates": "\udcff.\udcff.\udcff",
    }


async def test_token__attacks_are_refused(tokens: SignedTokens) -> None:
    """What was not signed by a trusted key, with an asymmetric algorithm, as it stands, opens nothing."""
    accepted = [name for name, token in attacks().items() if await tokens.verify(token) is not None]
    assert accepted == []


async def test_token__brought_keys_do_not_harm_a_good_one(tokens: SignedTokens) -> None:
    """A good token may carry a certificate chain; it is signed by a trusted key, and the chain is not read."""
    token = sign(claims(PULL), header={"x5c": ["nonsense"], "unheard": {"of": 1}})
    assert (await tokens.verify(token)) is not None


async def test_token__names_are_literal(tokens: SignedTokens) -> None:
    """A name with a star is the name of nothing else, and no part of a name grants the rest."""
    token = mint(
        grant("team/*", "pull"), grant("*", "*"), grant("team", "pull"), grant("team/app", "pull", kind="x")
    )
    principal = await tokens.verify(token)
    assert principal is not None
    assert not principal.may_read("team/app")
    assert not principal.may(pull_of("team/app"))
    assert principal.listed is not None


async def test_token__with_nine_thousand_grants(tokens: SignedTokens) -> None:
    """A token with as many grants as fit a header of the registry is read."""
    token = mint(*(grant(f"group/project-{number}", "pull") for number in range(9000)))
    principal = await tokens.verify(token)
    assert principal is not None
    assert len(principal.repositories or ()) == 9000


async def test_authenticator__tokens_too_long_or_not_bearer(tmp_path: Path) -> None:
    """A token longer than the registry's own limit is a 431; another scheme gets the challenge without an error."""
    authenticator = Authenticator([SignedTokens(trust_in(tmp_path))], anonymous_read=False)
    with pytest.raises(CallerError) as too_long:
        await authenticator.authenticate(["Bearer " + "x" * (1024 * 1024 + 1)])
    assert too_long.value.status == 431
    for headers, error in (([], None), (["Basic eDp5"], None), (["Bearer x"], "invalid_token")):
        with pytest.raises(Unauthorized) as refused:
            await authenticator.authenticate(headers, access=[pull_of("a")])
        assert (refused.value.error, refused.value.access) == (error, [pull_of("a")])


def test_challenge__as_distribution_writes_it() -> None:
    """Realm, service, scope and error, in this order; actions on one thing are joined, things stand apart."""
    challenge = Challenge(realm=REALM, service=SERVICE)
    access = [pull_of("a/b"), Access("repository", "a/b", "push"), pull_of("a/b/*")]
    assert challenge.header(access, "insufficient_scope") == (
        f'Bearer realm="{REALM}",service="{SERVICE}",'
        'scope="repository:a/b:pull,push repository:a/b/*:pull",error="insufficient_scope"'
    )
    assert challenge.header() == f'Bearer realm="{REALM}",service="{SERVICE}"'


def test_challenge__any_text_is_quoted() -> None:
    """Quotes, backslashes and line breaks in a realm or a name cannot end the header or a parameter."""
    header = Challenge(realm='a"b\\c\r\nX-Evil: 1', service="s").header([pull_of('x",y="z')])
    assert header == 'Bearer realm="a\\"b\\\\cX-Evil: 1",service="s",scope="repository:x\\",y=\\"z:pull"'


def test_principal__operators_may_everything() -> None:
    """Without grants of a token, a principal may everything."""
    assert Principal(name="operator").may(AUDIT)
    with pytest.raises(Unauthorized):
        Principal(name="x", repositories=frozenset()).require(AUDIT)


FORMS = {
    "certificates": lambda: certificate(rsa_key()) + certificate(ec_key()),
    "with text around": lambda: (
        b"Bag Attributes\n" + certificate(rsa_key()) + b"\n# more\n" + certificate(ec_key())
    ),
    "public keys": lambda: rsa_key().as_pem(private=False) + ec_key().as_pem(private=False),
    "JWK set": lambda: jwks(rsa_key(), ec_key()),
    "JWK set without names": lambda: jwks(rsa_key(), ec_key(), kids=False),
}


@pytest.mark.parametrize("form", list(FORMS))
async def test_keys__in_every_form(tmp_path: Path, form: str) -> None:
    """Certificates, bare keys and a JWK set trust the same tokens."""
    tokens = SignedTokens(trust_in(tmp_path, FORMS[form]()))
    for key in (rsa_key(), ec_key()):
        assert (await tokens.verify(mint(PULL, key=key))) is not None


def test_keys__one_jwk_alone(tmp_path: Path) -> None:
    """A single JWK is a set of one; keys for encryption are passed over."""
    path = tmp_path / "keys"
    path.write_text(json.dumps(rsa_key().as_dict(private=False)))
    assert len(load_keys(path)) == 1
    mixed = [rsa_key().as_dict(private=False), ec_key().as_dict(private=False) | {"use": "enc"}]
    path.write_text(json.dumps({"keys": mixed}))
    assert len(load_keys(path)) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: b"", "holds no PEM certificate"),
        (lambda: b"ssh-rsa AAAA", "holds no PEM certificate"),
        (lambda: b'{"keys": []}', "holds no PEM certificate"),
        (lambda: b'{"keys": 1}', "not a JWK set"),
        (lambda: b'{"keys": [1]}', "not a JWK set"),
        (lambda: b'{"keys": [{"kty": "RSA"}]}', "not a JWK"),
        (lambda: b"{nonsense", "keys"),
        (lambda: b'{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}', "symmetric"),
        (lambda: rsa_key().as_pem(private=True), "private key"),
        (lambda: jwks(rsa_key()).replace(b'"kty"', b'"d": "AQAB", "kty"'), "private key"),
        (lambda: RSAKey.generate_key(1024).as_pem(private=False), "at least 2048"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "keys"),
        (lambda: b"-----BEGIN PUBLIC KEY-----\n\xff\n-----END PUBLIC KEY-----\n", "keys"),
    ],
)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_keys__that_cannot_be_trusted(tmp_path: Path, content: Any, reason: str) -> None:
    """A file without a public key, with a secret in it or with a weak key is an error that says so."""
    path = tmp_path / "keys"
    path.write_bytes(content())
    with pytest.raises(ConfigurationError, match=reason):
        load_keys(path)


def test_settings__all_of_the_trust_or_none(tmp_path: Path) -> None:
    """Half a trust is an error that names the other half; a missing file is one that names the file."""
    assert read_trust(Settings.read({})) is None
    whole = {
        "INDEXER_AUTH_ISSUER": ISSUER,
        "INDEXER_AUTH_SERVICE": SERVICE,
        "INDEXER_AUTH_REALM": "any text",
        "INDEXER_AUTH_KEYS_FILE": str(tmp_path / "keys"),
    }
    for missing in whole:
        with pytest.raises(ConfigurationError, match=f"{missing} must be set too"):
            Settings.read({name: value for name, value in whole.items() if name != missing})
    with pytest.raises(ConfigurationError, match="INDEXER_AUTH_KEYS_FILE: cannot read"):
        read_trust(Settings.read(whole))
    (tmp_path / "keys").write_bytes(certificate(rsa_key()))
    trust = read_trust(Settings.read(whole))
    assert trust is not None
    assert (trust.issuer, trust.service, trust.realm) == (ISSUER, SERVICE, "any text")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.sampled_from(ALGORITHMS) | ANYTHING},
    optional=dict.fromkeys(("kid", "typ", "jwk", "x5c", "crit", "b64", "cty", "zip"), ANYTHING),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(header=HEADERS | ANYTHING, payload=ANYTHING | st.binary(max_size=30), signature=st.binary(max_size=80))
async def test_verify__whatever_a_header_holds(
    tokens: SignedTokens, header: Any, payload: Any, signature: bytes
) -> None:
    """What anybody can write, without a key of ours, is never believed and never an error."""
    assert await tokens.verify(f"{encode(header)}.{encode(payload)}.{encode(signature)}") is None


@pytest.mark.parametrize("name", [[], {}, [1], {"kty": "oct"}, [["nested"]]])
async def test_verify__a_key_s_name_that_is_no_text(tokens: SignedTokens, name: Any) -> None:
    """It is refused like any malformed token, well signed or not: RFC 7515 section 4.1.4 wants a text."""
    assert await tokens.verify(unsigned({"alg": "RS256", "kid": name}, b"x" * 256)) is None
    assert await tokens.verify(sign(claims(PULL), header={"kid": name})) is None


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape")))
async def test_verify__any_text(text: str) -> None:
    """No text at all makes it raise."""
    tokens = SignedTokens(Trust(issuer="i", service="s", realm="r", keys=()))
    for token in (text, f"{text}.{text}.{text}", f"eyJhbGciOiJSUzI1NiJ9.{text}.{text}"):
        assert await tokens.verify(token) is None


async def test_token__excepts_tags(tokens: SignedTokens) -> None:
    """GitLab's patterns by repository, of all entries of a name; of other types and issuers none."""

    def excepting(name: str, kind: str = "repository", **meta: Any) -> dict[str, Any]:
        return grant(name, "push", kind=kind) | {"meta": meta}

    token = mint(
        excepting("team/app", tag_immutable_patterns=["^v"]),
        excepting("team/app", tag_deny_access_patterns={"push": ["^main$"]}),
        excepting("team/odd", tag_immutable_patterns="^v"),
        excepting("team/other", project_path="team/other"),
        excepting("team/app", kind="registry", tag_immutable_patterns=["x"]),
        grant("team/free", "push") | {"meta": ["x"]},
    )
    principal = await tokens.verify(token)
    assert principal is not None
    assert TagPatterns(push=("^main$",), immutable=("^v",)) == principal.patterns_of("team/app")
    assert TagPatterns(unreadable=True) == principal.patterns_of("team/odd")
    assert {"team/app", "team/odd"} == set(principal.patterns)
    assert not principal.patterns_of("team/free")
    assert principal.expires is not None
