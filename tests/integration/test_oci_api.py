"""Referrers and names of tags under /v2, over HTTP, on a real database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from indexer.api.oci import referrers as door
from indexer.oci.digest import Digest, digest_to_bytes
from indexer.oci.media_types import COSIGN_ATTESTATION, COSIGN_SIGNATURE, OCI_CONFIG, OCI_INDEX
from indexer.oci.referrers import fallback_tag
from indexer.store.referrers import SQL
from tests.fixtures.plans import vacuum
from tests.fixtures.rows import OCI_MANIFEST, TagRow, digest, put_repository
from tests.fixtures.tokens import REALM, SERVICE, mint
from tests.fixtures.trusting import Trusting, pull

if TYPE_CHECKING:
    from indexer.store.pool import Pool

APP = "team/app"
SUBJECT = digest("image")
SBOM = "application/spdx+json"
PATH = f"/v2/{APP}/referrers/{SUBJECT}"
TAGS = f"/v2/{APP}/tags/list"
STEM = SUBJECT.replace(":", "-")


def artifact(seed: str, artifact_type: str = SBOM, **more: Any) -> TagRow:
    """An artifact; its tag is only how the fixture files it."""
    return TagRow(name=seed, seed=seed, artifact_type=artifact_type, kind="artifact", **more)


async def attach(pool: Pool, *seeds: str, subject: Digest = SUBJECT, annotations: Any = None) -> None:
    """Let manifests name a subject."""
    await pool.execute(
        "UPDATE manifest SET subject_digest = $2, annotations = $3 WHERE digest = ANY ($1)",
        [digest_to_bytes(digest(seed)) for seed in seeds], digest_to_bytes(subject), annotations,
    )  # fmt: skip


async def put_children(pool: Pool, index: str, *children: str) -> None:
    """Let an index list manifests."""
    for position, child in enumerate(children):
        await pool.execute(
            "INSERT INTO manifest_child (manifest_id, child_id, position) SELECT i.id, c.id, $3"
            " FROM manifest AS i, manifest AS c WHERE i.digest = $1 AND c.digest = $2",
            digest_to_bytes(digest(index)), digest_to_bytes(digest(child)), position,
        )  # fmt: skip


async def listed(trusting: Trusting, path: str = PATH, **query: str) -> dict[str, str]:
    """The referrers of an answer: artifact types by digest; "-" where it says none."""
    body = await trusting.json(path, **query)
    assert (body["schemaVersion"], body["mediaType"]) == (2, OCI_INDEX)
    assert len({each["digest"] for each in body["manifests"]}) == len(body["manifests"])
    return {each["digest"]: each.get("artifactType", "-") for each in body["manifests"]}


# --- referrers -------------------------------------------------------------------------------------------


async def test_referrers__are_an_image_index(trusting: Trusting) -> None:
    """The answer is an image index of descriptors with artifact type and annotations, also to HEAD."""
    await put_repository(trusting.pool, APP, [TagRow(name="latest", seed="image"), artifact("sbom")])
    await attach(trusting.pool, "sbom", annotations={"org.example": "yes"})
    response = await trusting.ask(PATH)
    assert response.headers["Content-Type"] == OCI_INDEX
    assert "OCI-Filters-Applied" not in response.headers
    assert await response.json(content_type=None) == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": OCI_MANIFEST,
                "digest": digest("sbom"),
                "size": 500,
                "artifactType": SBOM,
                "annotations": {"org.example": "yes"},
            }
        ],
    }
    head = await trusting.ask(PATH, method="HEAD")
    assert (head.status, head.headers["Content-Type"], await head.read()) == (200, OCI_INDEX, b"")


async def test_referrers__of_what_nobody_knows_are_none(trusting: Trusting) -> None:
    """An unknown digest or repository has an empty index, never a 404: clients would think there is no such API."""
    await put_repository(trusting.pool, APP, [TagRow(name="latest", seed="image")])
    assert await listed(trusting) == {}
    assert await listed(trusting, f"/v2/{APP}/referrers/sha512:{'0' * 128}") == {}
    assert await listed(trusting, f"/v2/no/such/referrers/{SUBJECT}") == {}


async def test_referrers__filtered_by_artifact_type(trusting: Trusting) -> None:
    """Only those of the type are listed, and the header says that the filter was applied, even if none is left."""
    await put_repository(trusting.pool, APP, [artifact("sbom"), artifact("other", "application/other")])
    await attach(trusting.pool, "sbom", "other")
    assert await listed(trusting, artifactType=SBOM) == {digest("sbom"): SBOM}
    response = await trusting.ask(PATH, artifactType="application/none")
    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    assert (await response.json(content_type=None))["manifests"] == []


async def test_referrers__of_every_source_once(trusting: Trusting) -> None:
    """By subject, by the index of the tag schema, by cosign's tags: merged, each manifest once."""
    rows = [
        artifact("by-subject"),
        artifact("in-index"),
        TagRow(name=fallback_tag(SUBJECT), seed="fallback", media_type=OCI_INDEX, kind="index"),
        TagRow(name=f"{STEM}.sig", seed="signature", kind="signature"),
        TagRow(name=f"{STEM}.att", seed="attestation", kind="attestation"),
        TagRow(name=f"{STEM}.sbom", seed="by-subject", artifact_type=SBOM),
    ]
    await put_repository(trusting.pool, APP, rows)
    await put_children(trusting.pool, "fallback", "by-subject", "in-index", "signature", "in-index")
    await attach(trusting.pool, "by-subject")
    everything = {
        digest("by-subject"): SBOM,
        digest("in-index"): SBOM,
        digest("signature"): COSIGN_SIGNATURE,
        digest("attestation"): COSIGN_ATTESTATION,
    }
    assert await listed(trusting) == everything
    signatures = {digest("signature"): COSIGN_SIGNATURE}
    assert await listed(trusting, artifactType=COSIGN_SIGNATURE) == signatures


