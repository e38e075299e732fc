"""Strict parsing of query strings: an unknown, repeated or wrong parameter is refused by name.

The parameters of an endpoint are the fields of a pydantic model. Values come as text, so each type here says how text
becomes a value; nothing is guessed (``1.0`` is no whole number, ``yes`` is no flag). A parameter may have other names
(``Query.other_names``). Several values of one parameter are a comma list, since a repeated parameter is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, TypeVar

from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.fields import FieldInfo

from indexer.common.errors import CallerError
from indexer.common.rfc3339 import parse_moment
from indexer.common.values import parse_size
from indexer.oci.platform import parse_platform

MAX_BYTES = 2**63 - 1
MAX_VALUES = 50
LONGEST_SHOWN = 80
"""Of a wrong value, so many characters are in the refusal."""
"""Of one comma list."""

_WHOLE_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)
_SIZE = re.compile(r"(?:(?:0|[1-9][0-9]{0,8})(?:KiB|MiB|GiB)?|[1-9][0-9]{9,18})\Z", re.ASCII)
_FLAGS = {"true": True, "false": False}


ALLOWED = "x-allowed"
"""Extension of a parameter's schema: what it accepts, as text for error messages."""


def _accepts(text: str) -> Any:
    return Field(json_schema_extra={ALLOWED: text})


def whole_number(value: object) -> object:
    """Return the number of a text of decimal digits; raise ``ValueError`` for another text. Other types stay as is."""
    if isinstance(value, str):
        if not _WHOLE_NUMBER.match(value):
            raise ValueError("not a whole number")
        return int(value)
    return value


def _flag(value: object) -> object:
    if isinstance(value, str):
        if value not in _FLAGS:
            raise ValueError("neither true nor false")
        return _FLAGS[value]
    return value


def _time(value: object) -> object:
    return parse_moment(value, now=datetime.now(UTC)) if isinstance(value, str) else value


def _size(value: object) -> object:
    if isinstance(value, str):
        if not _SIZE.match(value):
            raise ValueError("not a number of bytes, and not one of KiB, MiB or GiB")
        return parse_size(value)
    return value


def _split(value: object) -> object:
    return tuple(value.split(",")) if isinstance(value, str) else value


def _platform(value: object) -> object:
    return parse_platform(value).text if isinstance(value, str) else value


_TIME_SCHEMA = {
    "type": "string",
    "anyOf": [
        {"format": "date-time"},
        {"format": "date"},
        {"pattern": "^[0-9]{1,9}[smhdw]$"},
    ],
    "example": "2026-01-31T12:00:00Z",
    ALLOWED: "an RFC 3339 time with a time zone, like 2026-01-31T12:00:00Z; a date (its first instant in UTC); or an "
    "age, like 24h or 7d",
}
_SIZE_SCHEMA = {
    "type": "string",
    "pattern": "^(0|[1-9][0-9]{0,8})(KiB|MiB|GiB)?$|^[1-9][0-9]{9,17}$",
    "example": "10MiB",
    ALLOWED: "a size in bytes, 0 or more, or like 512KiB, 10MiB, 1GiB",
}

Text = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$"),
    _accepts("1 to 256 characters, no control characters"),
]
# A constraint must stand before the validator that reads the text, or the schema loses it.
WholeNumber = Annotated[int, Field(ge=0, le=MAX_BYTES), BeforeValidator(whole_number)]
Bytes = Annotated[
    int,
    Field(ge=0, le=MAX_BYTES),
    BeforeValidator(_size),
    WithJsonSchema(_SIZE_SCHEMA),
]
Flag = Annotated[bool, BeforeValidator(_flag), _accepts("true, false")]
Time = Annotated[
    datetime,
    BeforeValidator(_time),
    WithJsonSchema(_TIME_SCHEMA),
]
DigestText = Annotated[
    str,
    Field(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"),
    _accepts("sha256:<64 hex> or sha512:<128 hex>"),
]
PlatformText = Annotated[
    str,
    Field(max_length=256, pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$"),
    BeforeValidator(_platform),
    _accepts("os/arch or os/arch/variant"),
]
Glob = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9_.*?-]+$"),
    _accepts("a tag's characters, * for any run and ? for one character"),
]
Listed = Annotated[
    str,
    Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f,]+$"),
]
"""One text of a comma list."""
_ONE = "[^\\x00-\\x1f\\x7f,]{1,256}"
Texts = Annotated[
    tuple[Listed, ...],
    Field(min_length=1, max_length=MAX_VALUES),
    BeforeValidator(_split),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{_ONE}(,{_ONE}){{0,{MAX_VALUES - 1}}}$",
            ALLOWED: "1 to 256 characters, no control characters; or a comma list of such",
        }
    ),
]
Platforms = Annotated[
    tuple[PlatformText, ...],
    Field(min_length=1, max_length=MAX_VALUES),
    BeforeValidator(_split),
    _accepts("os/arch or os/arch/variant, or a comma list of such"),
]
W = TypeVar("W", bound=StrEnum)
Several = Annotated[
    tuple[W, ...],
    Field(min_length=1, max_length=MAX_VALUES),
    BeforeValidator(_split),
]
"""One or more values of an enumeration."""


