from __future__ import annotations

import json

from openapi_spec_validator import validate

from indexer.api.auth import Authenticator, Principal, StaticTokens
from indexer.api.openapi import FILE, document
from indexer.api.operations import commands, operations
from indexer.api.session import PATH as SESSION


def test_document__is_valid_openapi() -> None:
    """The document is valid OpenAPI 3.1 and describes every endpoint under /api/v1."""
    described = document()
    validate(described)
    assert described["openapi"].startswith("3.1")
    every = [*operations().values(), *commands().values()]
    assert {(path, method.upper()) for path, methods in described["paths"].items() for method in methods} == {
        *((operation.path, operation.method) for operation in every),
        (SESSION, "GET"),
        (SESSION, "POST"),
    }
    assert json.loads(json.dumps(described)) == described


def test_document__is_the_one_that_is_printed() -> None:
    """What `indexer openapi` prints is what the server answers; `python3 dev.py openapi` writes it anew."""
    assert document() == json.loads(FILE.read_text(encoding="utf-8"))


def test_document__every_parameter_and_operation_says_what_it_is() -> None:
    """Operations have a summary, parameters a schema; lists have cursors and problems are described."""
    for path, methods in document()["paths"].items():
        for method, described in methods.items():
            assert described["summary"], (path, method)
            expected = {"200"} if method == "get" else {"403"}
            assert {"400", "401", "503"} | expected <= set(described["responses"]), (path, method)
            for parameter in described["parameters"]:
                assert parameter["schema"], (path, parameter["name"])


async def test_static_tokens__know_their_own_and_no_other() -> None:
    """Each configured token is the operator's, an empty one never."""
    tokens = StaticTokens(["one", "two", ""])
    assert await tokens.verify("two") == Principal(name="operator")
    for wrong in ("", "on", "one ", "three", "\udcff"):
        assert await tokens.verify(wrong) is None


async def test_principal__reads_what_it_was_granted() -> None:
    """A principal with grants reads those repositories, one without a list reads all."""
    granted = Principal(name="robot", repositories=frozenset({"team/app"}))
    assert granted.may_read("team/app")
    assert not granted.may_read("team/other")
    assert (await Authenticator([], anonymous_read=True).authenticate([])).may_read("any")
