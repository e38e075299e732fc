"""The statistics (contract section 1.9) and the probe (section 1.3). Neither uses the database."""

from __future__ import annotations

from indexer import __version__
from indexer.api.gitlab.calls import GitlabAnswer, GitlabCall

VERSION = f"{__version__}-registry-indexer"

_STATISTICS = {
    # No `tag_delete`, which promises deletion by tag: Distribution 2.8 cannot do it.
    "release": {"ext_features": "", "version": f"v{VERSION}"},
    "database": {"enabled": True},
}


async def probe(_call: GitlabCall) -> GitlabAnswer:
    """Answer the probe, by which GitLab finds that this API exists."""
    return GitlabAnswer(body={})


async def get_statistics(_call: GitlabCall) -> GitlabAnswer:
    """Return version and features."""
    return GitlabAnswer(body=_STATISTICS)
