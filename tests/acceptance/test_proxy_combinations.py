"""Every combination of the optional files of deploy/nginx and deploy/caddy, and each effect that it has or has not."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import combinations, count
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from tests.fixtures.guarded import APP, Site, refused, start_server, token
from tests.fixtures.proxies import PROXIES, failing, proxied
from tests.fixtures.requests import REQUESTS
from tools.sample_images import Image, Pusher, artifact, oci_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

pytestmark = pytest.mark.full

OPTIONAL = ("tags-list", "distribution-2.8", "deny-tags")
COMBINATIONS = [frozenset(each) for size in range(len(OPTIONAL) + 1) for each in combinations(OPTIONAL, size)]
ATTEMPTS = 5
"""A notice of a write that was refused is kept for a second: less than a busy machine may need to ask."""
LIST = f"/v2/{APP}/tags/list"
RESTRICTED: dict[str, Any] = {"push": ["^v"], "delete": ["^v"]}
"""What GitLab writes into the token of somebody who may neither push nor delete tags that begin with v."""


@dataclass
class Case:
    """A proxy with some of the optional files. ``kept`` has the tag v1, ``subject`` of ``attached``."""

    site: Site
    optional: frozenset[str]
    kept: Image
    attached: Image
    numbers: Iterator[int]

    def get(self, path: str) -> httpx.Response:
        return self.site.once("GET", path)

    def same_as_alone(self, path: str) -> bool:
        """Whether the registry's own answer came through."""
        plain = REQUESTS.get(
            f"{self.site.registry.url}{path}", headers={"Authorization": f"Bearer {token()}"}, timeout=60
        )
        through = self.get(path)
        assert not by_us(through), path
        return (plain.status_code, plain.content) == (through.status_code, through.content)

    def lists(self, *, there: bool) -> None:
        """Who answers tags/list; the content is the same."""
        site = self.site
        if there and "tags-list" in self.optional:
            site.installation.until(lambda: by_us(self.get(LIST)), "the indexer to answer")
            assert self.get(LIST).json() == {"name": APP, "tags": sorted(site.tags())}
        else:
            assert self.same_as_alone(LIST)
        referrers = f"/v2/{APP}/referrers/{self.kept.digest}"
        if there:
            site.installation.until(lambda: by_us(self.get(referrers)), "the indexer to answer")
            listed = self.get(referrers).json()["manifests"]
            assert [self.attached.digest] == [each["digest"] for each in listed]
        else:
            assert self.same_as_alone(referrers)
            assert self.get(referrers).status_code == 404

    def methods(self) -> None:
        """What GitLab is answered when it asks whether a tag can be deleted by its name; and images are read."""
        answer = self.site.once("OPTIONS", f"/v2/{APP}/manifests/v1")
        if "distribution-2.8" in self.optional:
            assert answer.status_code == 404
        else:
            assert (answer.status_code, "DELETE" in answer.headers["allow"]) == (200, True)
        for reference in ("v1", self.kept.digest):
            for method in ("GET", "HEAD"):
                read = self.site.once(method, f"/v2/{APP}/manifests/{reference}")
                assert (read.status_code, read.headers["docker-content-digest"]) == (200, self.kept.digest)
        for path in ("/notifications", "/metrics", "/api/v1/status", "/healthz"):
            assert self.get(path).status_code == 404

    def gitlab(self, *, there: bool) -> None:
        """GitLab's own API: an answer of the indexer, or the probe's alone."""
        probe = self.get("/gitlab/v1/")
        assert (probe.status_code, probe.json()) == (200, {})
        page = f"/gitlab/v1/repositories/{APP}/tags/list/?n=100"
        if there:
            answer = self.site.request("GET", page)
            assert answer.status_code == 200, answer.text
            assert {row["name"] for row in answer.json()} == self.site.tags()
        else:
            for path in (page, f"/gitlab/v1/repositories/{APP}/", "/gitlab/v1/statistics/"):
                answer = self.get(path)
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True)

    def judged(self) -> None:
        """Who may not write a tag is refused, if the proxy enforces it; everything else is written."""
        site, enforced = self.site, "deny-tags" in self.optional
        other = oci_image("other")
        restricted = token(**RESTRICTED)
        answer = site.put(other, "v2", as_=restricted)
        if enforced:
            refused(answer, "protected")
            refused(site.delete(self.kept.digest, as_=restricted), "protected")
            assert {"v1"} == site.tags()
        else:
            assert answer.status_code == 201, answer.text
            assert {"v1", "v2"} == site.tags()
        assert site.put(other, "dev", as_=restricted).status_code == 201
        self.gitlab(there=True)  # what was just written is in it: the indexer had notice
        self.lists(there=True)
        assert site.delete(other.digest).status_code == 202
        assert {"v1"} == site.tags()
        self.gitlab(there=True)
        self.lists(there=True)

    def noticed(self) -> None:
        """The indexer has notice of each write before the registry has it, also of one that comes to nothing."""
        site = self.site
        for method, status, reference in (
            ("PUT", 400, "refused-{}"),
            ("DELETE", 404, "sha256:{:064}"),
        ):
            for attempt in range(ATTEMPTS):
                asked = reference.format(next(self.numbers))
                content, media_type = (b"{}", "text/plain") if method == "PUT" else (b"", "")
                path = f"/v2/{APP}/manifests/{asked}"
                answer = site.request(method, path, content=content, media_type=media_type)
                assert answer.status_code == status, answer.text
                if asked in noticed(site):
                    break
                assert attempt < ATTEMPTS - 1, method
        self.lists(there=True)

    def delivered(self) -> None:
        """Wait until the registry has delivered what it could not deliver in the outage: it keeps the order."""
        site = self.site
        with Pusher(site.registry.url, token=token()) as pusher:
            pusher.push(APP, oci_image("other"), "after")
        site.installation.until(lambda: "after" in site.installation.tags(APP), "the push after the outage")
        authorization = {"Authorization": f"Bearer {token()}"}
        url = f"{site.registry.url}/v2/{APP}/manifests/{oci_image('other').digest}"
        assert REQUESTS.delete(url, headers=authorization).status_code == 202
        site.installation.until(lambda: set(site.installation.tags(APP)) == {"v1"}, "the deletion")

    def written_in_an_outage(self, trouble: str) -> None:
        """Nothing at all if tags are enforced; otherwise everything, as if the registry stood alone."""
        site, enforced = self.site, "deny-tags" in self.optional
        other = oci_image("other")
        for method, reference, status in (("PUT", "v2", 201), ("DELETE", other.digest, 202)):
            for who in (token(), token(**RESTRICTED)) if method == "PUT" else (token(),):
                answer = site.once(
                    method,
                    f"/v2/{APP}/manifests/{reference}",
                    as_=who,
                    content=other.manifest.data if method == "PUT" else b"",
                    media_type=other.media_type if method == "PUT" else "",
                )
                if enforced:
                    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), trouble
                    assert answer.json()["errors"][0]["code"] == "UNAVAILABLE"
                else:
                    assert answer.status_code == status, (trouble, answer.text)
            if method == "PUT":
                assert site.tags() == ({"v1"} if enforced else {"v1", "v2"}), trouble
                assert self.same_as_alone(LIST)
        assert site.tags() == {"v1"}, trouble
        with Pusher(f"http://{site.address}", token=token()) as pusher:
            pusher.push_blob(APP, oci_image(f"layer {trouble} {sorted(self.optional)}").blobs[0])


