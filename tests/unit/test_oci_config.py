"""Image configs, created times and platforms."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.common.rfc3339 import EARLIEST, LATEST
from indexer.oci.config import (
    CREATED_ANNOTATION,
    ImageConfig,
    parse_created,
    parse_image_config,
    pick_created,
)
from indexer.oci.platform import Platform, make_platform, parse_platform


def config(**fields: Any) -> ImageConfig:
    """Parse a config with these fields."""
    return parse_image_config(json.dumps(fields).encode())


def test_parse_image_config__reads_everything() -> None:
    """Created, platform and labels of an ordinary image."""
    parsed = config(
        created="2024-05-06T07:08:09.123456789Z",
        os="linux",
        architecture="arm",
        variant="v7",
        config={"Labels": {"a": "b"}},
    )

    assert parsed == ImageConfig(
        datetime(2024, 5, 6, 7, 8, 9, 123456, UTC), Platform("linux", "arm", "v7"), {"a": "b"}
    )


@pytest.mark.parametrize(
    ("fields", "unread"),
    [
        ({}, []),
        ({"config": None}, []),
        ({"os": "", "architecture": ""}, []),
        ({"created": ""}, []),
        ({"created": "0001-01-01T00:00:00Z"}, []),
        ({"created": 5, "os": [], "config": []}, ["created", "platform", "labels"]),
        ({"created": "yesterday"}, ["created"]),
        ({"created": "9999-12-31T23:59:59-05:00"}, ["created"]),
        ({"config": {"Labels": [1]}}, ["labels"]),
    ],
)
def test_parse_image_config__wrong_parts_are_absent_and_named(
    fields: dict[str, Any], unread: list[str]
) -> None:
    """A registry does not check configs, so a part that is wrong takes nothing else with it."""
    parsed = config(**fields)

    assert (None, None, {}) == (parsed.created, parsed.platform, parsed.labels)
    assert unread == [each.part for each in parsed.unread]


def test_parse_image_config__labels_that_are_no_text_are_left_out() -> None:
    """One odd label does not take the others with it; null is an empty one, as in Go."""
    parsed = config(config={"Labels": {"a": 1, "b": "c", "d": None}})

    assert {"b": "c", "d": ""} == parsed.labels
    assert ["labels"] == [each.part for each in parsed.unread]


def test_parse_image_config__letter_case_of_names_does_not_matter() -> None:
    """As in Go; labels keep theirs."""
    parsed = config(
        Created="2024-05-06T07:08:09Z", OS="linux", ARCHITECTURE="amd64", Config={"labels": {"A": "b"}}
    )

    assert parsed == ImageConfig(
        datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC), Platform("linux", "amd64"), {"A": "b"}
    )


def test_parse_image_config__not_an_object() -> None:
    """Bytes that are no JSON object are refused."""
    with pytest.raises(ValueError, match="expected an object"):
        parse_image_config(b"[]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06t07:08:09z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06T07:08:09.1+05:30", datetime(2024, 5, 6, 1, 38, 9, 100000, UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:01Z", datetime(1, 1, 1, 0, 0, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", LATEST),
        ("9999-12-31T23:59:59.999999999Z", LATEST),
        ("0001-01-01T00:00:00.000001Z", EARLIEST),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+05:00", None),
        ("9999-12-31T23:59:59-05:00", None),
        ("0000-01-01T00:00:00Z", None),
        ("2024-05-06T07:08:09", None),
        ("2024-05-06", None),
        ("2024-W19", None),
        ("2024-02-30T00:00:00Z", None),
        ("\u0662024-05-06T07:08:09Z", None),
        ("2024-05-06T07:08:09Z\n", None),
        ("", None),
        (1714979289, None),
        (None, None),
    ],
)
def test_parse_created__table(text: Any, expected: datetime | None) -> None:
    """RFC 3339 in UTC or nothing; Go's zero time means not set."""
    assert parse_created(text) == expected


@given(st.text(max_size=40))
def test_parse_created__never_raises(text: str) -> None:
    """Any text is a time or nothing."""
    created = parse_created(text)

    assert created is None or created.tzinfo is UTC


def test_pick_created__config_before_annotation() -> None:
    """The config's time wins; the annotation stands in where there is none."""
    early, late = "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"
    annotations = {CREATED_ANNOTATION: late}

    assert pick_created(ImageConfig(created=parse_created(early)), annotations) == parse_created(early)
    assert pick_created(ImageConfig(), annotations) == parse_created(late)
    assert pick_created(None, annotations) == parse_created(late)
    assert pick_created(None, {}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("Linux/ARM/V7", Platform("linux", "arm", "v7")),
        ("linux/arm64/v8", Platform("linux", "arm64")),
        ("linux/arm64/v9", Platform("linux", "arm64", "v9")),
        ("unknown/unknown", Platform("unknown", "unknown")),
    ],
)
def test_parse_platform__table(text: str, expected: Platform) -> None:
    """Platforms are normalised where every client does so and kept otherwise."""
    assert parse_platform(text) == expected


@pytest.mark.parametrize("text", ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/arm/"])
def test_parse_platform__refuses(text: str) -> None:
    """Anything but os/arch[/variant] is refused."""
    with pytest.raises(ValueError, match="not a platform"):
        parse_platform(text)


def test_platform__text_and_unknown() -> None:
    """The text form leaves out os_version; buildkit's attestation children are unknown."""
    assert Platform("windows", "amd64", os_version="10.0.1").text == "windows/amd64"
    assert Platform("linux", "arm", "v6").text == "linux/arm/v6"
    assert Platform("unknown", "unknown").is_unknown
    assert not Platform("linux", "unknown").is_unknown


def test_make_platform__half_a_platform() -> None:
    """One of system and processor alone leaves the other unknown; neither is no platform."""
    assert make_platform(os="linux", architecture="") == Platform("linux", "unknown")
    assert make_platform(os="", architecture="", variant="v7") is None
