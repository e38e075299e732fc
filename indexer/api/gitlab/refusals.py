"""Errors as the fork words them (contract section 1.1): ``{"errors": [{"code", "message", "detail"}]}``."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from indexer.api.registry_errors import Refusal

_WRONG_VALUE = "INVALID_QUERY_PARAMETER_VALUE"
_WRONG_TYPE = "INVALID_QUERY_PARAMETER_TYPE"


def wrong_type(name: str, kind: str) -> Refusal:
    """A parameter of the wrong type."""
    detail = f"the '{name}' query parameter must be set to a value of type {kind}"
    return Refusal(HTTPStatus.BAD_REQUEST, _WRONG_TYPE, "invalid query parameter value type", detail)


def wrong_value(detail: str) -> Refusal:
    """A value that is not allowed; ``detail`` says which are."""
    return Refusal(HTTPStatus.BAD_REQUEST, _WRONG_VALUE, "invalid query parameter value", detail)


def not_one_of(name: str, allowed: Sequence[str]) -> Refusal:
    """A value that is none of an enumeration."""
    return wrong_value(f"the '{name}' query parameter must be set to one of: {', '.join(allowed)}")


def out_of_range(name: str, first: int, last: int) -> Refusal:
    """A number that is too small or too large."""
    return wrong_value(f"the '{name}' query parameter must be set to a value between {first} and {last}")


def no_match(name: str, pattern: str) -> Refusal:
    """A text that does not match a pattern."""
    return wrong_value(f"the '{name}' query parameter must match the pattern {pattern}")


def exclusive(one: str, other: str) -> Refusal:
    """Two parameters of which only one may be given."""
    return wrong_value(f"the '{one}' and '{other}' query parameters are mutually exclusive")


def name_unknown(**detail: str) -> Refusal:
    """No such repository (``name``) or top-level namespace (``namespace``)."""
    return Refusal(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "repository name not known to registry", detail)


def tag_unknown(tag: str) -> Refusal:
    """No such tag in an existing repository."""
    return Refusal(HTTPStatus.NOT_FOUND, "TAG_UNKNOWN", "tag name not known to registry", {"tagName": tag})


def tag_invalid(tag: str) -> Refusal:
    """No tag can have this name."""
    return Refusal(HTTPStatus.BAD_REQUEST, "TAG_INVALID", "manifest tag did not match URI", {"tagName": tag})


def not_implemented() -> Refusal:
    """An unmodified Distribution cannot rename a repository (contract section 1.8)."""
    detail = "the registry behind this index cannot rename or move repositories"
    return Refusal(HTTPStatus.NOT_IMPLEMENTED, "NOT_IMPLEMENTED", "not implemented", detail)