def by_us(answer: httpx.Response) -> bool:
    """Whether the indexer answered: a registry does not say how its answer may be cached."""
    return bool(answer.headers.get("cache-control") == "no-store")


def noticed(site: Site) -> set[str]:
    """The tags and digests of whose writes there is notice now: of a refused one for a second at least."""

    async def references() -> set[str]:
        database = await asyncpg.connect(site.installation.database_url)
        try:
            rows = await database.fetch("SELECT reference FROM write_notice WHERE repository = $1", APP)
            return {row["reference"] for row in rows}
        finally:
            await database.close()

    return asyncio.run(references())


@contextmanager
def trouble_of(site: Site, trouble: str) -> Iterator[None]:
    """Stop the indexer, and let something else answer in its place if a status is given."""
    with failing(site.installation.address, int(trouble)) if trouble.isdigit() else nullcontext():
        yield


@pytest.mark.parametrize(
    ("name", "order"), [*((name, "as-shipped") for name in PROXIES), ("nginx", "optional-files-first")]
)
def test_combination__has_each_effect_that_it_names(
    name: str, order: str, site: Site, tmp_path: Path
) -> None:
    """Who answers a list, what OPTIONS says, what is refused, what is noticed; and all of it in an outage.

    A Caddyfile has one place for each import, so only nginx has another order.
    """
    kept, attached = oci_image("kept"), artifact("attached", subject=oci_image("kept"))
    site.upload(kept, attached, oci_image("other"))
    with Pusher(site.registry.url, token=token()) as pusher:
        pusher.push(APP, kept, "v1")
    site.installation.until(lambda: site.installation.tags(APP) == {"v1": kept.digest}, "the push")
    combinations_ = COMBINATIONS if order == "as-shipped" else COMBINATIONS[-1:]
    numbers = count()
    for number, optional in enumerate(combinations_):
        directory = tmp_path / f"proxy-{number}"
        directory.mkdir()
        with proxied(
            name,
            site.registry,
            site.installation,
            directory,
            optional=optional,
            optional_first=order == "optional-files-first",
        ) as site.address:
            case = Case(site, optional, kept, attached, numbers)
            try:
                case.lists(there=True)
                case.methods()
                case.gitlab(there=True)
                case.judged()
                case.noticed()
                site.installation.end(site.installation.server)
                for trouble in ("stopped", "500", "503", "404"):
                    with trouble_of(site, trouble):
                        case.lists(there=False)
                        case.methods()
                        if trouble != "404":
                            case.gitlab(there=False)
                        case.written_in_an_outage(trouble)
            except AssertionError as error:
                error.add_note(f"with {sorted(optional) or 'no optional file'}, {order}")
                raise
            start_server(site.installation, tmp_path / "bundle.pem")
            case.delivered()
