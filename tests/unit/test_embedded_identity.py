"""Which user root's embedded PostgreSQL runs as: one of its own, else none but root, and nobody last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from indexer.common.errors import ConfigurationError
from indexer.local import identity
from indexer.local.binaries import Binaries
from indexer.local.identity import Identity, Strategy, choose_identity, nobody_identity, shared_account

OWN = Identity(Strategy.USER, 991, 991)
NAMESPACE = Identity(Strategy.NAMESPACE, 0, 0)
BINARIES = Binaries(postgres=Path("/nowhere/postgres"), initdb=Path("/nowhere/initdb"), major=18)


@pytest.mark.parametrize(
    ("own", "reachable", "namespaces", "expected"),
    [
        pytest.param(OWN, True, True, OWN, id="a user of its own"),
        pytest.param(OWN, False, True, NAMESPACE, id="who cannot reach the data"),
        pytest.param(None, True, True, NAMESPACE, id="no such user"),
        pytest.param(None, True, False, nobody_identity(), id="no namespaces either"),
        pytest.param(None, False, False, None, id="nothing works"),
    ],
)
def test_identity__of_roots_new_cluster(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    own: Identity | None,
    reachable: bool,
    namespaces: bool,
    expected: Identity | None,
) -> None:
    """An account that other programs have is taken only where nothing else works, and that is said."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(identity, "own_identity", lambda: own)
    monkeypatch.setattr(identity, "reaches", lambda *_: reachable)
    monkeypatch.setattr(identity, "can_run", lambda *_: namespaces)
    if expected is None:
        with pytest.raises(ConfigurationError, match="neither way around"):
            choose_identity(BINARIES, tmp_path, tmp_path / "postgres")
        return
    found = choose_identity(BINARIES, tmp_path, tmp_path / "postgres")
    assert expected == found
    assert (expected == nobody_identity()) == (shared_account(found) is not None)
