"""Repositories: one with its size, and those below a path (contract sections 1.4 and 1.7)."""

from __future__ import annotations

from typing import Any

from indexer.api.gitlab import serialize
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall
from indexer.api.gitlab.links import link_header
from indexer.api.gitlab.parameters import read_last_repository, read_limit, read_size
from indexer.api.gitlab.paths import ROOT
from indexer.api.gitlab.refusals import name_unknown
from indexer.oci.reference import parse_repository_name
from indexer.store import gitlab as store
from indexer.store.pool import Connection
from indexer.store.reading import StoreTooSlow


async def get_repository(call: GitlabCall) -> GitlabAnswer:
    """Show a repository, with its size if ``size`` is given (section 1.4)."""
    size = read_size(call.query)
    descendants = size == "self_with_descendants"
    name = known_name(call.repository)
    async with call.readers.reading() as held:
        shown = await _repository(held, name, descendants=descendants)
    if size is None:
        return GitlabAnswer(body=shown)
    return GitlabAnswer(body=shown | await _size(call, name, descendants=descendants))


async def _repository(connection: Connection, name: str, *, descendants: bool) -> dict[str, Any]:
    found = await store.find_repository(connection, name=name)
    if found is not None:
        return serialize.repository(found)
    if not descendants:
        raise name_unknown(name=name)
    await _require_namespace(connection, name)
    return serialize.base_path(name)


async def _size(call: GitlabCall, name: str, *, descendants: bool) -> dict[str, Any]:
    """Return the sum of the layers; if that takes too long, the stored sum as an estimate, as in the fork."""
    try:
        async with call.readers.reading() as held:
            exact = await store.size_of(held, name=name, descendants=descendants)
        return serialize.size(exact, estimated=False)
    except StoreTooSlow:
        async with call.readers.reading() as held:
            estimate = await store.estimated_size(held, name=name, descendants=descendants)
        return serialize.size(estimate, estimated=True)


async def list_sub_repositories(call: GitlabCall) -> GitlabAnswer:
    """List the repositories with tags at or below a path (section 1.7).

    A full page always has a link to the next, which may be empty.
    """
    limit = read_limit(call.query)
    last = read_last_repository(call.query)
    path = known_name(call.repository)
    async with call.readers.reading() as held:
        rows = await store.list_repositories_under(held, path=path, after=last, limit=limit)
        if not rows:
            await _require_namespace(held, path)
    following = {"last": rows[-1]["name"], "n": str(limit)} if len(rows) == limit else None
    address = f"{ROOT}repository-paths/{path}/repositories/list/"
    return GitlabAnswer(
        body=[serialize.sub_repository(row) for row in rows], link=link_header(address, [("next", following)])
    )


async def _require_namespace(connection: Connection, path: str) -> None:
    top = path.partition("/")[0]
    if not await store.namespace_exists(connection, name=top):
        raise name_unknown(namespace=top)


def known_name(text: str) -> str:
    """Return a valid repository name; raise ``NAME_UNKNOWN`` for any other text."""
    try:
        return parse_repository_name(text)
    except ValueError:
        raise name_unknown(name=text) from None
