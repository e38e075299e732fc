"""Builds what is published and tries it as a stranger would: ``python3 dev.py release``.

``contents``: what must be in the archives. ``installed``: a fresh environment and what runs in it. ``sbom``: the bill
of materials. ``__main__`` puts them in order (docs/adr/0070-what-a-release-is.md).
"""

from __future__ import annotations


class ReleaseError(Exception):
    """What would be published is not fit to be; the message says why."""
