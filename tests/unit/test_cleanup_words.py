"""What holds are on, and what sources report, as texts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from indexer.cleanup.holding import parse_target, parse_until
from indexer.cleanup.reporting import parse_image

D = "sha256:" + "a" * 64
NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("team/app", ("team/app", None, None)),
        ("team/app:v1", ("team/app", "v1", None)),
        (f"team/app@{D}", ("team/app", None, D)),
        (D, (None, None, D)),
    ],
)
def test_target__of_a_hold(text: str, expected: tuple[str | None, ...]) -> None:
    """A repository, a tag, a digest in a repository, a digest anywhere."""
    assert expected == parse_target(text)


@pytest.mark.parametrize(
    "text", ["", "Team/App", "team/app:", "team/app@sha256:1", ":v1", "sha256:12", "a b", "team/app:a b"]
)
def test_target__that_is_none(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


def test_until__is_to_come() -> None:
    """A duration from now, or a time; nothing that is over."""
    assert NOW + timedelta(days=14) == parse_until("14d", now=NOW)
    assert NOW + timedelta(days=1) == parse_until("2026-11-30T00:00:00Z", now=NOW)
    for text in ("2026-11-29T00:00:00Z", "0s", "soon", "2026-13-01T00:00:00Z"):
        with pytest.raises(ValueError, match="until"):
            parse_until(text, now=NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (D, {("", D)}),
        ("team/app:v1", {("team/app", "v1")}),
        ("team/app", {("team/app", "latest")}),
        (f"team/app@{D}", {("team/app", D)}),
        (f"team/app:v1@{D}", {("team/app", "v1"), ("team/app", D)}),
        ("registry.example:5000/team/app:v1", {("team/app", "v1")}),
        (f"registry.example/team/app@{D}", {("team/app", D), ("registry.example/team/app", D)}),
        ("localhost/app:v1", {("app", "v1"), ("localhost/app", "v1")}),
        ("docker.io/library/nginx:1", {("library/nginx", "1"), ("docker.io/library/nginx", "1")}),
    ],
)
def test_image__as_clusters_name_it(text: str, expected: set[tuple[str, str]]) -> None:
    """With and without the registry's host; without a tag it is latest."""
    assert expected == set(parse_image(text))


@pytest.mark.parametrize(
    "text", ["", "a b", "UPPER/x:1", "sha256:1", "team/app@sha256:1", "team/app:!", ":1"]
)
def test_image__that_is_none(text: str) -> None:
    """What names no image is refused: a source that reports it may mean something that would not be protected."""
    with pytest.raises(ValueError, match=r"."):
        parse_image(text)
