"""Tags: a page of them, and one in detail (contract sections 1.5 and 1.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from indexer.api.gitlab import serialize
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall
from indexer.api.gitlab.links import link_header
from indexer.api.gitlab.markers import make_marker
from indexer.api.gitlab.parameters import TagsQuestion, read_tags_question
from indexer.api.gitlab.paths import REPOSITORIES
from indexer.api.gitlab.refusals import name_unknown, tag_invalid, tag_unknown
from indexer.api.gitlab.repositories import known_name
from indexer.oci.media_types import is_index
from indexer.oci.reference import parse_tag_name
from indexer.store import gitlab as store
from indexer.store.gitlab import ReferrerOfTag, TagsFound, TagsWanted
from indexer.store.listing.page_query import Row
from indexer.store.pool import Connection


async def list_tags(call: GitlabCall) -> GitlabAnswer:
    """List a page of tags with links to the pages beside it (section 1.5)."""
    question = read_tags_question(call.query)
    name = known_name(call.repository)
    async with call.readers.reading() as held:
        repository_id = await _repository_id(held, name)
        found = await _find(held, repository_id, question)
        referrers = await _referrers(held, repository_id, question, found.rows)
        facets = await call.interned.facets(held, (row["facet_id"] for row in found.rows))
    return GitlabAnswer(
        body=[serialize.tag(row, facets, referrers) for row in found.rows], link=_link(name, question, found)
    )


async def get_tag(call: GitlabCall) -> GitlabAnswer:
    """Show a tag with its image, for an index with every image below it (section 1.6)."""
    try:
        tag = parse_tag_name(call.tag)
    except ValueError:
        raise tag_invalid(call.tag) from None
    name = known_name(call.repository)
    async with call.readers.reading() as held:
        repository_id = await _repository_id(held, name)
        row = await store.find_tag(held, repository_id=repository_id, name=tag)
        if row is None:
            raise tag_unknown(tag)
        facets = await call.interned.facets(held, (row["facet_id"],))
        descendants: Sequence[Row] = ()
        # To plan this statement alone takes longer than all others of the page.
        if row["manifest_id"] is not None and is_index(facets[row["facet_id"]].media_type):
            descendants = await store.list_descendants(
                held, repository_id=repository_id, manifest_id=row["manifest_id"]
            )
            below = (each["facet_id"] for each in descendants if each["facet_id"] is not None)
            facets = {**facets, **await call.interned.facets(held, below)}
    found = serialize.Detail(repository=name, row=row, descendants=descendants, facets=facets)
    return GitlabAnswer(body=serialize.detail(found))


async def _repository_id(connection: Connection, name: str) -> int:
    found = await store.find_repository(connection, name=name)
    if found is None:
        raise name_unknown(name=name)
    return found.id


async def _find(connection: Connection, repository_id: int, question: TagsQuestion) -> TagsFound:
    if question.name_exact:
        row = await store.find_tag(connection, repository_id=repository_id, name=question.name_exact)
        return TagsFound(rows=[] if row is None else [row], has_previous=False, has_next=False)
    key, descending = question.order
    wanted = TagsWanted(
        repository_id=repository_id,
        limit=question.limit,
        key=key,
        descending=descending,
        place=question.before or question.after,
        before=question.before is not None,
        name=question.name,
    )
    return await store.list_tags(connection, wanted)


async def _referrers(
    connection: Connection, repository_id: int, question: TagsQuestion, rows: Sequence[Row]
) -> Mapping[bytes, Sequence[ReferrerOfTag]]:
    digests = [row["digest"] for row in rows if row["digest"] is not None]
    if not question.referrers or not digests:
        return {}
    return await store.list_referrers(
        connection, repository_id=repository_id, digests=digests, artifact_types=question.referrer_types
    )


def _link(name: str, question: TagsQuestion, found: TagsFound) -> str | None:
    """Return links to the previous and next page, with sort and filter by name, without ``referrers``."""
    if not found.rows:
        return None
    kept = {"n": str(question.limit), "name": question.name, "sort": question.sort}
    given = {parameter: value for parameter, value in kept.items() if value}
    first, last = _marker(question, found.rows[0]), _marker(question, found.rows[-1])
    pages = [
        ("previous", given | {"before": first} if found.has_previous else None),
        ("next", given | {"last": last} if found.has_next else None),
    ]
    return link_header(f"{REPOSITORIES}{name}/tags/list/", pages)


def _marker(question: TagsQuestion, row: Row) -> str:
    return make_marker(row["name"], row["published_at"] if question.order[0] == "published_at" else None)
