"""GitLab's contract, what needs no database: paths, parameters, markers, links, bodies."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from indexer.api.gitlab import serialize
from indexer.api.gitlab.handlers import access_of
from indexer.api.gitlab.links import link_header
from indexer.api.gitlab.markers import make_marker, read_marker
from indexer.api.gitlab.parameters import read_last_repository, read_size, read_tags_question
from indexer.api.gitlab.paths import GitlabEndpoint, GitlabPath, read_path
from indexer.api.registry_errors import Refusal
from indexer.oci.digest import digest_to_bytes
from indexer.store.gitlab import Place, ReferrerOfTag, RepositoryRow
from indexer.store.listing.interned import FacetRow
from tests.fixtures.rows import OCI_INDEX, OCI_MANIFEST, digest

AT = datetime(2022, 6, 7, 12, 10, 12, 412999, tzinfo=UTC)
VALUE, TYPE = "INVALID_QUERY_PARAMETER_VALUE", "INVALID_QUERY_PARAMETER_TYPE"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/gitlab/v1/", GitlabPath(GitlabEndpoint.PROBE)),
        ("/gitlab/v1/statistics/", GitlabPath(GitlabEndpoint.STATISTICS)),
        ("/gitlab/v1/repositories/a/", GitlabPath(GitlabEndpoint.REPOSITORY, "a")),
        ("/gitlab/v1/repositories/a/b/c/", GitlabPath(GitlabEndpoint.REPOSITORY, "a/b/c")),
        ("/gitlab/v1/repositories/a/b/tags/list/", GitlabPath(GitlabEndpoint.TAGS, "a/b")),
        ("/gitlab/v1/repositories/a/b/tags/detail/v1/", GitlabPath(GitlabEndpoint.TAG, "a/b", "v1")),
        ("/gitlab/v1/repositories/tags/list/", GitlabPath(GitlabEndpoint.REPOSITORY, "tags/list")),
        ("/gitlab/v1/repositories/tags/list/tags/list/", GitlabPath(GitlabEndpoint.TAGS, "tags/list")),
        ("/gitlab/v1/repositories/a/tags/", GitlabPath(GitlabEndpoint.REPOSITORY, "a/tags")),
        ("/gitlab/v1/repositories/a/tags/detail/", GitlabPath(GitlabEndpoint.REPOSITORY, "a/tags/detail")),
        (
            "/gitlab/v1/repository-paths/a/b/repositories/list/",
            GitlabPath(GitlabEndpoint.SUB_REPOSITORIES, "a/b"),
        ),
        ("/gitlab/v1/repository-paths/a/", None),
        ("/gitlab/v1/repositories/", None),
        ("/gitlab/v1/import/a/", None),
        ("/gitlab/v1/repositories/a/tags/list", None),
        ("/gitlab/v1", None),
        ("/gitlab/v2/", None),
    ],
)
def test_path__in_the_order_of_the_routes(path: str, expected: GitlabPath | None) -> None:
    """The tag routes come before the repository's; every path ends in a slash (1.1)."""
    assert read_path(path) == expected


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("n=", TYPE, "'n'"),
        ("n=x", TYPE, "integer"),
        ("n=1.0", TYPE, "'n'"),
        ("n=99999999999999999999", TYPE, "'n'"),
        ("n=٣", TYPE, "'n'"),
        ("n=0", VALUE, "between 1 and 1000"),
        ("n=-1", VALUE, "between 1 and 1000"),
        ("n=1001", VALUE, "between 1 and 1000"),
        ("before=a&last=b", VALUE, "'before' and 'last'"),
        ("before=&last=", VALUE, "mutually exclusive"),
        ("last=", VALUE, "'last'"),
        ("last=-", VALUE, "[\\w][\\w.-]{0,127}"),
        ("last=é", VALUE, "'last'"),
        ("last=a\x00b", VALUE, "'last'"),
        ("last=\udcff_", VALUE, "'last'"),
        ("before=.", VALUE, "'before'"),
        ("name=a&name_exact=b", VALUE, "'name' and 'name_exact'"),
        ("name=a&name_exact=", VALUE, "'name' and 'name_exact'"),
        ("name=a/b", VALUE, "^[a-zA-Z0-9._-]{1,128}$"),
        ("name=a b", VALUE, "'name'"),
        ("name=a\n", VALUE, "'name'"),
        ("name=" + "a" * 129, VALUE, "'name'"),
        ("name=%", VALUE, "'name'"),
        ("name_exact=a:b", VALUE, "'name_exact'"),
        ("sort=size", VALUE, "name, -name, published_at, -published_at"),
        ("sort=--name", VALUE, "'sort'"),
        # of several things wrong the first in the order of checks is named
        ("sort=x&name=/&name_exact=/&last=-&before=-&n=x", TYPE, "'n'"),
        ("sort=x&name=/&name_exact=/&last=-&before=-", VALUE, "exclusive"),
        ("sort=x&name=/&name_exact=/&before=-", VALUE, "'before' query"),
        ("sort=x&name=/&name_exact=/&last=-", VALUE, "'last' query"),
        ("sort=x&name=/&name_exact=/", VALUE, "'name' and 'name_exact'"),
        ("sort=x&name=/", VALUE, "'name' query"),
        ("sort=x&name_exact=/", VALUE, "'name_exact' query"),
    ],
)
def test_tags_question__refused(query: str, code: str, words: str) -> None:
    """What is wrong is a 400 with the contract's code and a detail that says what is allowed (1.1, 1.5)."""
    with pytest.raises(Refusal) as refused:
        read_tags_question(multi(query))
    assert (refused.value.status, refused.value.code) == (400, code)
    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (
            "",
            {"limit": 100, "name": "", "order": ("name", False), "referrers": False, "referrer_types": None},
        ),
        ("n=1", {"limit": 1}),
        ("n=1000", {"limit": 1000}),
        ("n=+5", {"limit": 5}),
        ("n=007", {"limit": 7}),
        ("n=5&n=x", {"limit": 5}),
        ("last=kb0j5/pic0i", {"after": Place(name="kb0j5/pic0i")}),
        ("before=v1", {"before": Place(name="v1"), "after": None}),
        ("name=", {"name": ""}),
        ("name=&name_exact=", {"name": "", "name_exact": ""}),
        ("name_exact=" + "a" * 200, {"name_exact": "a" * 200}),
        ("name=A_b.c-d", {"name": "A_b.c-d"}),
        ("name_exact=v1", {"name_exact": "v1"}),
        ("sort=", {"order": ("name", False), "sort": ""}),
        ("sort= -Published_At ", {"order": ("published_at", True), "sort": "-published_at"}),
        ("sort=-name", {"order": ("name", True)}),
        ("referrers=true", {"referrers": True}),
        ("referrers=TRUE", {"referrers": False}),
        ("referrers=1", {"referrers": False}),
        ("referrer_type=a/B,c/d", {"referrer_types": ("a/b", "c/d")}),
        ("referrer_type=,\x00,", {"referrer_types": ()}),
        ("referrer_type=", {"referrer_types": ()}),
        ("unknown=1", {"limit": 100}),
    ],
)
def test_tags_question__taken(query: str, expected: dict[str, Any]) -> None:
    """What is allowed is taken as the contract says (1.5); what is unknown is passed over."""
    question = read_tags_question(multi(query))
    assert {name: getattr(question, name) for name in expected} == expected


