"""Platforms (OCI image spec 1.1, "image-index.md", platform; "config.md").

Text form ``os/arch[/variant]``, as clients write it: ``linux/arm/v7``. Two normalisations of containerd are applied,
because every client applies them and they lose nothing: letter case, and ``arm64`` with variant ``v8``, which is the
same as ``arm64``. Everything else (``armhf``, ``x86_64``, a missing arm variant) is kept as the image has it: a guess
would show a platform that its author never wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

_UNKNOWN = "unknown"
_MAX_PARTS = 3


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system and processor; ``variant`` and ``os_version`` are "" where not given."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""

    @property
    def text(self) -> str:
        """``os/arch`` or ``os/arch/variant``; ``os_version`` is not part of it."""
        base = f"{self.os}/{self.architecture}"
        return f"{base}/{self.variant}" if self.variant else base

    @property
    def longest(self) -> int:
        """Characters of the longest of its texts that are stored."""
        return max(len(self.text), len(self.os_version))

    @property
    def is_unknown(self) -> bool:
        """``unknown/unknown``: buildkit's mark for a child that is no image, such as an attestation."""
        return self.os == _UNKNOWN and self.architecture == _UNKNOWN


def make_platform(*, os: str, architecture: str, variant: str = "", os_version: str = "") -> Platform | None:
    """Return the normalised platform, or None where the image names neither system nor processor.

    One of the two alone is a platform with the other ``unknown``.
    """
    os, architecture, variant = os.lower(), architecture.lower(), variant.lower()
    if not os and not architecture:
        return None
    if architecture == "arm64" and variant in {"8", "v8"}:
        variant = ""
    return Platform(os or _UNKNOWN, architecture or _UNKNOWN, variant, os_version)


def parse_platform(text: str) -> Platform:
    """Parse ``os/arch[/variant]``; raise ``ValueError`` for anything else."""
    parts = text.split("/")
    if not 1 < len(parts) <= _MAX_PARTS or not all(parts):
        raise ValueError(f"not a platform (os/arch[/variant]): {text[:80]!r}")
    platform = make_platform(os=parts[0], architecture=parts[1], variant="".join(parts[2:]))
    if platform is None:  # pragma: no cover - both parts are non-empty here
        raise ValueError(f"not a platform (os/arch[/variant]): {text[:80]!r}")
    return platform
