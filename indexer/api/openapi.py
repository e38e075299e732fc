"""The OpenAPI document of the endpoints that ``operations`` declares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web
from pydantic.json_schema import models_json_schema

from indexer import __version__
from indexer.api import problems, responses
from indexer.api.models import Problem
from indexer.api.operations import ROOT, Operation, commands, members_of, operations
from indexer.api.parameters import ALLOWED, parameter_fields, parameter_schemas
from indexer.api.session import PATH as SESSION
from indexer.api.session import SessionShown, SignedIn, SignIn

FILE = Path(__file__).with_name("openapi.json")
"""The document as committed, for ``indexer openapi``."""
_PATH_PARAMETERS = {
    "repository": (
        (
            "A repository's name. Its slashes may be escaped as %2F, and must be where the name itself ends like a "
            "path below it (`/tags`)."
        ),
        {
            "type": "string",
            "minLength": 1,
            "maxLength": 255,
            "pattern": "^[a-z0-9]+([._/-][a-z0-9]+)*$",
            "example": "team/app",
        },
    ),
    "tag": (
        "A tag.",
        {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", "example": "latest"},
    ),
    "id": ("The id, as the list shows it.", {"type": "string", "pattern": "^[0-9a-f-]{1,36}$"}),
    "source": ("The name of a source.", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"}),
    "feed": ("The name of a feed.", {"type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"}),
    "digest": ("A digest.", {"type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"}),
}
_DESCRIPTION = """\
Every path takes `Authorization: Bearer <token>`: one of `INDEXER_API_TOKENS`, the secret of one of
`INDEXER_OPERATOR_TOKENS`, or the registry's own token where that trust is configured. Only the last two may ask for
what changes something. For example:

    curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:5005/api/v1/tags?sort=-size&limit=10'
    curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:5005/api/v1/repositories/team/app/tags?published_after=7d'
    curl -H "Authorization: Bearer $TOKEN" -H 'Accept: text/csv' 'http://127.0.0.1:5005/api/v1/audit?action=tag.moved'

Lists have pages: `next` of one is `after` of the following, and the `Link` header has its URL. `Accept` chooses JSON,
`application/x-ndjson` (one item a line) or `text/csv`; `fields` chooses members. A wrong, unknown or repeated parameter
is an error that names it.
"""
_REF = "#/components/schemas/{model}"


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of everything under ``/api/v1``."""
    found = [*operations().values(), *commands().values()]
    models = {model for one in found for model in (one.result, one.item) if model is not None} | {Problem}
    models |= {SessionShown, SignIn, SignedIn}
    bodies = sorted({one.body for one in found if one.body is not None}, key=lambda model: model.__name__)
    ordered = sorted(models, key=lambda model: model.__name__)
    names, definitions = models_json_schema(
        [
            *((model, "serialization") for model in ordered),
            *((model, "validation") for model in bodies),
        ],
        ref_template=_REF,
    )
    refs = {model: names[model, "serialization"] for model in ordered}
    refs |= {model: names[model, "validation"] for model in bodies}
    paths: dict[str, dict[str, Any]] = {}
    for one in found:
        paths.setdefault(one.path, {})[one.method.lower()] = _describe(one, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Registry indexer",
            "version": __version__,
            "summary": "The memory of a container registry: listings, history, audit log, drift.",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {}],
        "paths": {**paths, SESSION: _session(refs)},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(one: Operation, refs: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.path.removeprefix(ROOT).strip("/").split("/")[0] or "index"],
        "parameters": [*_path_parameters(one.path), *_query_parameters(one), *_header_parameters(one)],
        "responses": dict(_responses(one, refs)),
    }
    if one.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {responses.JSON: {"schema": refs[one.body]}},
        }
    if one.description:
        described["description"] = one.description
    return described