async def test_referrers__by_a_tag_of_what_names_another_subject(trusting: Trusting) -> None:
    """What names its subject itself is listed there alone, whatever tag or index leads to it."""
    rows = [
        artifact("elsewhere"),
        TagRow(name=fallback_tag(SUBJECT), seed="fallback", media_type=OCI_INDEX, kind="index"),
        TagRow(name=f"{STEM}.sig", seed="elsewhere", artifact_type=SBOM),
    ]
    await put_repository(trusting.pool, APP, rows)
    await put_children(trusting.pool, "fallback", "elsewhere")
    await attach(trusting.pool, "elsewhere", subject=digest("another"))
    assert await listed(trusting) == {}
    assert await listed(trusting, f"/v2/{APP}/referrers/{digest('another')}") == {digest("elsewhere"): SBOM}


async def test_referrers__that_were_deleted_are_not_listed(trusting: Trusting) -> None:
    """A manifest that the repository gave up is no referrer, by whichever source; one of another repository neither."""
    rows = [
        artifact("gone"),
        artifact("child"),
        TagRow(name=fallback_tag(SUBJECT), seed="fallback", media_type=OCI_INDEX, kind="index"),
        TagRow(name=f"{STEM}.sig", seed="signature"),
    ]
    await put_repository(trusting.pool, APP, rows)
    await put_repository(trusting.pool, "other", [artifact("elsewhere")])
    await put_children(trusting.pool, "fallback", "child")
    await attach(trusting.pool, "gone", "elsewhere")
    assert len(await listed(trusting)) == 3
    await trusting.pool.execute("UPDATE repository_manifest SET deleted_at = now()")
    assert await listed(trusting) == {}


async def test_referrers__without_an_artifact_type_of_their_own(trusting: Trusting) -> None:
    """An image that names a subject is of its config's media type, as the spec has it; an index of none."""
    await put_repository(
        trusting.pool,
        APP,
        [TagRow(name="image", seed="a"), TagRow(name="index", seed="b", media_type=OCI_INDEX)],
    )
    await attach(trusting.pool, "a", "b")
    kind = await trusting.pool.fetchval("INSERT INTO media_type (name) VALUES ($1) RETURNING id", OCI_CONFIG)
    await trusting.pool.execute(
        "UPDATE manifest SET config_media_type_id = $1 WHERE digest = $2", kind, digest_to_bytes(digest("a"))
    )
    assert await listed(trusting) == {digest("a"): OCI_CONFIG, digest("b"): "-"}


