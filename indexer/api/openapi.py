"""Declares endpoints and makes the OpenAPI document of them: one decorator has path, parameters and result.

The models are for the document and for tests. Responses are built as plain dicts, since validating a page takes five
times as long as encoding it (measured).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from indexer import __version__
from indexer.api import problems, responses
from indexer.api.auth import Principal
from indexer.api.models import Problem
from indexer.api.pagination import Cursors
from indexer.api.parameters import ALLOWED, Q, Query, parameter_fields, parameter_schemas, wrong_parameter
from indexer.api.settings import EventAttributes
from indexer.api.stream_slots import StreamSlots
from indexer.store.listing.interned import Interned
from indexer.store.reading import Readers

ROOT = "/api/v1"
FILE = Path(__file__).with_name("openapi.json")
"""The document as committed, for ``indexer openapi``."""
RESOURCES = (
    "index",
    "repositories",
    "tags",
    "history",
    "manifests",
    "tags_everywhere",
    "history_everywhere",
    "changes",
    "audit",
    "feed",
    "audit_proofs",
    "drift",
    "status",
)

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
    "digest": ("A digest.", {"type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"}),
}
_DESCRIPTION = """\
Every path takes `Authorization: Bearer <token>`: one of `INDEXER_API_TOKENS`, or the registry's own token where that
trust is configured. For example:

    curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:5005/api/v1/tags?sort=-size&limit=10'
    curl -H "Authorization: Bearer $TOKEN" 'http://127.0.0.1:5005/api/v1/repositories/team/app/tags?published_after=7d'
    curl -H "Authorization: Bearer $TOKEN" -H 'Accept: text/csv' 'http://127.0.0.1:5005/api/v1/audit?action=tag.moved'

Lists have pages: `next` of one is `after` of the following, and the `Link` header has its URL. `Accept` chooses JSON,
`application/x-ndjson` (one item a line) or `text/csv`; `fields` chooses members. A wrong, unknown or repeated parameter
is an error that names it.
"""
_REF = "#/components/schemas/{model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall(Generic[Q]):
    """One call of an endpoint: parameters, caller, and what the endpoint needs to answer."""

    query: Q
    path: Mapping[str, str]
    principal: Principal
    readers: Readers
    interned: Interned
    memory: dict[str, Any]
    """A cache of the process, shared by all calls, for what is expensive to read and may be some seconds old."""
    headers: Mapping[str, str]
    streams: StreamSlots
    events: EventAttributes
    cursors: Cursors


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHeader:
    """A request header that an endpoint reads."""

    name: str
    description: str
    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One endpoint."""

    name: str
    path: str
    summary: str
    description: str
    query: type[Query]
    result: type[BaseModel]
    item: type[BaseModel] | None
    media_types: tuple[str, ...]
    headers: tuple[RequestHeader, ...]
    missing: bool
    handle: Callable[[ApiCall[Any]], Awaitable[responses.Answer]]


_OPERATIONS: dict[str, Operation] = {}

H = TypeVar("H", bound=Callable[[ApiCall[Any]], Awaitable[responses.Answer]])


def operation(
    path: str,
    *,
    query: type[Query],
    result: type[BaseModel],
    item: type[BaseModel] | None = None,
    media_types: tuple[str, ...] = (responses.JSON,),
    headers: tuple[RequestHeader, ...] = (),
    missing: bool = False,
) -> Callable[[H], H]:
    """Declare an endpoint below ``/api/v1``; its name and description are the function's.

    ``item``: the model of one item, for lists. ``headers``: the request headers that it reads. ``missing``: it may
    answer 404 although the path has no parameters.
    """

    def declare(handle: H) -> H:
        summary, _, description = (handle.__doc__ or "").partition("\n\n")
        _OPERATIONS[path] = Operation(
            name=handle.__name__,
            path=ROOT + path,
            summary=summary.rstrip("."),
            description=" ".join(description.split()),
            query=query,
            result=result,
            item=item,
            media_types=media_types,
            headers=headers,
            missing=missing,
            handle=handle,
        )
        return handle

    return declare


@cache
def operations() -> Mapping[str, Operation]:
    """Return every endpoint by its path below ``/api/v1``."""
    for resource in RESOURCES:
        import_module(f"indexer.api.v1.{resource}")
    return dict(_OPERATIONS)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of everything under ``/api/v1``."""
    found = list(operations().values())
    models = {model for one in found for model in (one.result, one.item) if model is not None} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    names, definitions = models_json_schema(
        [(model, "serialization") for model in ordered], ref_template=_REF
    )
    refs = {model: names[model, "serialization"] for model in ordered}
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
        "paths": {one.path: {"get": _describe(one, refs)} for one in found},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def members_of(item: type[BaseModel]) -> list[str]:
    """Return the names of an item's members in the response."""
    return [field.alias or name for name, field in item.model_fields.items()]


def chosen_fields(one: Operation, query: Query) -> tuple[str, ...] | None:
    """Return the requested members, None for all; raise ``CallerError`` for an unknown one."""
    requested: tuple[str, ...] | None = getattr(query, "fields", None)
    if requested is None or one.item is None:
        return None
    members = members_of(one.item)
    for name in requested:
        if name not in members:
            raise wrong_parameter(
                "fields", f"there is no member {name[:80]!r}", allowed=f"a comma list of {', '.join(members)}"
            )
    return tuple(dict.fromkeys(requested))


def _describe(one: Operation, refs: Mapping[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.name,
        "summary": one.summary,
        "tags": [one.path.removeprefix(ROOT).strip("/").split("/")[0] or "index"],
        "parameters": [*_path_parameters(one.path), *_query_parameters(one), *_header_parameters(one)],
        "responses": dict(_responses(one, refs)),
    }
    if one.description:
        described["description"] = one.description
    return described


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
    yield "304", {"description": "The client has it already (If-None-Match)."}
    refused = {problems.MEDIA_TYPE: {"schema": refs[Problem]}}
    statuses = [400, 401, 503]
    if "{" in one.path or one.missing:
        statuses.append(404)
    if one.headers:
        statuses.append(409)
    for status in sorted(statuses):
        yield str(status), {"description": HTTPStatus(status).phrase, "content": refused}


async def serve_document(_request: web.Request) -> web.Response:
    """Answer ``/openapi.json``."""
    return web.Response(body=orjson.dumps(document()), content_type=responses.JSON)


def write_document() -> None:
    """Write the document to the file that ``indexer openapi`` prints without importing any of this."""
    FILE.write_text(json.dumps(document(), indent=2) + "\n", encoding="utf-8")