def _session(refs: Mapping[Any, Any]) -> dict[str, Any]:
    """Describe signing in, which needs no token and is no operation."""

    def answer(description: str, model: Any) -> dict[str, Any]:
        return {"description": description, "content": {responses.JSON: {"schema": refs[model]}}}

    def refused(*statuses: int) -> dict[str, Any]:
        content = {problems.MEDIA_TYPE: {"schema": refs[Problem]}}
        return {str(each): {"description": HTTPStatus(each).phrase, "content": content} for each in statuses}

    return {
        "get": {
            "operationId": "show_session",
            "summary": "Show what the caller is here, and how one can sign in",
            "tags": ["session"],
            "parameters": [],
            "responses": {"200": answer("What the caller is.", SessionShown), **refused(400, 401, 503)},
        },
        "post": {
            "operationId": "sign_in",
            "summary": "Get a token of the registry by its own user and password",
            "description": "The registry's token server is asked. `renewal` of the answer gets the next token.",
            "tags": ["session"],
            "parameters": [],
            "security": [{}],
            "requestBody": {"required": True, "content": {responses.JSON: {"schema": refs[SignIn]}}},
            "responses": {
                "200": answer("A token.", SignedIn),
                **refused(400, 401, 403, 404, 413, 415, 429, 503),
            },
        },
    }


def _path_parameters(path: str) -> Iterator[dict[str, Any]]:
    for name, (description, schema) in _PATH_PARAMETERS.items():
        if f"{{{name}}}" in path:
            yield {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def _query_parameters(one: Operation) -> Iterator[dict[str, Any]]:
    model = one.query
    for name, described in parameter_schemas(model).items():
        schema = _without_texts(described)
        if name == "fields" and one.item is not None:
            schema["items"] = {"type": "string", "enum": members_of(one.item)}
        accepted = described.get(ALLOWED)
        texts = (described.get("description"), accepted and f"Accepted: {accepted}")
        description = ". ".join(text.rstrip(".") for text in texts if text)
        parameter: dict[str, Any] = {"name": name, "in": "query", "schema": schema}
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": False}  # a comma list
        if parameter_fields(model)[name].is_required():
            parameter["required"] = True
        yield parameter | ({"description": f"{description}."} if description else {})
        for other, meant in model.other_names.items():
            if meant == name:
                yield {
                    **{key: value for key, value in parameter.items() if key != "required"},
                    "name": other,
                    "description": f"Another name of `{name}`.",
                    "deprecated": True,
                }


def _without_texts(described: Mapping[str, Any]) -> dict[str, Any]:
    schema = {key: value for key, value in described.items() if key not in ("description", ALLOWED)}
    return schema | ({"items": _without_texts(schema["items"])} if "items" in schema else {})


def _header_parameters(one: Operation) -> Iterator[dict[str, Any]]:
    for header in one.headers:
        schema = {"type": "string", "pattern": header.pattern}
        yield {"name": header.name, "in": "header", "description": header.description, "schema": schema}


def _responses(one: Operation, refs: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    if one.method != "GET":
        yield from _responses_of_command(one, refs)
        return
    content: dict[str, Any] = {}
    for media_type in one.media_types:
        content[media_type] = {"schema": refs[one.result]} if media_type == responses.JSON else {}
    if one.item is not None:
        content[responses.NDJSON] = {}
        content[responses.CSV] = {}
    headers = {"ETag": {"schema": {"type": "string"}}}
    if one.item is not None:
        headers["Link"] = {"schema": {"type": "string"}}
    yield "200", {"description": one.summary, "content": content, "headers": headers}
    if one.media_types == (responses.SSE,):
        del headers["ETag"]
        yield "204", {"description": "It has ended, and the client knows (Last-Event-ID)."}
    else:
        yield "304", {"description": "The client has it already (If-None-Match)."}
    refused = {problems.MEDIA_TYPE: {"schema": refs[Problem]}}
    statuses = [400, 401, 503]
    if "{" in one.path or one.missing:
        statuses.append(404)
    if one.headers:
        statuses.append(409)
    for status in sorted(statuses):
        yield str(status), {"description": HTTPStatus(status).phrase, "content": refused}


def _responses_of_command(one: Operation, refs: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    yield (
        str(one.status),
        {
            "description": one.summary,
            "content": {responses.JSON: {"schema": refs[one.result]}},
        },
    )
    refused = {problems.MEDIA_TYPE: {"schema": refs[Problem]}}
    for status in sorted({400, 401, 403, 503, *one.refusals, *((413, 422) if one.body is not None else ())}):
        yield str(status), {"description": HTTPStatus(status).phrase, "content": refused}


async def serve_document(_request: web.Request) -> web.Response:
    """Answer ``/openapi.json``."""
    return web.Response(body=orjson.dumps(document()), content_type=responses.JSON)


def write_document() -> None:
    """Write the document to the file that ``indexer openapi`` prints without importing any of this."""
    FILE.write_text(json.dumps(document(), indent=2) + "\n", encoding="utf-8")
