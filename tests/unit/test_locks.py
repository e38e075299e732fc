"""The locks: what is installed from them is exactly what was reviewed, from whatever index a machine uses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements.dev.lock")
PIN = re.compile(r"^([a-z0-9.-]+)==(\S+)", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall(read(name)))


def normal(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return re.sub(r"[-_.]+", "-", found[0]).lower()


@pytest.mark.parametrize("name", LOCKS)
def test_lock__holds_no_address(name: str) -> None:
    """No lock says where packages come from; that is up to the machine that installs them."""
    assert "://" not in read(name)
    assert not re.search(
        r"^\s*--?(i|f|index-url|extra-index-url|find-links|trusted-host)\b", read(name), re.MULTILINE
    )


@pytest.mark.parametrize("name", LOCKS)
def test_lock__pins_and_hashes_everything(name: str) -> None:
    """Every requirement has one version and at least one hash."""
    entries = re.split(r"^(?=\S)", read(name), flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


def test_lock__has_every_dependency() -> None:
    """Whatever pyproject.toml asks for is locked: for running in the one, for developing in the other."""
    project = tomllib.loads(read("pyproject.toml"))
    needed = {normal(each) for each in project["project"]["dependencies"]}
    wanted = {normal(each) for each in project["dependency-groups"]["dev"]}
    wanted |= {
        normal(each) for extra in project["project"]["optional-dependencies"].values() for each in extra
    }
    assert needed - set(pins("requirements.lock")) == set()
    assert wanted - set(pins("requirements.dev.lock")) == set()


def test_dev_lock__is_the_other_and_more() -> None:
    """Developers test with the very versions that are shipped."""
    assert pins("requirements.lock").items() <= pins("requirements.dev.lock").items()
