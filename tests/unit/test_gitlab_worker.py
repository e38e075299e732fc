"""GitLab's deletion of a repository, as the acceptance tests run it, notices a list that lags behind."""

from __future__ import annotations

from http import HTTPStatus

import httpx
import pytest

from tests.fixtures.gitlab_worker import GitLabWorker

APP = "team/app"


class Registry:
    """A registry that deletes by name or not at all, and whose list lags behind by some deletions."""

    def __init__(self, *, api: bool, behind: int, page: int = 3) -> None:
        self.tags = [f"v{number}" for number in range(8)]
        self.listed = list(self.tags)
        self.api, self.behind, self.page = api, behind, page
        self.waiting: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.startswith("/gitlab/"):
            return self.gitlab(request)
        if request.method == "OPTIONS":
            return httpx.Response(HTTPStatus.OK, headers={"Allow": "GET, DELETE"})
        if request.method == "DELETE":
            tag = path.rsplit("/", 1)[1]
            self.tags.remove(tag)
            self.waiting.append(tag)
            if len(self.waiting) > self.behind:
                self.listed.remove(self.waiting.pop(0))
            return httpx.Response(HTTPStatus.ACCEPTED)
        if path.endswith("/tags/list"):
            return httpx.Response(HTTPStatus.OK, json={"name": APP, "tags": self.listed})
        if "/blobs/" in path:
            return httpx.Response(HTTPStatus.OK, json={"created": "2026-01-01T00:00:00Z"})
        return httpx.Response(HTTPStatus.OK, json={"config": {"digest": "sha256:0"}})

    def gitlab(self, request: httpx.Request) -> httpx.Response:
        if not self.api:
            return httpx.Response(HTTPStatus.NOT_FOUND)
        if request.url.path == "/gitlab/v1/":
            return httpx.Response(HTTPStatus.OK, json={})
        last = request.url.params.get("last", "")
        rows = [tag for tag in self.listed if tag > last]
        listed = [{"name": tag, "created_at": "2026-01-01T00:00:00.000Z"} for tag in rows[: self.page]]
        more = (
            f'<{request.url.path}?n=1000&last={listed[-1]["name"]}>; rel="next"' if rows[self.page :] else ""
        )
        return httpx.Response(HTTPStatus.OK, json=listed, headers={"Link": more} if more else {})


@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize("behind", [0, 1, 5])
def test_worker__finds_a_stale_list(behind: int, api: bool) -> None:
    """The tags are gone, but the run counts as failed as long as the list shows one."""
    registry = Registry(api=api, behind=behind)
    with httpx.Client(base_url="http://registry", transport=httpx.MockTransport(registry)) as client:
        worker = GitLabWorker(client, APP, "token")
        assert behind == worker.delete_repository()
        assert api is not any("/blobs/" in path for _, path in worker.requests)
    assert registry.tags == []
