"""What is in use: for each source the whole set that it reported last."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from indexer.api.models import Shown
from indexer.api.operations import ApiCall, command, operation
from indexer.api.parameters import Query
from indexer.api.problems import not_found
from indexer.api.responses import Changed, Document
from indexer.api.v1.cleanup import SourceShown, require_all, require_operator
from indexer.cleanup.reporting import LONGEST_VALID, MOST_IMAGES, parse_image
from indexer.cleanup.status import source_json
from indexer.common.errors import CallerError
from indexer.common.values import parse_duration
from indexer.store import in_use
from indexer.store.pool import transaction

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z", re.ASCII)
SHORTEST_VALID = timedelta(seconds=1)


class ImageShown(Shown):
    """An image that a source names."""

    repository: str | None = Field(description="Null: in any repository.")
    reference: str = Field(description="A tag or a digest.")


class SourceWithImages(SourceShown):
    """What a source reported last, with the set that counts."""

    set: list[ImageShown]


class Sources(Shown):
    """Every source that ever reported."""

    items: list[SourceShown]


class Report(BaseModel):
    """What a source runs, and may run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Annotated[list[str], Field(max_length=MOST_IMAGES)] = Field(
        description="`sha256:…`, `repo:tag`, `repo@sha256:…`: the whole set, which replaces the one before."
    )
    valid_for: str = Field(
        default="48h", description="How long the set counts as known: after it the source is silent."
    )
    confirm: bool = Field(
        default=False,
        description="Count the set although it has less than half of the images of the one before.",
    )


@operation("/in-use", query=Query, result=Sources)
async def list_in_use(call: ApiCall[Query]) -> Document:
    """List the sources, and what each reported last."""
    require_all(call)
    async with call.readers.reading() as held:
        found = await in_use.list_sources(held)
    now = datetime.now(UTC)
    return Document(body={"items": [source_json(each, now=now) for each in found]})


@operation("/in-use/{source}", query=Query, result=SourceWithImages)
async def get_in_use(call: ApiCall[Query]) -> Document:
    """Show what a source reported last, with the set that counts."""
    require_all(call)
    async with call.readers.reading() as held:
        found = await in_use.find_source(held, source=call.path["source"])
        images = await in_use.list_images(held, source=call.path["source"])
    if found is None:
        raise not_found("this source never reported")
    listed = [{"repository": repository or None, "reference": reference} for repository, reference in images]
    return Document(body={**source_json(found, now=datetime.now(UTC)), "set": listed})


@command("PUT", "/in-use/{source}", body=Report, result=SourceShown, refusals=(413, 422))
async def report_in_use(call: ApiCall[Query]) -> Changed:
    """Report what a source runs: the whole set, replaced at once.

    A set that has less than half of the images of the one before counts only with `confirm`; until then the one before
    protects, too, and the answer says `waits_for_confirmation`. 422 names an image that is none: then nothing changes.
    """
    source = call.path["source"]
    if call.principal.source is None:
        require_operator(call)
    elif call.principal.source != source:
        raise CallerError("this token reports for another source", status=403, code="not_granted")
    if not _SOURCE.match(source):
        raise CallerError(
            "source: at most 128 letters, digits, dots, dashes and underscores",
            status=422,
            code="invalid_member",
            parameter="source",
        )
    report: Report = call.body
    now = datetime.now(UTC)
    valid_for = _valid_for(report.valid_for)
    images = [image for text in report.images for image in _images(text)]
    async with transaction(call.store) as held:
        found = await in_use.take_report(
            held, source=source, images=images, at=now, valid_until=now + valid_for, confirm=report.confirm
        )
    return Changed(body=source_json(found, now=now))


def _valid_for(text: str) -> timedelta:
    try:
        period = parse_duration(text)
    except (ValueError, OverflowError):
        period = timedelta(0)
    if not SHORTEST_VALID <= period <= LONGEST_VALID:
        raise _wrong("valid_for", "a duration from 1s to 366d, like 48h")
    return period


def _images(text: str) -> list[Any]:
    try:
        return list(parse_image(text))
    except ValueError as error:
        raise _wrong("images", str(error)) from None


def _wrong(name: str, why: str) -> CallerError:
    return CallerError(f"{name}: {why}"[:500], status=422, code="invalid_member", parameter=name)
