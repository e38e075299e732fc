"""The names of a repository's tags (OCI distribution spec 1.1, "Listing Tags"), sorted by byte and paged."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

import orjson
from multidict import MultiMapping

from indexer.api.oci.calls import OciAnswer, OciCall, next_page
from indexer.api.registry_errors import Refusal
from indexer.store.tag_names import repository_number, tag_names

MOST_ON_A_PAGE: Final = 100_000
"""Tags of a page at most, with a link to the next. So large since without ``n`` a registry returns every tag, and
GitLab counts the tags it gets for ``n=10000``."""

_NUMBER = re.compile(r"[0-9]{1,9}\Z")


async def list_tag_names(call: OciCall) -> OciAnswer:
    """List names after ``last``, at most ``n``, with a link to the next page only if there are more."""
    limit, last = _limit(call.query), call.query.get("last", "")
    async with call.readers.reading() as held:
        number = await repository_number(held, name=call.repository)
        if number is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "NAME_UNKNOWN",
                "repository name not known to registry",
                {"name": call.repository},
            )
        # PostgreSQL takes no NUL. No tag contains one, so what is before it has the same place in the order.
        after = last.partition("\0")[0].encode("utf-8", "replace").decode()
        found = await tag_names(held, repository_id=number, after=after, limit=limit + 1)
    names = found[:limit]
    headers = {}
    if names and len(found) > limit:
        headers["Link"] = next_page(call.path, {"last": names[-1], "n": str(limit)})
    return OciAnswer(body=orjson.dumps({"name": call.repository, "tags": names}), headers=headers)


def _limit(query: MultiMapping[str]) -> int:
    given = query.get("n", "")
    if not given:
        return MOST_ON_A_PAGE
    if not _NUMBER.match(given):
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "PAGINATION_NUMBER_INVALID",
            "invalid number of results requested",
            {"n": given[:200]},
        )
    return min(int(given), MOST_ON_A_PAGE)
