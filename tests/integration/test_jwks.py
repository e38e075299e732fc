"""``indexer jwks``: the key set by which Distribution 3.x takes GitLab's tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fixtures.tokens import certificate, ec_key, kid, rsa_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fixtures.installation import Installation


def test_jwks__names_each_key_in_both_ways(bare_installation: Installation, tmp_path: Path) -> None:
    """Every key is there by GitLab's name and by its thumbprint, and nothing of it is private."""
    file = tmp_path / "bundle.pem"
    file.write_bytes(certificate(rsa_key()) + certificate(ec_key()))
    done = bare_installation.run("indexer", "jwks", str(file))
    assert done.exit_code == 0, done.error
    keys = done.json["keys"]
    expected = [name for key in (rsa_key(), ec_key()) for name in (kid(key), key.thumbprint())]
    assert expected == [key["kid"] for key in keys]
    assert not {"d", "p", "q"} & {member for key in keys for member in key}


def test_jwks__refuses_a_private_key(bare_installation: Installation, tmp_path: Path) -> None:
    """A file with a private key is refused in one line, and nothing of it is printed."""
    file = tmp_path / "key.pem"
    file.write_bytes(rsa_key().as_pem(private=True))
    done = bare_installation.run("indexer", "jwks", str(file))
    assert (done.exit_code, json.dumps(done.output)) == (64, '""')
    assert "private key" in done.error