def multi(query: str) -> MultiDict[str]:
    return MultiDict(
        (name, value) for name, _, value in (pair.partition("=") for pair in query.split("&") if pair)
    )


def test_size__one_of_two_words() -> None:
    """``size`` may be absent, empty or one of two words; anything else is a 400 (1.4)."""
    assert [read_size(multi(query)) for query in ("", "size=", "size=self", "size=self_with_descendants")] == [
        None, None, "self", "self_with_descendants",
    ]  # fmt: skip
    for query in ("size=SELF", "size=all"):
        with pytest.raises(Refusal, match="value") as refused:
            read_size(multi(query))
        assert "self, self_with_descendants" in refused.value.detail


def test_last_repository__is_a_path() -> None:
    """``last`` of sub-repositories has a repository's path in it (1.7), as the fork's pattern is not anchored."""
    for last in ("a/b", "DC/x", "dc/proj/", "a//b"):
        assert read_last_repository(MultiDict(last=last)) == last
    for query in ("last=", "last=A", "last=a\x00", "last=é"):
        with pytest.raises(Refusal):
            read_last_repository(multi(query))


def test_marker__of_publish_time() -> None:
    """Time with six digits and tag, base64 (1.5)."""
    marker = make_marker("v1", AT)
    assert base64.b64decode(marker) == b"2022-06-07T12:10:12.412999Z|v1"
    assert read_marker(marker) == Place(name="v1", published_at=AT)


