"""Endpoint and parameters of a path below ``/api/v1/repositories/``.

A repository's name has slashes, so the path is read from the right:

    …/tags                   the tags of …
    …/tags/<tag>             one tag of …
    …/tags/<tag>/history     its history
    …/manifests              the manifests of …
    …/manifests/<digest>     one manifest of …
    …/storage                its storage
    anything else            the repository

Only plain slashes separate; ``%2F`` is a slash within a name. So a repository called ``a/tags`` is written
``a%2Ftags``, while ``a/tags`` means the tags of ``a``, and ``a/tags/tags`` its tag ``tags``. With escaped slashes a
path has one meaning only. If there is no repository ``a``, the longer name is tried: ``read_paths`` returns all
meanings of a path in that order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from indexer.common.errors import CallerError
from indexer.oci.digest import parse_digest
from indexer.oci.reference import parse_repository_name, parse_tag_name

T = TypeVar("T")

REPOSITORY = "/repositories/{repository}"
TAGS = f"{REPOSITORY}/tags"
TAG = f"{TAGS}/{{tag}}"
HISTORY = f"{TAG}/history"
MANIFESTS = f"{REPOSITORY}/manifests"
MANIFEST = f"{MANIFESTS}/{{digest}}"
STORAGE = f"{REPOSITORY}/storage"


def read_path(raw: str) -> tuple[str, dict[str, str]]:
    """Return the endpoint and its path parameters for ``raw``, the escaped path below ``/repositories/``.

    Raises ``CallerError`` where a name is not valid.
    """
    return next(_meanings(raw))


def read_paths(raw: str) -> list[tuple[str, dict[str, str]]]:
    """Return all meanings of ``raw``, the shortest name of a repository first; raise as ``read_path`` does."""
    meanings = _meanings(raw)
    found = [next(meanings)]
    while True:
        try:
            found.append(next(meanings))
        except (StopIteration, CallerError):  # a longer name that is not valid is no meaning
            return found


def _meanings(raw: str) -> Iterator[tuple[str, dict[str, str]]]:
    parts = [_unescape(part) for part in raw.split("/")]
    match parts:
        case [*name, "tags", tag, "history"] if name:
            yield HISTORY, _repository(name) | {"tag": _parsed("tag", tag, parse_tag_name)}
    match parts:
        case [*name, "tags", tag] if name:
            yield TAG, _repository(name) | {"tag": _parsed("tag", tag, parse_tag_name)}
        case [*name, "manifests", digest] if name and ":" in digest:
            yield MANIFEST, _repository(name) | {"digest": _parsed("digest", digest, parse_digest)}
    match parts:
        case [*name, "tags"] if name:
            yield TAGS, _repository(name)
        case [*name, "manifests"] if name:
            yield MANIFESTS, _repository(name)
        case [*name, "storage"] if name:
            yield STORAGE, _repository(name)
    yield REPOSITORY, _repository(parts)


def _repository(parts: Sequence[str]) -> dict[str, str]:
    return {"repository": _parsed("repository", "/".join(parts), parse_repository_name)}


def _parsed(kind: str, text: str, parse: Callable[[str], str]) -> str:
    try:
        return parse(text)
    except ValueError:
        raise CallerError(
            f"no {kind} can have this name", code="invalid_name", parameter=kind, allowed=f"a {kind}"
        ) from None


def _unescape(part: str) -> str:
    try:
        return unquote_to_bytes(part).decode("utf-8")
    except UnicodeError:
        raise CallerError("the path is not UTF-8", code="invalid_name", parameter="path") from None