@pytest.mark.parametrize("count", [3, 30])
async def test_referrers__paged_where_they_are_too_many(
    trusting: Trusting, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """No answer is larger than the limit, links lead through every referrer once, and the filter goes along."""
    monkeypatch.setattr(door, "MAX_BODY_BYTES", 2000)
    monkeypatch.setattr(door, "MOST_ON_A_PAGE", 10)
    seeds = [f"artifact-{number}" for number in range(count)]
    await put_repository(trusting.pool, APP, [artifact(seed) for seed in seeds])
    await attach(trusting.pool, *seeds, annotations={"org.example": "x" * 200})
    found: list[str] = []
    query = {"artifactType": SBOM}
    while True:
        response = await trusting.ask(PATH, **query)
        content = await response.read()
        assert len(content) <= 2000
        found += [each["digest"] for each in orjson.loads(content)["manifests"]]
        if "Link" not in response.headers:
            break
        address, _, relation = response.headers["Link"].partition("; ")
        assert relation == 'rel="next"'
        parts = urlsplit(address.strip("<>"))
        assert parts.path == PATH
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        assert query["artifactType"] == SBOM
    assert found == sorted(digest(seed) for seed in seeds)


@pytest.mark.parametrize("bad", ["latest", "sha256:abc", f"sha256:{'A' * 64}", f"md5:{'0' * 32}"])
async def test_referrers__of_what_is_no_digest(trusting: Trusting, bad: str) -> None:
    """A digest that could not be one is a 400, in the path and as a marker."""
    assert (await trusting.refusal(f"/v2/{APP}/referrers/{bad}"))[:2] == (400, "DIGEST_INVALID")
    assert (await trusting.refusal(PATH, last=bad))[:2] == (400, "DIGEST_INVALID")


# --- tags ------------------------------------------------------------------------------------------------


async def test_tags__sorted_and_paged(trusting: Trusting) -> None:
    """Names come sorted by byte; a link is there exactly where there are more."""
    names = ["v10", "v9", "V1", "_x", "0.1", "latest"]
    await put_repository(trusting.pool, APP, [TagRow(name=name) for name in names])
    assert await trusting.json(TAGS) == {"name": APP, "tags": sorted(names)}
    assert (await trusting.json(TAGS, n="10000"))["tags"] == sorted(names)
    response = await trusting.ask(TAGS, n="4")
    assert (await response.json())["tags"] == sorted(names)[:4]
    assert response.headers["Link"] == f'<{TAGS}?last=latest&n=4>; rel="next"'
    last = await trusting.ask(TAGS, n="2", last="latest")
    assert ((await last.json())["tags"], "Link" in last.headers) == (["v10", "v9"], False)
    assert (await trusting.json(TAGS, last="m"))["tags"] == ["v10", "v9"]
    assert (await trusting.json(TAGS, last="zzz"))["tags"] == []
    none = await trusting.ask(TAGS, n="0")
    assert ((await none.json())["tags"], "Link" in none.headers) == ([], False)


async def test_tags__of_a_repository_without_any(trusting: Trusting) -> None:
    """A repository without tags has an empty list; one that nobody knows is a 404 in the registry's words."""
    await put_repository(trusting.pool, APP, [])
    assert await trusting.json(TAGS) == {"name": APP, "tags": []}
    assert await trusting.refusal("/v2/no/such/tags/list") == (404, "NAME_UNKNOWN", {"name": "no/such"})


@pytest.mark.parametrize("bad", ["-1", "x", "1.5", "1e3"])
async def test_tags__with_a_bad_number(trusting: Trusting, bad: str) -> None:
    """What is no number is refused as Distribution 3 does."""
    await put_repository(trusting.pool, APP, [])
    assert await trusting.refusal(TAGS, n=bad) == (400, "PAGINATION_NUMBER_INVALID", {"n": bad})


async def test_tags__take_any_marker(trusting: Trusting) -> None:
    """A marker is no name of a tag that must be there; what no tag could be called is a place all the same."""
    await put_repository(trusting.pool, APP, [TagRow(name="a"), TagRow(name="b")])
    for marker in ("a\0b", "a%2F", "a'; DROP TABLE tag"):
        assert (await trusting.json(TAGS, last=marker))["tags"] == ["b"]


# --- both ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, TAGS])
async def test_grant__opens_its_repository_alone(trusting: Trusting, path: str) -> None:
    """Pull opens; anything less is a 401 with the registry's challenge, so that a client fetches a token."""
    await put_repository(trusting.pool, APP, [])
    scope = f'Bearer realm="{REALM}",service="{SERVICE}",scope="repository:{APP}:pull"'
    assert await trusting.status(path, pull(APP)) == 200
    for other in (pull("other"), pull("team/*")):
        refused = await trusting.ask(path, token=mint(other))
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (
            401,
            f'{scope},error="insufficient_scope"',
        )
    missing = await trusting.ask(path, token=None)
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, scope)
    (error,) = (await missing.json())["errors"]
    assert error["code"] == "UNAUTHORIZED"
    unknown = await trusting.ask(path.replace(APP, "not/there"), token=mint(pull(APP)))
    assert unknown.status == 401


@pytest.mark.parametrize("path", ["/v2/", "/v2/a/manifests/latest", "/v2/_catalog", "/v2/a/blobs/uploads/"])
async def test_path__of_the_registry_is_not_answered(trusting: Trusting, path: str) -> None:
    """Nothing else of the registry's API is here, and nothing is written."""
    assert (await trusting.refusal(path))[:2] == (404, "UNSUPPORTED")
    for ours in (PATH, TAGS):
        assert (await trusting.ask(ours, method="DELETE")).status == 405
    assert (await trusting.refusal(f"/v2/Not-A-Name/referrers/{SUBJECT}"))[:2] == (400, "NAME_INVALID")


async def test_referrers__walk_their_index(trusting: Trusting) -> None:
    """A page costs what it shows, not how many manifests there are with other subjects."""
    await put_repository(trusting.pool, APP, [artifact(f"artifact-{number}") for number in range(3000)])
    await trusting.pool.execute("UPDATE manifest SET subject_digest = sha256(digest)")
    await attach(trusting.pool, "artifact-1", "artifact-2")
    async with trusting.pool.acquire() as connection:
        await vacuum(connection)
    found = await trusting.pool.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {SQL['referrers_of']}",
        APP, digest_to_bytes(SUBJECT), fallback_tag(SUBJECT), [f"{STEM}.sig"], [COSIGN_SIGNATURE],
        b"", "", 10_001, 8_000_000,
    )  # fmt: skip
    plan = orjson.loads(found)[0]["Plan"]
    assert plan["Actual Rows"] == 2
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 80, orjson.dumps(plan).decode()