@pytest.mark.parametrize(
    "text",
    [
        "latest",
        "bGF0ZXN0",  # base64 of a name
        base64.b64encode(b"2022-06-07|v1").decode(),
        base64.b64encode(b"2022-06-07T12:10:12Z").decode(),
        base64.b64encode(b"2022-06-07T12:10:12Z|v1|v2").decode(),
        base64.b64encode(b"2022-06-07T12:10:12+02:00|v1").decode(),
        base64.b64encode(b"\xff\xfe|v1").decode(),
        base64.b64encode(b"2022-06-07T12:10:12Z|v1").decode().rstrip("=") + "?",
    ],
)
def test_marker__anything_else_is_a_tag(text: str) -> None:
    """What does not decode to exactly a time and a tag is a tag's name (1.5)."""
    assert read_marker(text) == Place(name=text)


def test_marker__of_a_time_without_a_tag() -> None:
    """A time alone is no place: a 400."""
    with pytest.raises(Refusal):
        read_tags_question(MultiDict(last=base64.b64encode(b"2022-06-07T12:10:12Z|").decode()))


@pytest.mark.parametrize("time", ["2022-13-07T12:10:12Z", "2022-06-07T25:10:12Z", "99999-06-07T12:10:12Z"])
def test_marker__of_a_time_that_is_none(time: str) -> None:
    """A marker with an impossible time is a 400, not a failure."""
    marker = base64.b64encode(f"{time}|v1".encode()).decode()
    with pytest.raises(Refusal):
        read_tags_question(MultiDict(last=marker))


@given(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True),
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_marker__comes_back_as_it_was(tag: str, at: datetime) -> None:
    """A marker names its row, to the microsecond, whatever the tag; and passes its own check."""
    place = Place(name=tag, published_at=at)
    assert read_marker(make_marker(tag, at)) == place
    assert read_tags_question(MultiDict(last=make_marker(tag, at))).after == place
    assert read_tags_question(MultiDict(before=tag)).before == read_marker(tag)


def test_link__as_the_fork_writes_it() -> None:
    """The contract's own example, to the letter (1.5)."""
    path = "/gitlab/v1/repositories/foo/bar/tags/list/"
    header = link_header(
        path, [("previous", {"n": "4", "before": "jyi7b"}), ("next", {"n": "4", "last": "kb0j5"})]
    )
    assert header == (
        '</gitlab/v1/repositories/foo/bar/tags/list/?before=jyi7b&n=4>; rel="previous", '
        '</gitlab/v1/repositories/foo/bar/tags/list/?last=kb0j5&n=4>; rel="next"'
    )
    assert link_header(path, [("previous", None), ("next", None)]) is None


def test_link__escapes_what_gitlab_would_misread() -> None:
    """Equals signs, plus signs, slashes and commas are escaped; keys stand in order."""
    header = link_header(
        "/p/", [("next", {"sort": "-published_at", "n": "2", "last": "a+b/c==,", "name": "x"})]
    )
    assert header == '</p/?last=a%2Bb%2Fc%3D%3D%2C&n=2&name=x&sort=-published_at>; rel="next"'


@given(
    st.integers(1, 255),
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9._-]{0,128}", fullmatch=True),
)
def test_link__never_too_long_for_gitlab(length: int, tag: str, name: str) -> None:
    """An address has at most 500 characters and no comma, and its parameters say where to go on (1.5)."""
    marker = make_marker(tag, AT)
    parameters = {"n": "1000", "name": name, "sort": "-published_at", "last": marker}
    header = link_header(f"/gitlab/v1/repositories/{'a' * length}/tags/list/", [("next", parameters)])
    assert header is not None
    assert "," not in header
    address = header.partition(">")[0].removeprefix("<")
    assert 1 <= len(address) <= 500
    assert parse_qs(address.partition("?")[2], keep_blank_values=True)["last"] == [marker]


FACETS = {
    1: FacetRow(OCI_MANIFEST, "", "image", ("linux/amd64",)),
    2: FacetRow(OCI_INDEX, "", "index", ("linux/amd64", "linux/arm64")),
    3: FacetRow("", "", "unknown", ()),
    4: FacetRow(OCI_MANIFEST, "", "image", ("linux/arm/v7",)),
    5: FacetRow(OCI_MANIFEST, "", "attestation", ()),
}


