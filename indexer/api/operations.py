"""Declares endpoints: one decorator has path, parameters and result.

The models are for the OpenAPI document (``openapi``) and for tests. Responses are built as plain dicts, since
validating a page takes five times as long as encoding it (measured).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from indexer.api import responses
from indexer.api.auth import Principal
from indexer.api.job_watch import JobWatch
from indexer.api.pagination import Cursors
from indexer.api.parameters import Q, Query, wrong_parameter
from indexer.api.settings import EventAttributes
from indexer.api.stream_slots import StreamSlots
from indexer.store.listing.interned import Interned
from indexer.store.pool import Pool
from indexer.store.reading import Readers

ROOT = "/api/v1"
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
    "feeds",
    "audit_proofs",
    "drift",
    "jobs",
    "trash",
    "cleanup",
    "cleanup_runs",
    "uncertain",
    "holds",
    "in_use",
    "storage",
    "status",
)
"""The modules of ``indexer.api.v1`` that declare endpoints, in the order of the document."""


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
    body: Any = None
    """Of a command: its body, as the model that it declares."""
    store: Pool
    """For commands, which write; everything else reads by ``readers``."""
    client: Client
    watch: JobWatch
    acting_is_on: bool
    """Whether anybody may ask for what changes the registry: there is an operator token, or trust in the registry's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Where a request comes from, and what it is, for the audit log."""

    address: str
    request: str


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
    method: str = "GET"
    body: type[BaseModel] | None = None
    status: int = 200
    refusals: tuple[int, ...] = ()


_OPERATIONS: dict[str, Operation] = {}
_COMMANDS: dict[tuple[str, str], Operation] = {}

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


def command(
    method: str,
    path: str,
    *,
    result: type[BaseModel],
    query: type[Query] = Query,
    body: type[BaseModel] | None = None,
    status: int = 200,
    headers: tuple[RequestHeader, ...] = (),
    refusals: tuple[int, ...] = (),
) -> Callable[[H], H]:
    """Declare an endpoint that changes something; its name and description are the function's.

    ``body``: the model of the request's body, None: it has none. ``status``: of the answer where all went well.
    ``refusals``: statuses that it may answer with beside 400, 401, 403 and 503.
    """

    def declare(handle: H) -> H:
        summary, _, description = (handle.__doc__ or "").partition("\n\n")
        _COMMANDS[method, path] = Operation(
            name=handle.__name__,
            path=ROOT + path,
            summary=summary.rstrip("."),
            description=" ".join(description.split()),
            query=query,
            result=result,
            item=None,
            media_types=(responses.JSON,),
            headers=headers,
            missing=False,
            handle=handle,
            method=method,
            body=body,
            status=status,
            refusals=refusals,
        )
        return handle

    return declare


@cache
def commands() -> Mapping[tuple[str, str], Operation]:
    """Return every endpoint that changes something, by its method and its path below ``/api/v1``."""
    operations()
    return dict(_COMMANDS)


@cache
def operations() -> Mapping[str, Operation]:
    """Return every endpoint that reads, by its path below ``/api/v1``."""
    for resource in RESOURCES:
        import_module(f"indexer.api.v1.{resource}")
    return dict(_OPERATIONS)


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
