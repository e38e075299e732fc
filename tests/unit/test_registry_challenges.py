"""Reading WWW-Authenticate as servers really write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.registry.challenges import Challenge, parse_challenges

REALM = "https://auth.test/token"
CASES = {
    "distribution token": (
        [f'Bearer realm="{REALM}",service="registry.test",scope="repository:a/b:pull,push"'],
        [
            Challenge(
                "bearer", {"realm": REALM, "service": "registry.test", "scope": "repository:a/b:pull,push"}
            )
        ],
    ),
    "two scopes and an error": (
        ['Bearer realm="r",scope="repository:a:pull repository:b:pull",error="invalid_token"'],
        [
            Challenge(
                "bearer",
                {"realm": "r", "scope": "repository:a:pull repository:b:pull", "error": "invalid_token"},
            )
        ],
    ),
    "distribution htpasswd": (['Basic realm="basic-realm"'], [Challenge("basic", {"realm": "basic-realm"})]),
    "two in one header": (
        ['Basic realm="a b", Bearer realm="c",service=d'],
        [Challenge("basic", {"realm": "a b"}), Challenge("bearer", {"realm": "c", "service": "d"})],
    ),
    "two headers": (
        ["Basic realm=a", "Bearer realm=b"],
        [Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})],
    ),
    "case and spaces": (
        ['bEaReR   REALM = "a" ,, Service="b"'],
        [Challenge("bearer", {"realm": "a", "service": "b"})],
    ),
    "escapes and commas in quotes": (
        [r'Basic realm="a \"b\", Bearer \\ realm=c"'],
        [Challenge("basic", {"realm": r'a "b", Bearer \ realm=c'})],
    ),
    "empty value": (['Basic realm=""'], [Challenge("basic", {"realm": ""})]),
    "schemes without parameters": (
        ["Negotiate, NTLM, Basic"],
        [Challenge("negotiate"), Challenge("ntlm"), Challenge("basic")],
    ),
    "token68": (
        ["Negotiate YII+/abc==, Basic realm=a"],
        [Challenge("negotiate"), Challenge("basic", {"realm": "a"})],
    ),
    "first of a repeated parameter": (["Basic realm=a, realm=b"], [Challenge("basic", {"realm": "a"})]),
    "unclosed quote": (['Basic realm="a'], [Challenge("basic")]),
    "nothing": (["", " ,, "], []),
    "no scheme": (['realm="a"'], []),
    "junk after a challenge": (["Basic realm=a, =, Bearer realm=b"], [Challenge("basic", {"realm": "a"})]),
}


@pytest.mark.parametrize(("headers", "expected"), CASES.values(), ids=CASES.keys())
def test_parse_challenges__table(headers: list[str], expected: list[Challenge]) -> None:
    """Each form of the grammar gives its challenges; what does not parse gives none."""
    assert list(parse_challenges(headers)) == expected


VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@given(st.dictionaries(st.sampled_from(["realm", "service", "scope", "error"]), VALUES, min_size=1))
def test_parse_challenges__quoted_values_survive(parameters: dict[str, str]) -> None:
    """Any printable text, quoted, comes back as it was."""
    escaped = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in parameters.items()}
    header = "Bearer " + ",".join(f'{key}="{value}"' for key, value in escaped.items())

    assert parse_challenges([header]) == (Challenge("bearer", parameters),)


@given(st.lists(st.text(max_size=200), max_size=3))
def test_parse_challenges__never_raises(headers: list[str]) -> None:
    """Whatever the header is, the answer is a tuple."""
    assert isinstance(parse_challenges(headers), tuple)


@pytest.mark.parametrize(
    "text", ["a=" * 50_000, 'Basic x="' + "\\" * 200_000, "Basic " + "a " * 50_000, "," * 10**6]
)
def test_parse_challenges__hostile_length(text: str) -> None:
    """A header made to be slow is not."""
    assert len(parse_challenges([text])) <= 50_000
