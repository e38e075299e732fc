"""The words by which a command names what it wants of the log."""

from __future__ import annotations

import pytest

from indexer.commands.common import actions_of
from indexer.common.errors import ConfigurationError
from indexer.inventory.changes import AuditAction


def test_action__is_one_of_the_logs() -> None:
    """Every action can be asked for, and none need be."""
    assert tuple(AuditAction) == actions_of(",".join(AuditAction))
    assert actions_of(None) == ()


def test_action__that_is_none_is_said_to_be() -> None:
    """A mistyped action is an error that names those there are, not an empty export."""
    with pytest.raises(ConfigurationError, match=r"--action tag\.eaten: .* tag\.created, "):
        actions_of("tag.moved,tag.eaten")
