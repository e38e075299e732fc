"""What is behind this API (contract section 1.9), and the probe (section 1.3). Neither asks the database."""

from __future__ import annotations

from indexer import __version__
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall

VERSION = f"{__version__}-registry-indexer"

_STATISTICS = {
    # `tag_delete` stands for deleting by tag in every version of the registry; Distribution 2.8 cannot.
    "release": {"ext_features": "", "version": f"v{VERSION}"},
    "database": {"enabled": True},
}


async def probe(_call: GitlabCall) -> GitlabAnswer:
    """Say that this API is here."""
    return GitlabAnswer(body={})


async def get_statistics(_call: GitlabCall) -> GitlabAnswer:
    """Say what is behind it."""
    return GitlabAnswer(body=_STATISTICS)
