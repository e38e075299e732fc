"""The referrers of a manifest (OCI distribution spec 1.1, "Listing Referrers")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

from indexer.api.oci.calls import OciAnswer, OciCall, next_page
from indexer.api.registry_errors import Refusal
from indexer.oci.digest import Digest, parse_digest
from indexer.oci.media_types import OCI_INDEX
from indexer.store.referrers import ReferrersWanted, StoredReferrer, referrers_of

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""As large as a manifest may be: clients read no more of a response."""
MOST_ON_A_PAGE: Final = 10_000
FILTERED: Final = "OCI-Filters-Applied"

_FRAME_BYTES = 200
"""For the JSON around the descriptors."""


async def list_referrers(call: OciCall) -> OciAnswer:
    """List the referrers of a digest as an image index; empty where none is on record.

    Never a 404, not even for an unknown repository: clients take it to mean that there is no referrers API, and attach
    artifacts by fallback tags instead.
    """
    subject = _digest(call.digest, "the digest of the path")
    artifact_type = call.query.get("artifactType", "")
    last = call.query.get("last", "")
    wanted = ReferrersWanted(
        repository=call.repository,
        subject=subject,
        artifact_type=artifact_type,
        after=_digest(last, "the last query parameter") if last else None,
    )
    async with call.readers.reading() as held:
        found = await referrers_of(
            held, wanted, limit=MOST_ON_A_PAGE + 1, annotation_bytes=2 * MAX_BODY_BYTES
        )
    shown = list(_fitting(found))
    headers = {FILTERED: "artifactType"} if artifact_type else {}
    if len(shown) < len(found):
        kept = {"artifactType": artifact_type} if artifact_type else {}
        headers["Link"] = next_page(call.path, kept | {"last": found[len(shown) - 1].digest})
    return OciAnswer(body=_index(shown), media_type=OCI_INDEX, headers=headers)


def _digest(text: str, where: str) -> Digest:
    try:
        return parse_digest(text)
    except ValueError:
        raise Refusal(
            HTTPStatus.BAD_REQUEST,
            "DIGEST_INVALID",
            "provided digest is not a sha256 or sha512 digest",
            f"{where} is {text[:200]!r}",
        ) from None


def _fitting(found: Sequence[StoredReferrer]) -> Iterator[bytes]:
    """Yield encoded descriptors as long as they fit into one response, but at least one."""
    size = _FRAME_BYTES
    for number, referrer in enumerate(found[:MOST_ON_A_PAGE]):
        encoded = orjson.dumps(_descriptor(referrer))
        size += len(encoded) + 1
        if size > MAX_BODY_BYTES and number > 0:
            return
        yield encoded


def _descriptor(referrer: StoredReferrer) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size_bytes,
    }
    if referrer.artifact_type:
        shown["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        shown["annotations"] = dict(referrer.annotations)
    return shown


def _index(descriptors: Sequence[bytes]) -> bytes:
    head = orjson.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX})
    return head[:-1] + b',"manifests":[' + b",".join(descriptors) + b"]}"
