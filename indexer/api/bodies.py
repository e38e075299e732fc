"""Bodies of commands: one JSON object, as the model that the command declares."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from indexer.common.errors import CallerError

B = TypeVar("B", bound=BaseModel)


async def read_body(request: web.Request, model: type[B]) -> B:
    """Return the body; raise a 400 where it is no JSON object, a 422 where the model does not take it.

    Whatever the content type says: a body is JSON, or it is wrong.
    """
    try:
        value: Any = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise CallerError("the body is no JSON object", code="invalid_body", allowed="one JSON object")
    return validated(value, model)


def validated(value: Any, model: type[B], *, below: str = "") -> B:
    """Return a value as a model; raise a 422 that names the member. ``below``: the member that the value stands in."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise wrong_member(error, model, below=below) from None


def wrong_member(error: ValidationError, model: type[BaseModel], *, below: str = "") -> CallerError:
    """Make the 422 of the first thing that is wrong; what was sent is not repeated."""
    first = error.errors()[0]
    place = [*([below] if below else []), *(str(part) for part in first["loc"])]
    name = ".".join(place) or "body"
    reason = str(first["msg"]).removeprefix("Value error, ")
    allowed = None
    if first["type"] == "extra_forbidden":
        reason = "there is no such member"
        allowed = ", ".join(model.model_fields) or "no member"
    return CallerError(
        f"{name}: {reason}"[:500],
        status=422,
        code="invalid_member",
        parameter=name[:200],
        allowed=allowed,
    )
