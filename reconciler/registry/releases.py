"""Tells Distribution 2.8 from 3.x, which say it nowhere: 3.x refuses ``n=-1`` in a listing of tags, 2.8 ignores it."""

from __future__ import annotations

from typing import Final

from indexer.oci.reference import RepositoryName
from reconciler.registry.auth import repository_scope
from reconciler.registry.exchange import Request
from reconciler.registry.tags import LISTING_LIMIT_BYTES
from reconciler.registry.transport import Transport

_OK: Final = 200
_BAD_REQUEST: Final = 400
_NOT_FOUND: Final = 404
_REFUSED: Final = ("PAGINATION_NUMBER_INVALID",)


async def find_major(transport: Transport, repository: RepositoryName) -> int | None:
    """Return 2 or 3, by a listing of a repository; None where the answer tells neither.

    3.0 answers 404 for a repository that it does not have, as 2.8 does.
    """
    answer = await transport.send(
        Request(
            method="GET",
            path=f"/v2/{repository}/tags/list",
            scope=repository_scope(repository, "pull"),
            expect=frozenset({_OK, _BAD_REQUEST, _NOT_FOUND}),
            limit=LISTING_LIMIT_BYTES,
            query=[("n", "-1")],
        )
    )
    if answer.status == _OK:
        return 2
    return 3 if answer.status == _BAD_REQUEST and answer.error_codes() == _REFUSED else None