class Query(BaseModel):
    """The parameters of an endpoint.

    ``other_names``: other name → name of a parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    other_names: ClassVar[Mapping[str, str]] = {}
    not_in_cursors: ClassVar[frozenset[str]] = frozenset()
    """Filters that a cursor is not bound to, since the links to other pages have other values for them."""


Q = TypeVar("Q", bound=Query)


def parse_query(model: type[Q], given: MultiMapping[str]) -> Q:
    """Parse a query string; raise ``CallerError`` that names the first wrong parameter."""
    known = parameter_fields(model)
    values: dict[str, str] = {}
    for name, value in given.items():
        meant = model.other_names.get(name, name)
        if meant not in known:
            raise CallerError(
                f"there is no parameter {name[:80]!r} here",
                code="unknown_parameter",
                parameter=name[:80],
                allowed=", ".join(known) or "none",
            )
        if meant in values:
            raise CallerError(
                f"{_both(name, meant)} is given more than once",
                code="repeated_parameter",
                parameter=name,
                allowed="once; several values, where a parameter takes them, are a comma list",
            )
        values[meant] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(model, error, given) from None


def _both(name: str, meant: str) -> str:
    return name if name == meant else f"{meant}, which {name} is another name of,"


def _refusal(model: type[Query], error: ValidationError, given: MultiMapping[str]) -> CallerError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "query"
    reason = str(first["msg"]).removeprefix("Value error, ")
    allowed = allowed_values(model, name)
    if first["type"] == "string_pattern_mismatch" and allowed is not None:
        reason = f"not accepted: {str(first['input'])[:LONGEST_SHOWN]!r}"  # the pattern says it worse
    used = next(
        (other for other, meant in model.other_names.items() if meant == name and other in given), name
    )
    return wrong_parameter(used, reason, allowed=allowed)


def wrong_parameter(name: str, reason: str, *, allowed: str | None) -> CallerError:
    """Make the error for a wrong value of a parameter."""
    return CallerError(f"{name}: {reason}", code="invalid_parameter", parameter=name, allowed=allowed)


def allowed_values(model: type[Query], name: str) -> str | None:
    """Return what a parameter accepts, as text: that of its type where it has one, else by its schema."""
    schema = parameter_schemas(model).get(name, {})
    if ALLOWED in schema:
        return str(schema[ALLOWED])
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    if "enum" in schema.get("items", {}):
        return f"a comma list of {', '.join(str(value) for value in schema['items']['enum'])}"
    if "minimum" in schema and "maximum" in schema:
        return f"{schema['minimum']} to {schema['maximum']}"
    return None


@cache
def parameter_fields(model: type[Query]) -> Mapping[str, FieldInfo]:
    """Return the fields by the names of their parameters; a field's own name cannot be ``from``."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


@cache
def parameter_schemas(model: type[Query]) -> Mapping[str, Mapping[str, Any]]:
    """Return the JSON schema of each parameter, without references, and without null, which no parameter can be."""
    document = model.model_json_schema()
    definitions = document.get("$defs", {})
    return {
        name: _inlined(described, definitions) for name, described in document.get("properties", {}).items()
    }


def _inlined(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in described.items() if key != "title"}
    if {"type": "null"} in described.get("anyOf", []):
        for part in flat.pop("anyOf"):
            if part != {"type": "null"}:
                flat |= part
    if "$ref" in flat:
        named = definitions[flat.pop("$ref").rsplit("/", 1)[1]]
        flat = {key: value for key, value in named.items() if key not in ("title", "description")} | flat
    if "items" in flat:
        flat["items"] = _inlined(flat["items"], definitions)
    if flat.get("default", "") is None:
        del flat["default"]
    return flat