def row(**changed: Any) -> Any:
    return {
        "name": "v1",
        "digest": digest_to_bytes(digest("one")),
        "facet_id": 1,
        "size_bytes": 1500,
        "published_at": AT,
        "alive_since": AT,
        "config_digest": digest_to_bytes(digest("config")),
        "config_media_type": "application/vnd.oci.image.config.v1+json",
        **changed,
    }


def test_tag__of_an_image() -> None:
    """All fields of an image's tag; times have three digits, cut off (1.1, 1.5)."""
    assert serialize.tag(row(), FACETS, {}) == {
        "name": "v1",
        "digest": digest("one"),
        "config_digest": digest("config"),
        "media_type": OCI_MANIFEST,
        "size_bytes": 1500,
        "created_at": "2022-06-07T12:10:12.412Z",
        "published_at": "2022-06-07T12:10:12.412Z",
    }


def test_tag__of_an_index() -> None:
    """An index has no config and size 0 (1.5)."""
    shown = serialize.tag(row(facet_id=2), FACETS, {})
    assert (shown["size_bytes"], "config_digest" in shown) == (0, False)


def test_tag__of_a_manifest_nobody_knows() -> None:
    """Neither digest nor size is ever null, or GitLab asks the registry once per tag (1.5)."""
    shown = serialize.tag(row(digest=None, config_digest=None, facet_id=3, size_bytes=0), FACETS, {})
    assert (shown["digest"], shown["size_bytes"], shown["media_type"]) == ("", 0, "")
    assert "config_digest" not in shown


def test_tag__with_referrers() -> None:
    """Referrers are shown where there are any, in camel case (1.5)."""
    found = {digest_to_bytes(digest("one")): [ReferrerOfTag(digest("sbom"), "application/spdx+json")]}
    shown = serialize.tag(row(), FACETS, found)
    assert shown["referrers"] == [{"artifactType": "application/spdx+json", "digest": digest("sbom")}]
    assert "referrers" not in serialize.tag(row(), FACETS, {})


@pytest.mark.parametrize(
    ("since", "created", "updated"),
    [
        (None, AT, None),
        (AT, AT, None),
        (AT + timedelta(days=1), AT, None),  # first seen later than what the image says of itself
        (AT - timedelta(days=1), AT - timedelta(days=1), AT),
    ],
)
def test_tag_times__updated_only_where_it_moved(
    since: datetime | None, created: datetime, updated: datetime | None
) -> None:
    """``updated_at`` is there only for a tag that moved; ``published_at`` is the later of the two (1.5)."""
    shown = serialize.tag_times(row(alive_since=since))
    assert shown["created_at"] == serialize.timestamp(created)
    assert shown.get("updated_at") == (None if updated is None else serialize.timestamp(updated))
    assert (
        shown["published_at"]
        == serialize.timestamp(AT)
        == max(shown["created_at"], shown.get("updated_at", ""))
    )


def test_repository__with_and_without_a_publish_time() -> None:
    """Name, path and times; what was never published has no time of it (1.4)."""
    found = RepositoryRow(id=1, name="a/b", created_at=AT, last_published_at=AT)
    assert serialize.repository(found) == {
        "name": "b",
        "path": "a/b",
        "created_at": "2022-06-07T12:10:12.412Z",
        "last_published_at": "2022-06-07T12:10:12.412Z",
    }
    never = datetime.min  # noqa: DTZ901 - what the driver reads '-infinity' as
    empty = RepositoryRow(id=1, name="a", created_at=AT, last_published_at=never)
    assert "last_published_at" not in serialize.repository(empty)
    assert serialize.base_path("a/b") == {"name": "b", "path": "a/b", "created_at": ""}
    assert serialize.size(5, estimated=False) == {"size_bytes": 5, "size_precision": "default"}
    assert serialize.size(5, estimated=True) == {"size_bytes": 5, "size_precision": "untagged"}


def test_detail__of_an_index_of_indexes() -> None:
    """References are images in turn; an index has size 0 and no config, a platform is the image's own (1.6)."""
    child = {"platform": "linux/amd64", "parent_id": 10, "child_id": 11}
    rows = [
        row(**child, digest=digest_to_bytes(digest("amd"))),
        row(
            platform="linux/arm/v7",
            parent_id=10,
            child_id=12,
            facet_id=4,
            digest=digest_to_bytes(digest("arm")),
        ),
        row(platform="", parent_id=10, child_id=13, facet_id=5, digest=digest_to_bytes(digest("att"))),
        row(platform="", parent_id=10, child_id=14, facet_id=2, digest=digest_to_bytes(digest("inner"))),
        row(
            platform="windows/amd64", parent_id=14, child_id=15, facet_id=3, config_digest=None, size_bytes=0
        ),
    ]
    found = serialize.Detail(
        repository="a/b", row=row(manifest_id=10, facet_id=2), descendants=rows, facets=FACETS
    )
    shown = serialize.detail(found)
    assert (shown["repository"], shown["name"], shown["published_at"]) == (
        "a/b",
        "v1",
        "2022-06-07T12:10:12.412Z",
    )
    image = shown["image"]
    assert (image["size_bytes"], image["manifest"]["media_type"], "config" in image) == (0, OCI_INDEX, False)
    amd, arm, attestation, inner = image["manifest"]["references"]
    assert amd["config"] == {
        "digest": digest("config"),
        "media_type": "application/vnd.oci.image.config.v1+json",
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    assert amd["manifest"] == {"digest": digest("amd"), "media_type": OCI_MANIFEST}
    assert arm["config"]["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert "platform" not in attestation["config"]
    (unread,) = inner["manifest"]["references"]
    assert (inner["size_bytes"], unread["size_bytes"], "config" in unread) == (0, 0, False)


def test_detail__of_a_plain_image_has_no_references() -> None:
    """Only indexes have references (1.6)."""
    found = serialize.Detail(repository="a", row=row(manifest_id=1), descendants=(), facets=FACETS)
    image = serialize.detail(found)["image"]
    assert (image["size_bytes"], "references" in image["manifest"]) == (1500, False)
    assert image["config"]["platform"] == {"architecture": "amd64", "os": "linux"}


@pytest.mark.parametrize("stated", ["a/b/c/d", "/", "linux", "a//b"])
def test_detail__a_platform_that_is_none(stated: str) -> None:
    """A platform that cannot be read is left out, whoever wrote it."""
    child = row(platform=stated, parent_id=1, child_id=2, facet_id=5)
    found = serialize.Detail(
        repository="a", row=row(manifest_id=1, facet_id=2), descendants=[child], facets=FACETS
    )
    (reference,) = serialize.detail(found)["image"]["manifest"]["references"]
    assert "platform" not in reference["config"]


@pytest.mark.parametrize(
    ("named", "method", "size", "scope"),
    [
        (GitlabPath(GitlabEndpoint.PROBE), "GET", None, []),
        (GitlabPath(GitlabEndpoint.STATISTICS), "GET", None, ["registry:statistics:*"]),
        (GitlabPath(GitlabEndpoint.REPOSITORY, "a/b"), "GET", None, ["repository:a/b:pull"]),
        (GitlabPath(GitlabEndpoint.REPOSITORY, "a/b"), "GET", "self", ["repository:a/b:pull"]),
        (GitlabPath(GitlabEndpoint.REPOSITORY, "a/b"), "GET", "self_with_descendants",
         ["repository:a/b:pull", "repository:a/b/*:pull"]),
        (GitlabPath(GitlabEndpoint.REPOSITORY, "a/b"), "PATCH", None,
         ["repository:a/b:pull", "repository:a/b:push", "repository:a/b/*:pull"]),
        (GitlabPath(GitlabEndpoint.TAGS, "a/b"), "GET", None, ["repository:a/b:pull"]),
        (GitlabPath(GitlabEndpoint.TAG, "a/b", "v1"), "GET", None, ["repository:a/b:pull"]),
        (GitlabPath(GitlabEndpoint.SUB_REPOSITORIES, "a/b"), "GET", None,
         ["repository:a/b:pull", "repository:a/b/*:pull"]),
    ],
)  # fmt: skip
def test_access__of_every_call(named: GitlabPath, method: str, size: str | None, scope: list[str]) -> None:
    """What each call takes (1.2)."""
    access = access_of(named, method=method, size=size)
    assert [f"{each.type}:{each.name}:{each.action}" for each in access] == scope
